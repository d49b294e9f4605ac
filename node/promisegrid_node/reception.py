"""The front of the HTTP port: who may come in, how many, how fast, and for how long they may say nothing.

Promises: one address holds few places, and all strangers together no more than this process has files for;
when all are taken, the oldest of whoever holds most makes room, so that nobody is kept out by those who only
hold their places. Strangers come in at a pace that leaves the loop to members. A request is whole in time or
its connection ends, TLS included; an answer that is not taken ends it too. An address whose connections come
to nothing, again and again, is left outside for a while, which costs next to nothing.

A connection that became a link of the grid leaves: links are counted by `greeters.py` and the kernel. It does
not know what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections import Counter
from typing import Final

from aiohttp import web

from promisegrid.limits import Limits
from promisegrid_node.greeters import place

BACKLOG: Final = 1024
"""Connections the system holds while they wait to be let in."""
PACE: Final = 100.0
"""Strangers let in a second, in the long run: at some 2 ms each they take a fifth of the loop."""
BURST: Final = 64.0
"""At once, after a quiet time: a few pages being loaded."""
REFUSAL: Final = 0.05
"""What turning one away counts of letting one in."""
OFTEN, OFTEN_S = 250, 10.0
"""What one address may have of it: a quarter, lest all others wait behind whoever comes and goes at once."""
AGAIN_S: Final = 0.5
"""How long to wait when the system has no more files or memory for connections."""
ASIDE_S: Final = 60.0
"""How often what came to nothing is forgotten; who overdid it stays outside until the next time."""
LINGER_S: Final = 10.0
"""How long the rest of a request may take that was answered before its end."""
OWN_FILES: Final = 256
"""Open files that are neither links nor visitors: the store, modules, dialled peers."""
FEWEST: Final = 32
OURS: Final = ("127.0.0.1", "::1")
"""This machine's own user, or all the users of a proxy: never left outside."""

log = logging.getLogger("promisegrid")


class Visitor(web.RequestHandler):
    """One connection that speaks HTTP. `is_heard`: whoever answered a request of it says so.

    It came to nothing when we had to end it before that. One that goes by itself did no harm: browsers
    connect ahead, and do not always use what they made.
    """

    def __init__(self, reception: Reception, where: str, server: web.Server, wait_s: float) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=wait_s,
            lingering_time=min(LINGER_S, wait_s),
        )
        self._reception, self._where = reception, where
        self._late = self._loop.time() + wait_s
        self.is_heard = False

    def leave(self) -> None:
        """It is gone, or no visitor any more. Leaving twice is leaving once."""
        self._reception.leave(self)

    def blame(self) -> None:
        """It came to nothing."""
        self._reception.blame(self._where)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """See web.RequestHandler; 400 is what noise gets."""
        if status == 400:
            self.blame()
        return super().handle_error(request, status, exc, message)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""
        self.leave()
        if not self.is_heard and self._loop.time() >= self._late:
            self.blame()
        super().connection_lost(exc)


