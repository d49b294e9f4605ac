"""promisegrid up: run a node and serve the page, until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import importlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from yarl import URL

from promisegrid.errors import LocalError
from promisegrid.gateways import read_url
from promisegrid.limits import Limits
from promisegrid_node import bundle, discover, headers, multiaddr, reaching, tls, unix, wire
from promisegrid_node.announcing import Announcer
from promisegrid_node.api import About, Api
from promisegrid_node.assemble import node_limits, open_host
from promisegrid_node.door import Door
from promisegrid_node.home import Home
from promisegrid_node.host import Host
from promisegrid_node.output import complain, log_to_stderr
from promisegrid_node.qr import terminal_qr
from promisegrid_node.reception import Reception
from promisegrid_node.router import Router, is_outward
from promisegrid_node.web import Site

JOIN_WAIT_S = 15.0
SHUTDOWN_S = 3.0
GRID_NAME = "PromiseGrid"
REFUSED = frozenset({"bad_invitation", "not_member", "wrong_grid", "hello", "banned"})


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a node listens: its socket, the URL people type (with a slash at the end), TLS if any."""

    socket: socket.socket
    url: str
    is_loopback: bool
    certificate: tls.Certificate | None


def listen(
    at: tuple[str, int], home: Home, names: tuple[str, ...], cert: str | None, key: str | None
) -> Listening:
    """Take the port. LocalError when it is not this machine's, or not free."""
    host, port = at
    taken = _bind(host, port)
    number = taken.getsockname()[1]
    local = headers.is_loopback(host)
    certificate = None
    if cert or key:
        if not (cert and key):
            raise LocalError("--tls-cert and --tls-key go together.")
        certificate = tls.from_files(Path(cert), Path(key))
    elif not local:
        certificate = tls.self_signed(home.path, headers.served_names(host, names) - {"0.0.0.0", "[::]"})
    shown = host
    if host in ("0.0.0.0", "::"):
        shown = next(iter(names), None) or next(iter(headers.lan_addresses()), "127.0.0.1")
    scheme = "http" if certificate is None else "https"
    bracketed = f"[{shown}]" if ":" in shown else shown
    return Listening(taken, f"{scheme}://{bracketed}:{number}/", local, certificate)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, proto)
    except OSError as error:
        raise LocalError(f"{host!r} is not an address of this machine: {error.strerror}.") from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(128)
    except OSError as error:
        taken.close()
        reason = {
            errno.EADDRINUSE: f"Port {port} on {host} is taken by another program: stop it, or use --listen.",
            errno.EACCES: f"Port {port} needs more rights than you have: use --listen {host}:8420.",
            errno.EADDRNOTAVAIL: f"{host} is not an address of this machine: use --listen 127.0.0.1:{port}.",
        }.get(error.errno or 0, f"{host}:{port} cannot be listened on: {error.strerror}.")
        raise LocalError(reason) from error
    return taken


