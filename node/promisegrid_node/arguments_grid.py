"""The grammar of what many nodes do together: map, topic, share, copies."""

from __future__ import annotations

import argparse

from promisegrid_node.argtypes import positive
from promisegrid_node.arguments_base import AddVerb


def add_map(verb: AddVerb) -> argparse.ArgumentParser:
    """map; its budget is added by whoever knows it."""
    spread = verb(
        "map",
        "Run a program on many inputs, over all nodes and tabs that serve.",
        "promisegrid map resvg.wasm drawings/*.svg -o png -- --resources-dir / - -c\n"
        "promisegrid map math.wasm --func add_one 1 2 3\n"
        "seq 1000 | promisegrid map math.wasm --func add_one --inputs -",
    )
    spread.add_argument("code", metavar="CODE", help="a wasm file or its CID")
    spread.add_argument(
        "inputs", metavar="INPUT", nargs="*", help="for a command: a file, its stdin; for a function: JSON"
    )
    spread.add_argument("--func", metavar="NAME", help="call this exported function (default: a command)")
    spread.add_argument("--inputs", dest="list", metavar="FILE|-", help="more inputs, one a line")
    spread.add_argument("--elsewhere", action="store_true", help="leave the work to others")
    spread.add_argument("-o", "--output", metavar="DIR", help="write each command's output to DIR/INPUT.out")
    return spread


def add_together(verb: AddVerb, common: argparse.ArgumentParser) -> None:
    """topic, share, copies."""
    topic = verb("topic", "Say things to whoever listens, and listen.", "promisegrid topic follow news")
    below = topic.add_subparsers(dest="topic_verb", required=True, metavar="publish|follow|leave|ls|read")
    publish = below.add_parser("publish", help="say something to all who follow a topic", parents=[common])
    publish.add_argument("topic", metavar="TOPIC")
    publish.add_argument("body", metavar="JSON", help='42, "text", {"see": {"/": "CID"}}')
    for name, text in (("follow", "hear what is said in a topic"), ("leave", "hear it no more")):
        below.add_parser(name, help=text, parents=[common]).add_argument("topic", metavar="TOPIC")
    below.add_parser("ls", help="the topics followed here", parents=[common])
    read = below.add_parser("read", help="what was said, the latest last", parents=[common])
    read.add_argument("topic", metavar="TOPIC")
    read.add_argument("--limit", type=positive, default=50, metavar="N", help="so many entries (50)")
    share = verb(
        "share",
        "Share a stream: its moves are everybody's who shares it; without a name, list.",
        "promisegrid share notes\npromisegrid share notes --by did:key:…",
    )
    share.add_argument("stream", metavar="STREAM", nargs="?")
    share.add_argument("--by", metavar="DID", action="append", help="take moves of this key only; repeated")
    share.add_argument("--end", action="store_true", help="share it no more")
    copies = verb(
        "copies",
        "Have so many other nodes keep content, because they promised to; without a CID, list.",
        "promisegrid copies bafybei… 2\npromisegrid copies",
    )
    copies.add_argument("cid", metavar="CID", nargs="?")
    copies.add_argument("count", metavar="N", nargs="?", type=int, default=1, help="how many (1); 0 lets go")
