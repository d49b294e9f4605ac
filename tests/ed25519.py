"""Ed25519 (RFC 8032 section 5.1) in pure Python, for tests only: what hosts' libraries ought to say.

`verify` uses the equation without the cofactor, as OpenSSL and browsers do, and refuses nothing that the
kernel should refuse before a library sees it: small orders and second spellings are for `cose` and `did`.
Not constant-time, not for keys anybody cares about.
"""

from __future__ import annotations

import hashlib
from typing import Final

P: Final = 2**255 - 19
L: Final = 2**252 + 27742317777372353535851937790883648493
D: Final = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int, int, int]
"""Extended coordinates: x/z, y/z, z, and xy/z."""
IDENTITY: Final = (0, 1, 1, 0)


def add(p: Point, q: Point) -> Point:
    """The sum of two points."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(k: int, point: Point) -> Point:
    """k times a point."""
    total = IDENTITY
    while k:
        if k & 1:
            total = add(total, point)
        point = add(point, point)
        k >>= 1
    return total


def encode(point: Point) -> bytes:
    """The one proper spelling: y, little-endian, the lowest bit of x on top."""
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point | None:
    """The point, also from an improper spelling (y not below the prime, minus zero); None off the curve."""
    sign, y = data[31] >> 7, (int.from_bytes(data, "little") & (1 << 255) - 1) % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square:
        return None
    if x & 1 != sign:
        x = -x % P
    return x, y, 1, x * y % P


_BASE = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
assert _BASE is not None
BASE: Final[Point] = _BASE


def small_order() -> list[Point]:
    """The eight points whose order divides eight, the identity first."""
    y = 2
    while True:
        point = decode(y.to_bytes(32, "little"))
        torsion = times(L, point) if point else IDENTITY
        if encode(times(4, torsion)) != encode(IDENTITY):
            return [times(k, torsion) for k in range(8)]
        y += 1


def challenge(r: bytes, key: bytes, message: bytes) -> int:
    """SHA-512 of R, A and the message, modulo the order."""
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L


def secret_of(name: str) -> int:
    """A private scalar from a name."""
    return int.from_bytes(hashlib.sha512(name.encode()).digest(), "little") % L


def public_key(secret: int) -> bytes:
    """32 bytes."""
    return encode(times(secret, BASE))


def sign(secret: int, message: bytes, key: bytes | None = None, shift: Point = IDENTITY) -> bytes:
    """64 bytes R‖S. `key` stands in for the public key in the challenge, `shift` is added to R."""
    key = key or public_key(secret)
    r = int.from_bytes(hashlib.sha512(secret.to_bytes(32, "big") + message).digest(), "little") % L
    commitment = encode(add(times(r, BASE), shift))
    s = (r + challenge(commitment, key, message) * secret) % L
    return commitment + s.to_bytes(32, "little")


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether [S]B = R + [k]A, R as it is spelled."""
    s = int.from_bytes(signature[32:], "little")
    point = decode(key) if len(key) == 32 else None
    if len(signature) != 64 or s >= L or point is None:
        return False
    k = challenge(signature[:32], key, message)
    minus = (-point[0] % P, point[1], point[2], -point[3] % P)
    return encode(add(times(s, BASE), times(k, minus))) == signature[:32]
