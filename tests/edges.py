"""Keys and signatures at the edge of what is allowed: every host must give the same verdict on each.

Where two libraries could differ, the kernel has to decide before either is asked. `question` is what is left
to ask after `cose.holds` decided what it can; a host passes when `wrong` finds nothing in its answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from tests import ed25519, p256, rsa_pss

from promisegrid import cose, multibase
from promisegrid.effects import Verify
from promisegrid.errors import RemoteError

ES256, EDDSA, PS256 = -7, -8, -37
ESP256, ED25519 = -9, -19
MESSAGE: Final = b"at the edge"
HALF: Final = p256.N // 2


@dataclass(frozen=True)
class Edge:
    """A signature of `signer` over MESSAGE; `holds` None: the signer's name itself is refused."""

    what: str
    signer: str
    alg: int
    signature: bytes
    holds: bool | None


def name_of(prefix: bytes, key: bytes) -> str:
    """A did:key of any kind."""
    return "did:key:z" + multibase.base58(prefix + key)


def p256_name(point: bytes) -> str:
    return name_of(b"\x80\x24", bytes([2 + point[64] % 2]) + point[1:33])


def ed25519_name(key: bytes) -> str:
    return name_of(b"\xed\x01", key)


def rsa_name(key: bytes) -> str:
    return name_of(b"\x85\x24", key)


def to_be_signed(alg: int) -> bytes:
    """What is signed: the COSE structure, which names the algorithm."""
    return cose.to_be_signed(cose.protected_header("grid-statement", alg), MESSAGE)


def question(edge: Edge) -> Verify | bool | None:
    """What the kernel asks the host about an edge, or its own verdict: False, or None for a refused name."""
    sign1 = cose.Sign1(
        cose.protected_header("grid-statement", edge.alg), edge.alg, "grid-statement", None, edge.signature
    )
    held = cose.holds(sign1, MESSAGE, edge.signer)
    try:
        effect = held.send(None)
    except StopIteration as end:
        return bool(end.value)
    except RemoteError as refusal:
        assert refusal.code == "bad_claims"
        return None
    held.close()
    assert isinstance(effect, Verify)
    return effect


def wrong(answers: Callable[[list[Verify]], Sequence[object]]) -> list[str]:
    """The edges on which a host, given all the kernel's questions at once, does not say what it should."""
    asked = [(edge, question(edge)) for edge in table()]
    verdicts = iter(answers([effect for _, effect in asked if isinstance(effect, Verify)]))
    found = [(edge, next(verdicts) if isinstance(q, Verify) else q) for edge, q in asked]
    return [f"{edge.alg} {edge.what}: {said}" for edge, said in found if said is not edge.holds]


def pure(effect: Verify) -> bool:
    """The answer of an exact verifier that refuses nothing by itself."""
    match effect.alg:
        case -7:
            return p256.verify(effect.key, effect.message, effect.signature)
        case -8:
            return ed25519.verify(effect.key, effect.message, effect.signature)
        case -37:
            return rsa_pss.verify(effect.key, effect.message, effect.signature)
    return False


# -- P-256 -------------------------------------------------------------------------------------------


