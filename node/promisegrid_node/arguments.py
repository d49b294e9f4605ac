"""The grammar of the command line, with examples that teach it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from promisegrid_node.argtypes import address, positive, seconds, several, size, size_or_off, unsound
from promisegrid_node.arguments_base import AddVerb, add_base
from promisegrid_node.arguments_cap import ABOUT, add_cap
from promisegrid_node.arguments_grid import add_map, add_together
from promisegrid_node.home import default_home

LISTEN: Final = "127.0.0.1:8420"
MEMORY: Final = 512 * 1024 * 1024

EXAMPLES: Final = """
examples
  promisegrid up                                     run a node; open the printed URL in a browser
  promisegrid put photo.svg                          keep it, and print its CID
  promisegrid run tool.wasm --stdin in.txt           run a WebAssembly program
  promisegrid run bafy… --files src -o out -- -v .   by CID, on a folder, with arguments
  promisegrid call math.wasm add_one 42              call one function
  promisegrid run --on zDnae… tool.wasm              have a peer run it
  promisegrid cap grant zDnae… --code tool.wasm      promise a peer to run it
  promisegrid get bafy… -o result.png                content out by CID
  promisegrid export bafy… -o backup.car             a backup; `import` takes it in
  promisegrid pins                                   what is kept; `gc` takes away the rest

