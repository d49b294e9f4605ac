"""The grammar of `promisegrid cap`: promises given, passed on, kept and taken back."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from promisegrid_node.argtypes import positive, seconds, size

ABOUT: Final = """
A promise lets one holder have something done by this node: so often, so long, within a budget. The holder may
pass it on as far as the promise says, and only narrower. Who holds a promise need not be a member of anything
else: `run --on DID` presents it by itself.

  promisegrid cap grant zDnae…x7k2 --code add.wasm --func add_one --uses 3    promise three calls
  promisegrid cap ls                                                          what became of it
  promisegrid cap revoke …4hq2                                                take it back

A promise, like a peer, may be named by any beginning or ending that only one has.
"""
HOLDER: Final = "did:key:…, or the beginning or ending of a connected peer's"
PROMISE: Final = "the promise's CID, or an ending of it"

Add = Callable[..., argparse.ArgumentParser]


def add_cap(cap: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """The verbs below `cap`."""
    below = cap.add_subparsers(dest="cap_verb", required=True, metavar="VERB")

    def verb(name: str, help_text: str, epilog: str = "") -> argparse.ArgumentParser:
        return below.add_parser(
            name, help=help_text, description=help_text, epilog=epilog, parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        )  # fmt: skip

    _giving(verb)
    _telling(verb)
    _keeping(verb)


def _giving(verb: Add) -> None:
    grant = verb(
        "grant",
        "Promise somebody something.",
        "promisegrid cap grant zDnae…x7k2 --code add.wasm --func add_one --uses 3 --days 30\n"
        "promisegrid cap grant zDnae…x7k2 --code add.wasm --arg '0 <= 100' --later\n"
        "promisegrid cap grant zDnae…x7k2 --ability member --delegate 1",
    )
    grant.add_argument("holder", metavar="HOLDER", help=HOLDER)
    what = grant.add_mutually_exclusive_group(required=True)
    what.add_argument("--code", metavar="CID|FILE", help="run this program")
    what.add_argument(
        "--ability", metavar="NAME", help="an ability: run (any program), member; or a protocol's CID"
    )
    _narrowing(grant)
    grant.add_argument(
        "--later", action="store_true", help="keep each call by hand, later (`cap pending`, `cap keep`)"
    )
    delegate = verb(
        "delegate",
        "Pass a promise on, the same or narrower.",
        "promisegrid cap delegate …4hq2 zDnae…p9s1 --uses 1",
    )
    delegate.add_argument("promise", metavar="PROMISE", help=PROMISE)
    delegate.add_argument("holder", metavar="HOLDER", help=HOLDER)
    _narrowing(delegate)
    backup = verb(
        "backup",
        "Name another key of yours, to admit members when this one is lost (on the founder's node).",
        "promisegrid cap backup did:key:zDnae…",
    )
    backup.add_argument("holder", metavar="DID", help=HOLDER)
    accept = verb(
        "accept",
        "Take a promise that came by other ways than the grid.",
        "promisegrid cap accept promise.cbor",
    )
    accept.add_argument("file", metavar="FILE|-", help="what `cap grant -o FILE` wrote; - for standard input")


def _narrowing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--func", metavar="NAME", help="only this exported function")
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="RULE",
        help="only calls of which this holds: '0 <= 100' is about the first argument; repeatable",
    )
    parser.add_argument("--fuel", type=positive, metavar="N", help="at most N instructions a call")
    parser.add_argument("--memory", type=size, metavar="BYTES", help="at most so much memory a call")
    parser.add_argument("--time", type=seconds, metavar="S", help="at most so many seconds a call")
    parser.add_argument("--output", type=size, metavar="BYTES", help="at most so much output a call")
    parser.add_argument("--uses", type=positive, metavar="N", help="so many calls (default: any number)")
    parser.add_argument("--days", type=positive, metavar="N", help="how long it holds (default: 7)")
    parser.add_argument(
        "--delegate", type=positive, metavar="N", help="may be passed on N times in a row (default: not)"
    )
    parser.add_argument("-o", "--token", metavar="FILE", help="write the promise itself there, to hand over")


def _telling(verb: Add) -> None:
    listed = verb("ls", "List the promises this node gave, holds, or was shown.")
    which = listed.add_mutually_exclusive_group()
    which.add_argument("--given", action="store_true", help="only those it gave")
    which.add_argument("--held", action="store_true", help="only those it holds")
    show = verb("show", "Tell one promise: its limits, its chain, and what became of it.")
    show.add_argument("promise", metavar="PROMISE", help=PROMISE)
    verb("pending", "List the calls that wait for you to keep or break.")


def _keeping(verb: Add) -> None:
    revoke = verb("revoke", "Take a promise back, and whatever rests on it.")
    revoke.add_argument("promise", metavar="PROMISE", help=PROMISE)
    revoke.add_argument("--reason", default="", metavar="TEXT", help="why, for the holder to read")
    keep = verb("keep", "Keep a promise that was deferred: run the call that waits.")
    keep.add_argument("promise", metavar="CALL", help="the deferred call's CID, as `cap pending` lists it")
    broken = verb("break", "Break a promise that was deferred: the call that waits is not run.")
    broken.add_argument("promise", metavar="CALL", help="the deferred call's CID, as `cap pending` lists it")
    broken.add_argument("--reason", default="", metavar="TEXT", help="why, for the holder to read")
    wait = verb(
        "await",
        "Wait until a deferred promise is kept, and print the result.",
        "promisegrid cap await bafkrei… --timeout 60",
    )
    wait.add_argument("promise", metavar="CALL", help="the CID that the deferred answer printed")
    wait.add_argument(
        "--timeout", type=seconds, default=600.0, metavar="S", help="wait so long (default: 600)"
    )