def two(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def key_for(x: int, s: int, message: bytes) -> bytes:
    """The public key for which (x mod n, s) is a signature of the message; x is of a point of the curve."""
    y = pow(pow(x, 3, p256.P) - 3 * x + p256_b(), (p256.P + 1) // 4, p256.P)
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    w = pow(x % p256.N, -1, p256.N)
    return p256.combination(s * w % p256.N, (x, y), -digest * w % p256.N)


def p256_b() -> int:
    x, y = p256.G
    return (y * y - x * x * x + 3 * x) % p256.P


def first_x(start: int) -> int:
    """The first x from there on that has a point."""
    x = start
    while pow(pow(x, 3, p256.P) - 3 * x + p256_b(), (p256.P - 1) // 2, p256.P) != 1:
        x += 1
    return x


def es256() -> Iterator[Edge]:
    secret = p256.secret_of("ann")
    point = p256.public_key(secret)
    ann = p256_name(point)
    for alg in (ES256, ESP256):
        good = cose.low_s(p256.sign(secret, to_be_signed(alg)))
        yield Edge("good", ann, alg, good, True)
    good = cose.low_s(p256.sign(secret, to_be_signed(ES256)))
    r, s = int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big")
    yield Edge("the twin's algorithm", ann, ESP256, good, False)
    yield Edge("the high s", ann, ES256, two(r, p256.N - s), False)
    for what, wrong in {
        "r is zero": two(0, s),
        "s is zero": two(r, 0),
        "both are zero": bytes(64),
        "r is the order": two(p256.N, s),
        "s is the order": two(r, p256.N),
        "r is at its end": two(2**256 - 1, s),
        "s is the half": two(r, HALF),
        "r and s are swapped": good[32:] + good[:32],
        "DER": rsa_pss.element(0x30, rsa_pss.integer(r) + rsa_pss.integer(s)),
        "cut off": good[:-1],
        "longer": good + b"\0",
        "empty": b"",
    }.items():
        yield Edge(what, ann, ES256, wrong, False)
    message = to_be_signed(ES256)
    small = first_x(5)
    yield Edge("a tiny r", p256_name(key_for(small, 9, message)), ES256, two(small, 9), True)
    yield Edge("r plus order", p256_name(key_for(small, 9, message)), ES256, two(small + p256.N, 9), False)
    wraps = first_x(p256.N + 1)
    wrapped = two(wraps - p256.N, 11)
    yield Edge("an x beyond the order", p256_name(key_for(wraps, 11, message)), ES256, wrapped, True)
    yield Edge("s is one", p256_name(key_for(small, 1, message)), ES256, two(small, 1), True)
    half = p256_name(key_for(small, HALF, message))
    yield Edge("s is the half, rightly", half, ES256, two(small, HALF), True)
    other = bytes([3 - point[64] % 2]) + point[1:33]
    yield Edge("the other parity", name_of(b"\x80\x24", other), ES256, good, False)
    for what, key in {
        "x beyond the prime": b"\2" + (small + p256.P).to_bytes(32, "big"),
        "x is the prime": b"\2" + p256.P.to_bytes(32, "big"),
        "no such point": b"\2" + (first_gap()).to_bytes(32, "big"),
        "infinity": b"\0" + bytes(32),
        "a parity that is none": b"\4" + point[1:33],
        "an uncompressed point": point,
    }.items():
        yield Edge(what, name_of(b"\x80\x24", key), ES256, good, None)


def first_gap() -> int:
    x = 5
    while pow(pow(x, 3, p256.P) - 3 * x + p256_b(), (p256.P - 1) // 2, p256.P) == 1:
        x += 1
    return x


# -- Ed25519 -----------------------------------------------------------------------------------------


def eddsa() -> Iterator[Edge]:
    secret = ed25519.secret_of("ann")
    key = ed25519.public_key(secret)
    ann = ed25519_name(key)
    for alg in (EDDSA, ED25519):
        yield Edge("good", ann, alg, ed25519.sign(secret, to_be_signed(alg)), True)
    message = to_be_signed(EDDSA)
    good = ed25519.sign(secret, message)
    s = int.from_bytes(good[32:], "little")
    yield Edge("the twin's algorithm", ann, ED25519, good, False)
    for times in (1, 2, 15):
        more = (s + times * ed25519.L).to_bytes(32, "little")
        yield Edge(f"s plus {times} orders", ann, EDDSA, good[:32] + more, False)
    for what, wrong in {
        "s is the order": good[:32] + ed25519.L.to_bytes(32, "little"),
        "s is at its end": good[:32] + b"\xff" * 32,
        "s is zero": good[:32] + bytes(32),
        "R of the other sign": good[:31] + bytes([good[31] ^ 0x80]) + good[32:],
        "nothing but zeros": bytes(64),
        "cut off": good[:-1],
        "longer": good + b"\0",
        "empty": b"",
    }.items():
        yield Edge(what, ann, EDDSA, wrong, False)
    yield from _small_orders(secret, key, message)
    yield from _mixed_orders(secret, key, message)
    for what, point in _improper():
        yield Edge(f"a key that is {what}", ed25519_name(point), EDDSA, good, None)
        yield Edge(f"an R that is {what}", ann, EDDSA, point + good[32:], False)


def _small_orders(secret: int, key: bytes, message: bytes) -> Iterator[Edge]:
    """Valid by the equation, for anybody: R or the key of small order."""
    for number, point in enumerate(ed25519.small_order()):
        small = ed25519.encode(point)
        s = ed25519.challenge(small, key, message) * secret % ed25519.L
        signature = small + s.to_bytes(32, "little")
        assert ed25519.verify(key, message, signature) is (number == 0)
        yield Edge(f"R of small order {number}", ed25519_name(key), EDDSA, signature, False)
        anyone = ed25519.sign(0, message, small) if number else ed25519.encode(ed25519.IDENTITY) + bytes(32)
        yield Edge(f"a key of small order {number}", ed25519_name(small), EDDSA, anyone, None)


def _mixed_orders(secret: int, key: bytes, message: bytes) -> Iterator[Edge]:
    """A proper point plus one of small order: the equation without a cofactor says whether it holds."""
    eighth = ed25519.small_order()[1]
    honest = ed25519.decode(key)
    assert honest is not None
    mixed = ed25519.encode(ed25519.add(honest, eighth))
    found: dict[bool, Edge] = {}
    for number in range(64):
        nonce = ed25519.secret_of(f"nonce {number}")
        commitment = ed25519.encode(ed25519.times(nonce, ed25519.BASE))
        k = ed25519.challenge(commitment, mixed, message)
        s = (nonce + k * secret) % ed25519.L
        edge = Edge("", ed25519_name(mixed), EDDSA, commitment + s.to_bytes(32, "little"), k % 8 == 0)
        found.setdefault(k % 8 == 0, edge)
    yield replace(found[True], what="a key of mixed order, and the equation holds")
    yield replace(found[False], what="a key of mixed order, and only eight times the equation holds")
    shifted = ed25519.sign(secret, message, shift=eighth)
    yield Edge("an R of mixed order", ed25519_name(key), EDDSA, shifted, False)


def _improper() -> Iterator[tuple[str, bytes]]:
    """Second spellings, and what spells no point."""
    for y in range(19):
        for sign in (0, 1):
            spelled = (ed25519.P + y | sign << 255).to_bytes(32, "little")
            if ed25519.decode(spelled) is not None:
                yield f"{y} plus the prime, sign {sign}", spelled
    yield "minus zero over one", (1 | 1 << 255).to_bytes(32, "little")
    yield "minus zero over minus one", (ed25519.P - 1 | 1 << 255).to_bytes(32, "little")
    yield "no point", next(
        data for y in range(2, 99) if ed25519.decode(data := y.to_bytes(32, "little")) is None
    )


# -- RSA ---------------------------------------------------------------------------------------------


def ps256() -> Iterator[Edge]:
    message = to_be_signed(PS256)
    key = rsa_pss.Key.of("ann", 2048)
    ann = rsa_name(key.public)
    good = key.sign(message)
    for bits in (2048, 3072, 4096, 8192):
        large = rsa_pss.Key.of("ann", bits)
        yield Edge(f"good, {bits} bits", rsa_name(large.public), PS256, large.sign(message), True)
    for exponent in (3, 17, 2**32 - 1):
        odd = rsa_pss.Key.of("ann", 2048, exponent)
        yield Edge(f"exponent {exponent}", rsa_name(odd.public), PS256, odd.sign(message), True)
    for size in (0, 20, 31, 33, 64, 222):
        yield Edge(f"a salt of {size}", ann, PS256, key.sign(message, bytes(size)), False)
    yield Edge("a mask of SHA-1", ann, PS256, key.sign(message, mask="sha1"), False)
    yield Edge("a mask of SHA-512", ann, PS256, key.sign(message, mask="sha512"), False)
    yield Edge("PKCS #1 v1.5", ann, PS256, key.sign_v15(message), False)
    for what, wrong in {
        "zero": bytes(256),
        "one": bytes(255) + b"\1",
        "the modulus": key.modulus.to_bytes(256, "big"),
        "the modulus less one": (key.modulus - 1).to_bytes(256, "big"),
        "at its end": b"\xff" * 256,
        "cut off": good[:-1],
        "a zero in front": b"\0" + good,
        "longer": good + b"\0",
        "empty": b"",
    }.items():
        yield Edge(what, ann, PS256, wrong, False)
    yield _wrapped(message)
    yield _zero_first(message)
    for what, spelled in _improper_rsa(key).items():
        yield Edge(what, rsa_name(spelled), PS256, good, None)


def _wrapped(message: bytes) -> Edge:
    """A signature plus the modulus, where that fits in as many bytes: a modulus hardly above 2^2047."""
    for number in range(99):
        key = rsa_pss.Key.of(f"small {number}", 2048, 65537, top=0xF6A)
        raised = int.from_bytes(key.sign(message), "big") + key.modulus
        if key.modulus >> 2047 == 1 and raised < 1 << 2048:
            return Edge("plus the modulus", rsa_name(key.public), PS256, raised.to_bytes(256, "big"), False)
    raise AssertionError("none fits")


def _zero_first(message: bytes) -> Edge:
    """A signature whose number is short still has all its bytes."""
    key = rsa_pss.Key.of("ann", 2048)
    salted = (key.sign(message, number.to_bytes(32, "big")) for number in range(9999))
    return Edge("a zero first", rsa_name(key.public), PS256, next(s for s in salted if s[0] == 0), True)


def _improper_rsa(key: rsa_pss.Key) -> dict[str, bytes]:
    n, e, der = key.modulus, key.exponent, rsa_pss.element
    number = rsa_pss.integer
    return {
        "1024 bits": rsa_pss.Key.of("ann", 1024).public,
        "1920 bits": rsa_pss.Key.of("ann", 1920).public,
        "8320 bits": rsa_pss.Key.of("ann", 8320).public,
        "2047 bits": rsa_pss.rsa_public_key(n >> 1 | 1, e),
        "2049 bits": rsa_pss.rsa_public_key(n << 1 | 1, e),
        "an even modulus": rsa_pss.rsa_public_key(n - 1, e),
        "a negative modulus": der(0x30, der(2, n.to_bytes(256, "big")) + number(e)),
        "a modulus with zeros": der(0x30, der(2, bytes(2) + n.to_bytes(256, "big")) + number(e)),
        "exponent 1": rsa_pss.rsa_public_key(n, 1),
        "exponent 0": rsa_pss.rsa_public_key(n, 0),
        "an even exponent": rsa_pss.rsa_public_key(n, 65536),
        "a giant exponent": rsa_pss.rsa_public_key(n, 2**32 + 1),
        "an exponent of all bits": rsa_pss.rsa_public_key(n, n - 2),
        "a negative exponent": der(0x30, number(n) + der(2, b"\xff\xff\xff")),
        "an exponent with zeros": der(0x30, number(n) + der(2, b"\0\1\0\1")),
        "an exponent of a long form": der(0x30, number(n) + b"\2\x81\3\1\0\1"),
        "an indefinite length": b"\x30\x80" + number(n) + number(e) + b"\0\0",
        "something behind": key.public + b"\0",
        "something inside": der(0x30, number(n) + number(e) + number(1)),
        "cut off": key.public[:-1],
        "the numbers swapped": der(0x30, number(e) + number(n)),
        "no sequence": der(0x31, number(n) + number(e)),
        "a SubjectPublicKeyInfo": spki(key.public),
    }


def spki(key: bytes) -> bytes:
    """RFC 5280 section 4.1.2.7, rsaEncryption: what others call an RSA public key."""
    algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    return rsa_pss.element(0x30, algorithm + rsa_pss.element(3, b"\0" + key))


# -- across ------------------------------------------------------------------------------------------


def confused() -> Iterator[Edge]:
    """A signature of one kind under a name of another, or under another algorithm's label."""
    rsa = rsa_pss.Key.of("ann", 2048)
    kinds = {
        ES256: (p256_name(p256.public_key(5)), lambda data: cose.low_s(p256.sign(5, data))),
        EDDSA: (ed25519_name(ed25519.public_key(5)), lambda data: ed25519.sign(5, data)),
        PS256: (rsa_name(rsa.public), rsa.sign),
    }
    labels = {ES256: (ES256, ESP256), EDDSA: (EDDSA, ED25519), PS256: (PS256,)}
    others = (0, 5, -6, -8 - 2**32, -35, -36, -38, -39, -47, -51, -53, -257, -65535)
    for kind, (signer, _) in kinds.items():
        for made_as, (_, sign) in kinds.items():
            for label in {*(label for group in labels.values() for label in group), *others}:
                if kind == made_as and label in labels[kind]:
                    continue
                signature = sign(to_be_signed(label))
                yield Edge(f"{made_as} called {label} for a key of {kind}", signer, label, signature, False)


@cache
def table() -> tuple[Edge, ...]:
    """Every edge."""
    return (*es256(), *eddsa(), *ps256(), *confused())