class Reception(web.BaseSite):
    """A listening socket of a runner. Most of what comes is a stranger."""

    def __init__(
        self, runner: web.AppRunner, listening: socket.socket, context: ssl.SSLContext | None, limits: Limits
    ) -> None:
        super().__init__(runner)
        self._listening, self._context, self._limits = listening, context, limits
        self._most, self._wait_s = _room(limits), limits.visitor_ms / 1000
        self._visitors: dict[Visitor, tuple[str, socket.socket]] = {}
        self._count: Counter[str] = Counter()
        self._blamed: Counter[str] = Counter()
        self._outside: frozenset[str] = frozenset()
        self._lately: Counter[str] = Counter()
        self._lately_since = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """Where it listens."""
        host, port = self._listening.getsockname()[:2]
        return f"{host}:{port}"

    def __len__(self) -> int:
        return len(self._visitors)

    async def start(self) -> None:
        """Listen from now on."""
        await super().start()
        self._listening.setblocking(False)
        self._listening.listen(BACKLOG)
        for work in (self._accept(), self._forget()):
            self._tasks.add(asyncio.create_task(work))

    async def stop(self) -> None:
        """Let nobody in any more."""
        await super().stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listening.close()

    # -- letting in ----------------------------------------------------------------------------------

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        purse, counted_at = BURST, loop.time()
        while True:
            try:
                came, address = await loop.sock_accept(self._listening)
            except OSError as error:
                log.warning("connections wait outside: %s", error.strerror)
                await asyncio.sleep(AGAIN_S)
                continue
            purse -= 1.0 if self._take(came, place(address[0])) else REFUSAL
            purse, counted_at = min(BURST, purse + PACE * (loop.time() - counted_at)), loop.time()
            await asyncio.sleep(max(0.0, -purse / PACE))  # 0: the loop's other work has its turn

    def _take(self, came: socket.socket, where: str) -> bool:
        """Let one in, or turn it away."""
        is_outside = where in self._outside or self._blamed[where] >= self._limits.visitors_blamed
        if is_outside or self._is_hasty(where) or self._count[where] >= self._limits.visitors_per_address:
            came.close()
            return False
        if len(self._visitors) >= self._most:
            self._make_room()
        server = self._runner.server
        assert server is not None
        visitor = Visitor(self, where, server, self._wait_s)
        self._visitors[visitor] = (where, came)
        self._count[where] += 1
        task = asyncio.create_task(self._receive(visitor, came))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def _is_hasty(self, where: str) -> bool:
        """Whether it took its part of the pace; if not, this is one more."""
        now = asyncio.get_running_loop().time()
        if now - self._lately_since >= OFTEN_S:
            self._lately_since = now
            self._lately.clear()
        if where not in OURS:
            self._lately[where] += 1
        return self._lately[where] > OFTEN

    async def _receive(self, visitor: Visitor, came: socket.socket) -> None:
        """From its coming to its first byte of HTTP."""
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # what is sent and never taken, by the system's own account
            came.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2 * self._limits.visitor_ms)
        loop = asyncio.get_running_loop()
        wait_s = None if self._context is None else self._wait_s
        try:
            await loop.connect_accepted_socket(
                lambda: visitor, came, ssl=self._context, ssl_handshake_timeout=wait_s
            )
        except (OSError, TimeoutError):
            visitor.leave()
            visitor.blame()

    def _make_room(self) -> None:
        busiest = self._count.most_common(1)[0][0]
        visitor, came = next((one, came) for one, (where, came) in self._visitors.items() if where == busiest)
        visitor.leave()
        if not visitor.is_heard:
            visitor.blame()
        if visitor.transport is not None:
            visitor.transport.abort()
        else:
            with contextlib.suppress(OSError):
                came.shutdown(socket.SHUT_RDWR)  # it is in the middle of its TLS handshake

    # -- what became of them -------------------------------------------------------------------------

    def leave(self, visitor: Visitor) -> None:
        """See Visitor."""
        where, _ = self._visitors.pop(visitor, ("", None))
        if where in self._count:
            self._count[where] -= 1
            if not self._count[where]:
                del self._count[where]

    def blame(self, where: str) -> None:
        """See Visitor."""
        if where not in OURS:
            self._blamed[where] += 1

    def forget(self) -> None:
        """A while is over: whoever overdid it stays outside for the next one, the others are forgiven."""
        most = self._limits.visitors_blamed
        self._outside = frozenset(where for where, times in self._blamed.items() if times >= most)
        self._blamed.clear()

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(ASIDE_S)
            self.forget()


def _room(limits: Limits) -> int:
    """Visitors this process has files for; its limit is raised as far as it may be."""
    links = 2 * limits.links + OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = links + limits.visitors
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits.visitors
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(FEWEST, min(limits.visitors, soft - links))
