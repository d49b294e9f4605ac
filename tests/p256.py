"""P-256 ECDSA in pure Python, deterministic, for tests only: real signatures on every host without a library.

Not constant-time, not for keys anybody cares about. The nonce is SHA-256 of key and message, which is enough
for a signature that verifies and repeats. `tests/referees` checks it against OpenSSL.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Jacobian = tuple[int, int, int]


def _double(p: Jacobian) -> Jacobian:
    x, y, z = p
    if not y:
        return (0, 0, 0)
    yy = y * y % P
    s = 4 * x * yy % P
    m = 3 * (x - z * z) * (x + z * z) % P
    nx = (m * m - 2 * s) % P
    return nx, (m * (s - nx) - 8 * yy * yy) % P, 2 * y * z % P


def _add(p: Jacobian, q: Jacobian) -> Jacobian:
    if not p[2]:
        return q
    if not q[2]:
        return p
    zz1, zz2 = p[2] * p[2] % P, q[2] * q[2] % P
    u1, u2 = p[0] * zz2 % P, q[0] * zz1 % P
    s1, s2 = p[1] * q[2] * zz2 % P, q[1] * p[2] * zz1 % P
    if u1 == u2:
        return _double(p) if s1 == s2 else (0, 0, 0)
    h, r = u2 - u1, s2 - s1
    hh = h * h % P
    hhh = h * hh % P
    x = (r * r - hhh - 2 * u1 * hh) % P
    return x, (r * (u1 * hh - x) - s1 * hhh) % P, h * p[2] * q[2] % P


@lru_cache(maxsize=512)
def _multiples(point: tuple[int, int]) -> tuple[tuple[Jacobian, ...], ...]:
    """What `_times` adds up: for each four bits of a factor, 0 to 15 times the point as it stands there."""
    rows: list[tuple[Jacobian, ...]] = []
    base: Jacobian = (*point, 1)
    for _ in range(64):
        row: list[Jacobian] = [(0, 0, 0)]
        for _ in range(15):
            row.append(_add(row[-1], base))
        rows.append(tuple(row))
        base = _add(row[-1], base)
    return tuple(rows)


def _times(k: int, point: tuple[int, int]) -> Jacobian:
    total: Jacobian = (0, 0, 0)
    for row in _multiples(point):
        total = _add(total, row[k & 15])
        k >>= 4
    return total


def _affine(p: Jacobian) -> tuple[int, int]:
    inverse = pow(p[2], -1, P)
    return p[0] * inverse * inverse % P, p[1] * inverse * inverse * inverse % P


def combination(u: int, point: tuple[int, int], v: int) -> bytes:
    """u times a point plus v times the base: 65 bytes, uncompressed."""
    x, y = _affine(_add(_times(u % N, point), _times(v % N, G)))
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def secret_of(name: str) -> int:
    """A private key from a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") % (N - 1) + 1


def public_key(secret: int) -> bytes:
    """65 bytes, uncompressed."""
    x, y = _affine(_times(secret, G))
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def sign(secret: int, message: bytes) -> bytes:
    """64 bytes r‖s; s as it falls, high or low."""
    digest = hashlib.sha256(message).digest()
    k = int.from_bytes(hashlib.sha256(secret.to_bytes(32, "big") + digest).digest(), "big") % (N - 1) + 1
    r = _affine(_times(k, G))[0] % N
    s = pow(k, -1, N) * (int.from_bytes(digest, "big") + r * secret) % N
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@lru_cache(maxsize=4096)  # every node of a test verifies the same messages
def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether r‖s is a signature of the key's owner."""
    if len(key) != 65 or len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (0 < r < N and 0 < s < N):
        return False
    w = pow(s, -1, N)
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    point = (int.from_bytes(key[1:33], "big"), int.from_bytes(key[33:], "big"))
    total = _add(_times(digest * w % N, G), _times(r * w % N, point))
    return bool(total[2]) and _affine(total)[0] % N == r
