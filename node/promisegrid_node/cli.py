"""The command `promisegrid`: reads its arguments, runs one verb, ends with its exit code.

Exit codes: 0 done; 1 refused or failed; 2 wrong usage; for `run` the program's own, and 125 when the grid
failed; 130 after Ctrl-C, but 0 where that is how a verb ends (`up`, `peers --watch`). Every failure is one
sentence on stderr. `up`, and whatever needs the store itself, is loaded when asked for: all together would
treble the time every other verb takes to start.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from promisegrid.errors import LocalError, RemoteError
from promisegrid_node import (
    verbs_app,
    verbs_base,
    verbs_cap,
    verbs_car,
    verbs_content,
    verbs_grid,
    verbs_routing,
    verbs_run,
    verbs_spread,
)
from promisegrid_node.argtypes import Misuse
from promisegrid_node.arguments import parse
from promisegrid_node.home import Home
from promisegrid_node.output import Output, complain, log_to_stderr
from promisegrid_node.reach import reach
from promisegrid_node.session import Node

Act = Callable[[argparse.Namespace, Node, Output], Awaitable[int]]
VERBS: dict[str, Act] = {
    "id": verbs_grid.identity,
    "put": verbs_content.put,
    "get": verbs_content.get,
    "ls": verbs_content.ls,
    "export": verbs_car.export,
    "import": verbs_car.bring,
    "gateways": verbs_car.gateways,
    "providers": verbs_routing.providers,
    "announce": verbs_routing.announce,
    "publish": verbs_car.publish,
    "unpublish": verbs_car.unpublish,
    "pin": verbs_base.pin,
    "unpin": verbs_base.unpin,
    "pins": verbs_base.pins,
    "gc": verbs_base.gc,
    "log": verbs_base.log,
    "stat": verbs_base.stat,
    "verify": verbs_base.verify,
    "rebuild": verbs_base.rebuild,
    "run": verbs_run.run,
    "call": verbs_run.call,
    "app publish": verbs_app.publish,
    "app ls": verbs_app.listing,
    "cap grant": verbs_cap.grant,
    "cap delegate": verbs_cap.delegate,
    "cap backup": verbs_cap.backup,
    "cap accept": verbs_cap.accept,
    "cap ls": verbs_cap.listing,
    "cap show": verbs_cap.show,
    "cap pending": verbs_cap.pending,
    "cap revoke": verbs_cap.revoke,
    "cap keep": verbs_cap.keep,
    "cap break": verbs_cap.broken,
    "cap await": verbs_cap.wait,
    "peers": verbs_grid.peers,
    "invite": verbs_grid.invite,
    "admit": verbs_grid.admit,
    "members": verbs_grid.members,
    "leave": verbs_grid.leave,
    "ban": verbs_grid.ban,
    "unban": verbs_grid.unban,
    "serve": verbs_grid.serve,
    "carry": verbs_grid.carry,
    "trust": verbs_grid.trust,
    "history": verbs_grid.history,
    "running": verbs_grid.running,
    "stop": verbs_grid.stop,
    "evidence": verbs_grid.evidence,
    "receipt": verbs_grid.receipt,
    "map": verbs_spread.map_inputs,
    "topic publish": verbs_spread.topic_publish,
    "topic follow": verbs_spread.topic_follow,
    "topic leave": verbs_spread.topic_leave,
    "topic ls": verbs_spread.topic_ls,
    "topic read": verbs_spread.topic_read,
    "share": verbs_spread.share,
    "copies": verbs_spread.copies,
}
ALONE = frozenset({"gc", "rebuild"})
"""What must know of everything that is being stored: without a node it has the home to itself."""
CANCELLED = 130
MISUSED = 2


async def act(options: argparse.Namespace) -> int:
    """Carry out the parsed command."""
    if options.verb == "up":
        started: int = await importlib.import_module("promisegrid_node.up").up(options)
        return started
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    home = Home(Path(options.home))
    if options.verb == "verify" and options.mend:
        mend = importlib.import_module("promisegrid_node.mending").mend
        await asyncio.to_thread(mend, home, complain)
    async with reach(home, options.verb in ALONE) as node:
        return await VERBS[options.verb](options, node, Output(options.json))


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole command; never raises for what a user or a peer can do."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    log_to_stderr(options.log)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the loop takes it over: end without a traceback
    failed = verbs_run.GRID_FAILED if options.verb == "run" else 1
    try:
        return asyncio.run(act(options))
    except Misuse as wrong:
        complain(wrong.text)
        return MISUSED
    except (LocalError, RemoteError) as error:
        complain(error.text)
    except (KeyboardInterrupt, asyncio.CancelledError):
        complain("stopped.")
        return CANCELLED
    except BrokenPipeError:
        _forget_stdout()
    except OSError as error:
        complain(f"{error.filename or 'the system'}: {error.strerror or error}.")
    except Exception as fault:
        logging.getLogger("promisegrid").debug("fault", exc_info=True)
        complain(f"a fault in promisegrid itself ({type(fault).__name__}: {fault}); --log DEBUG shows where.")
    return failed


def _forget_stdout() -> None:
    """The reader of our output is gone; keep the interpreter from complaining about it at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
