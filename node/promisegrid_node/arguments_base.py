"""The grammar of the base: content in and out, what is kept of it, and what the store says of itself."""

from __future__ import annotations

import argparse
import re
from typing import Final, Protocol

from promisegrid_node.argtypes import positive

CID: Final = "CID[/PATH]"
CHUNKER: Final = "size-1048576"


class AddVerb(Protocol):
    """Adds a verb to the command: its name, one line of help, and examples."""

    def __call__(self, name: str, help_text: str, epilog: str = "") -> argparse.ArgumentParser: ...


def chunker(text: str) -> str:
    """How a file is cut: `buzhash`, or `size-N` with N bytes."""
    if text == "buzhash" or re.fullmatch(r"size-[1-9]\d{0,8}", text):
        return text
    raise argparse.ArgumentTypeError(
        f"{text[:40]!r} is no way to cut files: {CHUNKER} (as IPFS does) or buzhash (where the content says)"
    )


def add_base(verb: AddVerb) -> None:
    """put, get, ls, export, import; pin, unpin, pins, gc; log; stat, verify, rebuild; gateways."""
    _content(verb)
    _cars(verb)
    _keeping(verb)
    _looking_after(verb)


def _content(verb: AddVerb) -> None:
    put = verb(
        "put",
        "Store a file or folder, pin it, and print its CID.",
        "promisegrid put notes/\n"
        "promisegrid put - --name data < data.bin\n"
        "promisegrid put disk.img --chunker buzhash     # after an edit, only the chunks around it are new",
    )
    put.add_argument("path", metavar="PATH|-", help="file, folder, or - for standard input")
    put.add_argument("--hidden", action="store_true", help="take hidden files of a folder too")
    put.add_argument(
        "--chunker", type=chunker, default=CHUNKER, metavar="HOW",
        help=f"{CHUNKER} (default: the CIDs IPFS gives) or buzhash (cut where the content says)",
    )  # fmt: skip
    put.add_argument("--name", metavar="TEXT", help="what `pins` calls it (default: the file's name)")
    put.add_argument("--no-pin", action="store_false", dest="pin", help="`gc` may take it away again")
    get = verb(
        "get",
        "Write a file or folder out.",
        "promisegrid get bafkrei… > photo.png\npromisegrid get bafybei…/docs -o docs",
    )
    get.add_argument("cid", metavar=CID)
    get.add_argument("-o", "--output", metavar="PATH", help="where to (default: stdout)")
    ls = verb("ls", "List a folder.", "promisegrid ls -l bafybei…/docs")
    ls.add_argument("cid", metavar=CID)
    ls.add_argument(
        "-l", "--long", action="store_true", help="say what each entry is, and where a link leads"
    )


def _cars(verb: AddVerb) -> None:
    export = verb(
        "export",
        "Write content as a CAR file, blocks and all: a backup, or something to hand over.",
        "promisegrid export --all -o backup.car\npromisegrid export bafybei… | ssh pi promisegrid import -",
    )
    export.add_argument("cids", metavar="CID", nargs="*", help="roots; everything below them goes along")
    export.add_argument(
        "--all", action="store_true",
        help="a backup: all blocks, pins, streams, keys and values; `import` brings them back",
    )  # fmt: skip
    export.add_argument("-o", "--output", metavar="FILE|-", default="-", help="where to (default: stdout)")
    bring = verb(
        "import",
        "Take in a CAR file, check every block, pin its roots, and print them.",
        "promisegrid import backup.car",
    )
    bring.add_argument("path", metavar="FILE|-", help="a CAR file, or - for standard input")
    bring.add_argument("--no-pin", action="store_false", dest="pin", help="`gc` may take it away again")
    bring.add_argument(
        "--restore", action="store_true",
        help="a backup may move streams and set keys here (into an empty home it always does)",
    )  # fmt: skip
    publish = verb(
        "publish",
        "Let anybody read content through this node's gateway; without a CID, list what is published.",
        "promisegrid publish bafybei… --name site\npromisegrid unpublish bafybei…",
    )
    publish.add_argument("cid", metavar=CID, nargs="?")
    publish.add_argument("--name", metavar="TEXT", default="", help="what the list calls it")
    unpublish = verb("unpublish", "Take a publication back: it stays here, for this node's members.")
    unpublish.add_argument("cid", metavar="CID")
    gateways = verb(
        "gateways",
        "Say which gateways are asked for what no peer has; every block is checked.",
        "promisegrid gateways add https://ipfs.example/\npromisegrid gateways rm https://ipfs.example/",
    )
    gateways.add_argument("what", nargs="?", choices=["add", "rm", "ls"], default="ls")
    gateways.add_argument("url", nargs="?", metavar="URL", help="where the gateway is, without /ipfs")
    providers = verb(
        "providers",
        "Print the gateways that routers name for content (delegated routing over HTTP).",
        "promisegrid providers bafybei… --routing https://router.example/",
    )
    providers.add_argument("cid", metavar="CID")
    providers.add_argument(
        "--routing", action="append", default=[], metavar="URL",
        help="ask this router (default: those the running node was given); repeatable",
    )  # fmt: skip
    announce = verb(
        "announce",
        "Tell this node's routers now what is published here, rather than by and by.",
        "promisegrid announce\npromisegrid announce bafybei…",
    )
    announce.add_argument("cid", metavar="CID", nargs="?", help="only this (default: all that is published)")


