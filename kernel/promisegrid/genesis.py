"""The genesis block: a grid is the CID of `{founder, name, rules, nonce}`.

The founder's key admits the first members. The name is for people. Rules are the community's own and are
only carried here. The nonce makes two grids of one founder differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from promisegrid import dagcbor, did
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.errors import RemoteError

NAME_MAX: Final = 80
GENESIS_MAX: Final = 16 * 1024
_NONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Genesis:
    """A grid as founded. `rules` is any dag-cbor map."""

    founder: str
    name: str
    nonce: bytes
    rules: dict[str, object]

    def block(self) -> Block:
        """The block whose CID is the grid."""
        data = dagcbor.encode(
            {"founder": self.founder, "name": self.name, "rules": self.rules, "nonce": self.nonce}
        )
        return Block(Cid.of(data, "dag-cbor"), data)


def read(data: bytes) -> tuple[Cid, Genesis]:
    """The grid and its genesis from a block's bytes. RemoteError("malformed") for anything else."""
    if len(data) > GENESIS_MAX:
        raise RemoteError("malformed", f"A genesis block of {len(data)} bytes.")
    try:
        value = dagcbor.decode(data)
    except ValueError as error:
        raise RemoteError("malformed", f"Not a genesis block: {error}.") from error
    if not isinstance(value, dict) or set(value) != {"founder", "name", "rules", "nonce"}:
        raise RemoteError("malformed", "Not a genesis block: it holds founder, name, rules and nonce.")
    founder, name, rules, nonce = value["founder"], value["name"], value["rules"], value["nonce"]
    shaped = isinstance(founder, str) and isinstance(name, str) and isinstance(rules, dict)
    if not shaped or not isinstance(nonce, bytes) or len(nonce) != _NONCE or len(name) > NAME_MAX:
        raise RemoteError("malformed", "Not a genesis block: a field is of the wrong kind or size.")
    did.decode(founder)
    return Cid.of(data, "dag-cbor"), Genesis(founder, name, nonce, rules)