async def up(options: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM. LocalError for whatever keeps it from starting."""
    log_to_stderr(options.log)
    for library in ("aiohttp", "zeroconf"):
        logging.getLogger(library).setLevel(logging.ERROR)
    home = Home(Path(options.home)) if isinstance(options.home, str) else Home(options.home)
    peers = [unix.read_any(text) for text in options.peer]
    pages = bundle.load(bundle.find() if options.bundle is None else Path(options.bundle))
    home.create()
    with home.hold():
        place = listen(options.listen, home, tuple(options.host), options.tls_cert, options.tls_key)
        limits = node_limits()
        async with open_host(home, limits, options.store, options.routing_private) as host:
            await _settle(host, options, peers, place)
            async with (
                _channelling(host, options, limits),
                unix.Listener(host, unix.socket_of(home), limits).listening(),
                _announcing(host, place, options, limits) as announcer,
                _serving(host, home, pages, place, options, limits, announcer),
                _dialling(host, home, peers, limits),
                _discovering(host, home, place, options, limits),
                _choosing(host, home, place, peers, options, limits),
            ):
                stop = _stop_signal()
                await _joined(host, stop, bool(peers))
                await _announce(host, home, place, options)
                await stop.wait()
    return 0


async def _settle(
    host: Host, options: argparse.Namespace, peers: list[wire.PeerUrl], place: Listening
) -> None:
    """Belong to a grid, and keep the owner's promises of this start."""
    kernel = host.kernel
    if kernel.grid is None and not peers:
        await host.ask(kernel.owner.found(options.name or GRID_NAME))
    await host.ask(kernel.publishing.catch_up())
    for url in options.gateway:
        kernel.gateways.use(url)
    for url in options.routing:
        kernel.routing.use(url)
    kernel.open_mode = options.open or (place.is_loopback and not options.invite_only)
    if options.serve:
        cpu = options.cpu or max(1, min((os.cpu_count() or 2) - 1, 4))
        await host.ask(kernel.owner.set_serving(cpu, options.memory))


@contextlib.asynccontextmanager
async def _serving(
    host: Host,
    home: Home,
    pages: bundle.Bundle,
    place: Listening,
    options: argparse.Namespace,
    limits: Limits,
    announcer: Announcer | None,
) -> AsyncIterator[None]:
    outward = None if options.announce_as is None else read_url(options.announce_as)
    named = () if outward is None else (str(URL(outward).host),)
    names = headers.served_names(place.socket.getsockname()[0], (*options.host, *named))
    router = Router(host, limits, outward, options.routing_private)
    site = Site(host, pages, names, limits, options.metrics, router)
    runner = web.AppRunner(
        site.application(), access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S
    )
    door = Door(home.door, Api(host, About(place.url, announcer)).verbs)
    await runner.setup()
    context = None if place.certificate is None else place.certificate.context
    await Reception(runner, place.socket, context, limits).start()
    await door.open()
    try:
        yield
    finally:
        await door.close()
        await host.hang_up()
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _channelling(host: Host, options: argparse.Namespace, limits: Limits) -> AsyncIterator[None]:
    """Direct channels, where the owner wants them. LocalError says what is missing for them."""
    if not options.webrtc:
        yield
        return
    try:
        module: Any = importlib.import_module("promisegrid_node.channels")
    except ImportError as error:
        raise LocalError(f"--webrtc needs aiortc ({error}): pip install 'promisegrid[webrtc]'.") from error
    channels = module.DataChannels(host, limits)
    host.channels, host.kernel.signalling.enabled = channels, True
    try:
        yield
    finally:
        await channels.close()


@contextlib.asynccontextmanager
async def _announcing(
    host: Host, place: Listening, options: argparse.Namespace, limits: Limits
) -> AsyncIterator[Announcer | None]:
    """Tell routers what is published, where others can reach this node: not in a private network."""
    url = read_url(options.announce_as or place.url)
    host.kernel.routing.own = url
    routers = host.kernel.routing.ls()
    if not routers or not (options.routing_private or is_outward(multiaddr.of_url(url))):
        if routers:
            text = f"{url} is an address of a private network; --announce-as URL names another"
            complain(f"What is published here is not announced: {text}.")
        yield None
        return
    announcer = Announcer(host, limits, routers, url)
    task = asyncio.create_task(announcer.run())
    try:
        yield announcer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _dialling(host: Host, home: Home, peers: list[wire.PeerUrl], limits: Limits) -> AsyncIterator[None]:
    pins = tls.Pins(home.pins)
    tasks = [asyncio.create_task(unix.dialler(host, peer, pins, limits).run()) for peer in peers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _discovering(
    host: Host, home: Home, place: Listening, options: argparse.Namespace, limits: Limits
) -> AsyncIterator[None]:
    """Members on the LAN, where this node is reached from it and its owner did not say no."""
    if place.is_loopback or options.no_discover:
        yield
        return
    address, port = place.socket.getsockname()[:2]
    async with discover.on_lan(host, home.path, (address, port), URL(place.url).scheme, limits):
        yield


@contextlib.asynccontextmanager
async def _choosing(
    host: Host,
    home: Home,
    place: Listening,
    peers: list[wire.PeerUrl],
    options: argparse.Namespace,
    limits: Limits,
) -> AsyncIterator[None]:
    """Links by the distance of keys, to members of the grid anywhere, unless the owner said no."""
    if options.no_overlay:
        yield
        return
    urls = reaching.announced([options.announce_as] if options.announce_as else [])
    if not place.is_loopback and not urls:
        address, port = place.socket.getsockname()[:2]
        urls = reaching.listening(address, port, URL(place.url).scheme, options.host)
    allowed = reaching.bounds(urls, peers, place.is_loopback)
    async with reaching.choosing(host, home.path, urls, limits, allowed):
        yield


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _joined(host: Host, stop: asyncio.Event, has_peers: bool) -> None:
    """Wait a little for the grid we were invited to; say once why we are not let in."""
    if host.kernel.grid is not None or not has_peers:
        return
    heard = asyncio.Event()
    refused: list[str] = []

    def listen_for(kind: str, detail: Mapping[str, Any]) -> None:
        if kind == "peer" and detail.get("code") in REFUSED:
            refused.append(str(detail["reason"]))
        if kind == "grid" or refused:
            heard.set()

    ended = host.subscribe(listen_for)
    waits = [asyncio.create_task(heard.wait()), asyncio.create_task(stop.wait())]
    await asyncio.wait(waits, timeout=JOIN_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    ended()
    if host.kernel.grid is None and not stop.is_set():
        complain(refused[0] if refused else "Not admitted to the grid yet; still trying.")


async def _announce(host: Host, home: Home, place: Listening, options: argparse.Namespace) -> None:
    """Where to go, what to compare, how to stop."""
    kernel = host.kernel
    join, hint = await _join_url(host, place)
    if options.json:
        value = {
            "did": kernel.me,
            "grid": str(kernel.grid) if kernel.grid else None,
            "url": place.url,
            "join": join,
        }
        print(json.dumps(value), flush=True)
        return
    lines = ["", f"  open   {join}", f"  home   {home.path}"]
    if place.certificate is not None:
        lines.append(f"  SHA-256 fingerprint of the certificate  {place.certificate.fingerprint}")
    lines += [f"  {hint}"] if hint else []
    print("\n".join([*lines, "  stop   Ctrl-C", ""]), flush=True)
    if sys.stdout.isatty():
        print(terminal_qr(join), flush=True)


async def _join_url(host: Host, place: Listening) -> tuple[str, str]:
    """The URL that brings a tab in, and what to say beside it."""
    kernel = host.kernel
    if kernel.grid is None:
        return place.url, "The grid is not joined yet; this page will work once it is."
    base = place.url.rstrip("/")
    if kernel.open_mode:
        return wire.join_url(base, str(kernel.grid), None), ""
    try:
        secret = await host.ask(kernel.owner.invite(1, 7))
    except LocalError:
        return wire.join_url(base, str(kernel.grid), None), "Only the grid's founder can invite others."
    hint = "The URL invites one member, for 7 days; `promisegrid invite` makes another."
    return wire.join_url(base, str(kernel.grid), secret), hint