def _keeping(verb: AddVerb) -> None:
    pin = verb(
        "pin",
        "Keep content, whatever `gc` is told.",
        "promisegrid pin bafybei… --name photos",
    )
    pin.add_argument("cid", metavar=CID)
    pin.add_argument("--name", metavar="TEXT", default="", help="what `pins` calls it")
    pin.add_argument(
        "--direct", action="store_true", help="only this block, not what it links to (and fetch nothing)"
    )
    unpin = verb(
        "unpin",
        "Let go of content; the next `gc` takes what nothing else keeps.",
        "promisegrid unpin bafybei…",
    )
    unpin.add_argument(
        "cid", metavar="CID|NAME", help="or an ending of the CID, as `promisegrid pins` lists it"
    )
    verb("pins", "List what is pinned, the newest first.", "promisegrid pins --json")
    gc = verb(
        "gc",
        "Take away what nobody keeps: neither pins nor streams, apps, promises or remembered results.",
        "promisegrid gc --dry-run\n"
        "promisegrid gc --results      # forget what programs gave, too\n\n"
        "What a running node stored in the last ten minutes is left alone: somebody may be about to pin it.",
    )
    gc.add_argument("--dry-run", action="store_true", help="only say what would go")
    gc.add_argument(
        "--results", action="store_true", help="remembered results too: their programs run again when asked"
    )


def _looking_after(verb: AddVerb) -> None:
    log = verb(
        "log",
        "List streams, tell one stream's history, or move it on.",
        "promisegrid log                       # every stream, and where it is\n"
        "promisegrid log notes                 # who moved it when, the newest first; forks are drawn\n"
        "promisegrid log move notes bafybei…   # its next value; joins the forks it has",
    )
    log.add_argument("words", metavar="NAME | move NAME CID", nargs="*", help="none: every stream")
    log.add_argument(
        "--from", metavar="HEAD", dest="previous", action="append", default=[],
        help="move from this head only (default: from all there are); repeatable",
    )  # fmt: skip
    log.add_argument(
        "--limit", type=positive, default=100, metavar="N", help="tell so many heads (default: 100)"
    )
    verb("stat", "Say what this node holds, where, and how much room is left.", "promisegrid stat --json")
    verify = verb(
        "verify",
        "Hash everything stored once more, look for all that is kept; exit 1 if anything is wrong.",
        "promisegrid verify\npromisegrid verify --mend     # with the node stopped, if the file is damaged",
    )
    verify.add_argument(
        "--mend",
        action="store_true",
        help="save what a damaged file still holds into a new one; fetch what is damaged or missing",
    )
    verb(
        "rebuild",
        "Make whatever can be made from blocks and streams anew, indexes above all.",
        "promisegrid rebuild",
    )
