"""Numbers nobody can guess, from one seed the host handed in.

SHA-256 over the seed and a counter: unpredictable to whoever does not know the seed, exact and repeatable
to whoever does, as a test or a simulation.
"""

from __future__ import annotations

import hashlib


class Entropy:
    """A source of nonces and message numbers. `seed` is at least 32 bytes from the host's own randomness."""

    def __init__(self, seed: bytes) -> None:
        assert len(seed) >= 32, "a seed of at least 32 bytes"
        self._seed = seed
        self._count = 0

    def take(self, size: int) -> bytes:
        """`size` fresh bytes, at most 32."""
        assert 0 < size <= 32
        self._count += 1
        return hashlib.sha256(self._seed + self._count.to_bytes(8, "big")).digest()[:size]
