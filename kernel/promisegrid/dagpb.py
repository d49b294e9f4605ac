"""dag-pb: the nodes of files and folders, some bytes and a list of named links.

Written in the one canonical order: links sorted by the bytes of their names, then data. Read as found in the
wild: links in any order, data before or behind them; unknown, repeated or misplaced fields are refused.
What the bytes mean is `unixfs`'s business. (Source: ipld.io/specs/codecs/dag-pb.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from promisegrid import protobuf
from promisegrid.cid import Cid, CidError

LINKS_MAX: Final = 65_536
"""Links of one node: more than a block of names and hashes holds, less than one of empty links would."""


class DagPbError(ValueError):
    """Not dag-pb; the text says why."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link. `tsize` is what its writer says the whole DAG below weighs, in bytes: a hint, never checked."""

    cid: Cid
    name: str | None = None
    tsize: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `data` None and `data` empty are two different nodes."""

    data: bytes | None = None
    links: tuple[Link, ...] = ()


def encode(node: Node) -> bytes:
    """The canonical bytes of a node, its links sorted."""
    links = sorted(node.links, key=lambda link: (link.name or "").encode())
    out = [protobuf.run(2, _encode_link(link)) for link in links]
    if node.data is not None:
        out.append(protobuf.run(1, node.data))
    return b"".join(out)


def _encode_link(link: Link) -> bytes:
    out = protobuf.run(1, link.cid.encoded)
    if link.name is not None:
        out += protobuf.run(2, link.name.encode())
    if link.tsize is not None:
        out += protobuf.number(3, link.tsize)
    return out


def decode(data: bytes) -> Node:
    """The node that the whole of `data` is. Raises `DagPbError`, never anything else."""
    content: bytes | None = None
    links: list[Link] = []
    closed = False
    try:
        for field, value in protobuf.fields(data):
            if field == 2 and isinstance(value, bytes) and not closed:
                if len(links) == LINKS_MAX:
                    raise DagPbError(f"not dag-pb: more than {LINKS_MAX} links")
                links.append(_decode_link(value))
            elif field == 1 and isinstance(value, bytes) and content is None:
                content, closed = value, bool(links)
            else:
                raise DagPbError(f"not dag-pb: field {field} is unknown, repeated or out of place")
    except (protobuf.ProtobufError, CidError, UnicodeDecodeError) as error:
        raise DagPbError(f"not dag-pb: {error}") from error
    return Node(content, tuple(links))


def _decode_link(data: bytes) -> Link:
    cid: Cid | None = None
    name: str | None = None
    tsize: int | None = None
    last = 0
    for field, value in protobuf.fields(data):
        if field <= last:
            raise DagPbError(f"not dag-pb: field {field} of a link is repeated or out of place")
        last = field
        if field == 1 and isinstance(value, bytes):
            cid = Cid(value)
        elif field == 2 and isinstance(value, bytes):
            name = value.decode()
        elif field == 3 and isinstance(value, int):
            tsize = value
        else:
            raise DagPbError(f"not dag-pb: field {field} of a link is unknown")
    if cid is None:
        raise DagPbError("not dag-pb: a link without a CID")
    return Link(cid, name, tsize)
