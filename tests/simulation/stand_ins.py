"""What stands in for the curve and the programs: quick, and no weaker among those who keep to the rules."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from tests import p256

from promisegrid.cid import Cid

_HALF: Final = 0x7FFFFFFF800000007FFFFFFFFFFFFFFFDE737D56D38BCF4279DCE5617E3192A8


@lru_cache(maxsize=256)
def key_of(name: str) -> bytes:
    """A host's public key, a point of the curve."""
    return p256.public_key(p256.secret_of(name))


def stand_in(key: bytes, message: bytes) -> bytes:
    """What passes for the signature of a key: right in form, and different for each key and message."""
    r, s = (int.from_bytes(hashlib.sha256(part + key + message).digest()) % _HALF for part in (b"r", b"s"))
    return (r + 1).to_bytes(32, "big") + (s + 1).to_bytes(32, "big")


def worked(code: Cid, number: int) -> int:
    """What the program named `code` makes of a number: the truth that every honest answer must tell."""
    return int.from_bytes(hashlib.sha256(bytes(code) + number.to_bytes(4, "little")).digest()[:4], "little")
