"""Signatures and large hashes as records for the shell. Twin of the node's `keys`.

Promises: what `effects` says of each answer, which needs no change on the way back. The private key is a
non-extractable WebCrypto key that neither Python nor JavaScript can read; `worker/keys.mjs` asks it to sign.
"""

from __future__ import annotations

from promisegrid.effects import Digest, Sign, Verify

Record = list[object]


def sign(ticket: int, effect: Sign) -> Record:
    """`["sign", ticket, message]`, answered by 64 bytes."""
    return ["sign", ticket, effect.message]


def verify(ticket: int, effect: Verify) -> Record:
    """`["verify", ticket, alg, key, message, signature]`, answered by a bool."""
    return ["verify", ticket, effect.alg, effect.key, effect.message, effect.signature]


def digest(ticket: int, effect: Digest) -> Record:
    """`["digest", ticket, data]`, answered by 32 bytes."""
    return ["digest", ticket, effect.data]