A verb talks to the node that runs on the same home; with none running it opens the store itself.
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command as options; exits with 2 and a sentence for wrong usage. `args` holds what follows `--`."""
    before, after = list(arguments), list[str]()
    if "--" in before:
        at = before.index("--")
        before, after = before[:at], before[at + 1 :]
    parser = _parser()
    options, rest = parser.parse_known_args(before)
    if rest and (options.verb not in ("call", "map") or any(_is_option(word) for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.verb == "map":  # what follows an option of its own is left over too
        options.inputs, rest = [*options.inputs, *rest], []
    if options.verb in ("app", "cap", "topic"):
        options.verb = f"{options.verb} {getattr(options, f'{options.verb}_verb')}"
    if after and options.verb not in ("run", "call", "map"):
        parser.error(f"`{options.verb}` takes no arguments after --.")
    if getattr(options, "verify", None) and options.on:
        parser.error("--verify N chooses the peers itself: leave --on out.")
    options.args = [*getattr(options, "args", []), *rest, *after]
    if (wrong := unsound(vars(options))) is not None:
        parser.error(wrong)
    return options


def _is_option(word: str) -> bool:
    """Whether it is no argument of a called function: `call CODE FUNC --on DID -5` leaves -5 over."""
    return word.startswith("-") and not word[1:2].isdigit()


def _common(again: bool = False) -> argparse.ArgumentParser:
    """What every verb takes; `again`: behind a verb, where it may have been said already."""
    common = argparse.ArgumentParser(add_help=False)
    home, plain, log = str(default_home()), False, "WARNING"
    defaults: tuple[object, ...] = (argparse.SUPPRESS,) * 3 if again else (home, plain, log)
    common.add_argument(
        "--home", default=defaults[0], metavar="DIR", help="data directory (PROMISEGRID_HOME)"
    )
    common.add_argument("--json", action="store_true", default=defaults[1], help="print one JSON object")
    common.add_argument(
        "--log",
        default=defaults[2],
        metavar="LEVEL",
        choices=["DEBUG", "INFO", "WARNING", "ERROR"],
        help="how much to say on stderr (WARNING)",
    )
    return common


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="promisegrid", formatter_class=plain, epilog=EXAMPLES, allow_abbrev=False, parents=[_common()],
        description="A decentralised computer, owned and run by the people who use it.",
    )  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    again = _common(again=True)

    def verb(name: str, help_text: str, epilog: str = "") -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, help=help_text, description=help_text, epilog=epilog, parents=[again],
            formatter_class=plain, allow_abbrev=False,
        )  # fmt: skip

    _up(verb("up", "Run a node and serve the page."))
    verb("id", "Print this node's did:key, its grid and its URL.")
    add_base(verb)
    _programs(verb)
    _apps(verb("app", "Publish apps, and list those published here."), again)
    add_cap(verb("cap", "Give, hold, keep and take back promises.", ABOUT), again)
    _members(verb)
    _part(verb)
    _limits(add_map(verb))
    add_together(verb, again)
    return parser


def _up(up: argparse.ArgumentParser) -> None:
    _links(up)
    _routing(up)
    _owns(up)


def _links(up: argparse.ArgumentParser) -> None:
    """Whom the node is linked to, and how."""
    up.add_argument(
        "--listen",
        type=address,
        default=LISTEN,
        metavar="HOST:PORT",
        help=f"where to listen (default: {LISTEN})",
    )
    up.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="URL",
        help="join URL, ws://HOST:PORT/grid, or unix:HOME of a node on this machine; repeatable",
    )
    up.add_argument(
        "--no-discover", action="store_true", help="do not look for members on the LAN (mDNS), nor be found"
    )
    up.add_argument(
        "--no-overlay", action="store_true",
        help="dial no members by the distance of their keys, nor be found by them",
    )  # fmt: skip
    up.add_argument(
        "--webrtc", action="store_true",
        help="make direct channels with members reached through others (needs aiortc)",
    )  # fmt: skip


def _routing(up: argparse.ArgumentParser) -> None:
    """What it asks of those outside the grid, and tells them."""
    up.add_argument(
        "--gateway", action="append", default=[], metavar="URL",
        help="ask this gateway too, until the node stops, for what no peer has; repeatable",
    )  # fmt: skip
    up.add_argument(
        "--metrics", action="store_true",
        help="tell /metrics (Prometheus) to other machines too: no names, but how busy this node is",
    )  # fmt: skip
    up.add_argument(
        "--routing", action="append", default=[], metavar="URL",
        help="ask this router who has what no peer has, and tell it what is published here; repeatable",
    )  # fmt: skip
    up.add_argument(
        "--routing-private", action="store_true",
        help="routers may name, and be told, addresses of your own network",
    )  # fmt: skip
    up.add_argument(
        "--announce-as", metavar="URL", help="where others reach this node (default: the printed URL)"
    )


def _owns(up: argparse.ArgumentParser) -> None:
    """Who may come in, under which name, and what it keeps and does for them."""
    who = up.add_mutually_exclusive_group()
    who.add_argument(
        "--invite-only", action="store_true", help="only the invited may join (default beyond loopback)"
    )
    who.add_argument("--open", action="store_true", help="whoever can reach this node may join")
    up.add_argument(
        "--tls-cert", metavar="F", help="certificate chain, PEM (default beyond loopback: self-signed)"
    )
    up.add_argument("--tls-key", metavar="F", help="its key, PEM")
    up.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="another host name to answer to; repeatable",
    )
    up.add_argument(
        "--store", metavar="URL",
        help="keep everything in this base, shared with other nodes: postgresql://USER@HOST/DATABASE; "
        "`sqlite` is the home's own file (PROMISEGRID_STORE)",
    )  # fmt: skip
    up.add_argument("--name", metavar="TEXT", help="name of the grid, when this start founds it")
    up.add_argument("--serve", action="store_true", help="run programs for other members")
    up.add_argument("--cpu", type=positive, metavar="N", help="… so many at once")
    up.add_argument(
        "--memory",
        type=size,
        default=MEMORY,
        metavar="BYTES",
        help="… with so much memory each (default: 512M)",
    )
    up.add_argument("--bundle", metavar="DIR", help="the page's files (default: build/web)")


def _budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on", metavar="DID|anywhere|promised",
        help="have this peer run it (the beginning of a DID will do), or whoever has a place free, or whoever"
        " promised this call",
    )  # fmt: skip
    parser.add_argument("--why", action="store_true", help="say where the result came from, and why")
    _limits(parser)
    parser.add_argument(
        "--promise", metavar="CID", help="present this promise of the peer (default: one that fits)"
    )
    parser.add_argument(
        "--wait", action="store_true", help="where a peer keeps its promise later, wait for the result"
    )
    parser.add_argument("--fresh", action="store_true", help="run it even if the result is remembered")


def _limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fuel",
        type=positive,
        metavar="N",
        help="end it after N WebAssembly instructions, as the meter counts them: the same on every machine",
    )
    parser.add_argument("--memory", type=size, metavar="BYTES", help="linear memory at most")
    parser.add_argument("--timeout", type=seconds, metavar="S", help="seconds at most")


def _programs(verb: AddVerb) -> None:
    examples = (
        "promisegrid run resvg.wasm --files . -o out -- in.svg out.png\n"
        "echo hello | promisegrid run cat.wasm --stdin -\n\n"
        "stdout and the exit code are the program's; 125 means that the grid failed."
    )
    run = verb("run", "Run a WebAssembly program.", examples)
    run.add_argument("code", metavar="CODE", help="a wasm file or its CID")
    run.add_argument("--func", metavar="NAME", help="exported function (default: _start, else handle)")
    run.add_argument("--files", metavar="DIR|CID", help="the folder the program sees as /")
    run.add_argument(
        "--stdin", metavar="FILE", help="its standard input: a file, a CID, or - (default: empty)"
    )
    run.add_argument("-o", "--output", metavar="OUTDIR", help="write the folder as the program left it")
    _verified(run)
    _budget(run)
    call = verb("call", "Call a function of a WebAssembly module.", "promisegrid call math.wasm add_one 42")
    call.add_argument("code", metavar="CODE", help="a wasm file or its CID")
    call.add_argument("func", metavar="FUNC", help="an exported function")
    call.add_argument(
        "args", metavar="JSON", nargs="*", help='arguments: 42, 1.5, "text", [1, 2], {"/": "CID"}'
    )
    _verified(call)
    _budget(call)


def _verified(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--verify",
        type=several,
        metavar="N",
        help="have N different peers run it, and compare what they sign",
    )


def _apps(app: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    below = app.add_subparsers(dest="app_verb", required=True, metavar="publish|ls")
    publish = below.add_parser(
        "publish", help="store a folder as an app; print its CID and URL", parents=[common]
    )
    publish.add_argument("folder", metavar="DIR", help="has index.html and app.json")
    below.add_parser("ls", help="list the apps published here", parents=[common])


def _members(verb: AddVerb) -> None:
    """Who is there, and who may be."""
    peers = verb("peers", "List who is connected.", "promisegrid peers --watch")
    peers.add_argument(
        "--watch", action="store_true",
        help="go on, live, until Ctrl-C: links, speeds, what runs where, who is near; --json: a line each",
    )  # fmt: skip
    peers.add_argument(
        "--every", type=seconds, default=1.0, metavar="S", help="how often --watch looks (default: 1 s)"
    )
    invite = verb("invite", "Make a fresh join URL (on the founder's node).")
    invite.add_argument(
        "--uses", type=positive, default=1, metavar="N", help="how many may join with it (default: 1)"
    )
    invite.add_argument(
        "--days", type=positive, default=7, metavar="N", help="how long it holds (default: 7)"
    )
    admit = verb("admit", "Admit a key in person (on the founder's node).")
    admit.add_argument("did", metavar="DID", help="did:key:…")
    verb("members", "List whom this founder's node has admitted.")
    verb("leave", "Leave the grid, to join another (`up --peer` then joins).")
    ban = verb(
        "ban",
        "Have nothing to do with a key any more, on this node; without a DID, list.",
        "promisegrid ban did:key:… --reason 'floods our topics'\npromisegrid ban\n\n"
        "Its links end, none opens again, no circuit leads to it through here, what it says in topics is\n"
        "not taken, and its receipts count for nothing; and so for whoever is a member on its word alone.\n"
        "Other nodes decide for themselves. A did:key is free: an invite-only grid keeps a person out.",
    )
    ban.add_argument("did", metavar="DID", nargs="?", help="did:key:…, or the beginning of a peer's")
    ban.add_argument("--reason", default="", metavar="TEXT", help="why, for yourself")
    ban.add_argument(
        "--dismiss", action="store_true", help="take back the membership this node gave it too, for all nodes"
    )
    unban = verb("unban", "End a ban.")
    unban.add_argument("did", metavar="DID", help="did:key:…, as `promisegrid ban` lists it")


def _part(verb: AddVerb) -> None:
    """What this node promises to all, believes, and did."""
    serve = verb("serve", "Promise to run programs for other members, stop, or tell.")
    serve.add_argument("what", nargs="?", choices=["on", "off"])
    serve.add_argument("--cpu", type=positive, default=1, metavar="N", help="programs at once (default: 1)")
    serve.add_argument(
        "--memory", type=size, default=MEMORY, metavar="BYTES", help="memory each (default: 512M)"
    )
    carry = verb(
        "carry",
        "Promise to keep and pass on messages whose protocol this node does not know, stop, or tell.",
        "promisegrid carry 64M --days 7\npromisegrid carry off",
    )
    carry.add_argument("size", type=size_or_off, nargs="?", metavar="SIZE|off", help="bytes in all, or 64M")
    carry.add_argument(
        "--days", type=positive, default=30, metavar="N", help="how long each is kept (default: 30)"
    )
    trust = verb(
        "trust",
        "Say whose receipts answer from the cache, or tell.",
        "promisegrid trust own\npromisegrid trust agree 3\npromisegrid trust did:key:…",
    )
    trust.add_argument("whom", nargs="*", metavar="own|agree N|DID")
    history = verb("history", "List what ran here lately, and for whom.")
    history.add_argument("--limit", type=positive, default=50, metavar="N")
    verb("running", "List what runs now, and for whom.")
    stop = verb("stop", "End a running task, whoever asked for it.")
    stop.add_argument("task", metavar="TASK")
    receipt = verb("receipt", "Read and check a receipt.")
    receipt.add_argument("cid", metavar="CID")
    verb("evidence", "List the tasks on which peers disagreed, and who said what.")
