"""RSASSA-PSS with SHA-256 (RFC 8017 section 8.1) in pure Python, for tests only.

Keys are products of many small primes, which are found in a moment, sign quickly, and are as good as any for
a verifier. Not for anything anybody cares about.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

_PRIME_BITS = 128


def _is_prime(number: int) -> bool:
    if any(number % small == 0 for small in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)):
        return False
    return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7))


def _primes(seed: str, bits: int, exponent: int, top: int) -> list[int]:
    """Primes of `_PRIME_BITS` whose product has so many bits; the exponent fits every one of them.

    top: the leading twelve bits of each prime; all of them set keep the product at its top.
    """
    found: list[int] = []
    count, salt = bits // _PRIME_BITS, 0
    while len(found) < count:
        salt += 1
        number = int.from_bytes(hashlib.sha256(f"{seed} {salt}".encode()).digest()[: _PRIME_BITS // 8], "big")
        number = top << (_PRIME_BITS - 12) | number >> 12 | 1
        if number not in found and _is_prime(number) and math.gcd(number - 1, exponent) == 1:
            found.append(number)
    return found


@dataclass(frozen=True)
class Key:
    """A private key; `size` is the modulus's length in bytes."""

    primes: tuple[int, ...]
    exponent: int = 65537

    @classmethod
    def of(cls, seed: str, bits: int, exponent: int = 65537, top: int = 0xFFF) -> Key:
        """A key from a name."""
        return cls(tuple(_primes(seed, bits, exponent, top)), exponent)

    @property
    def modulus(self) -> int:
        product = 1
        for prime in self.primes:
            product *= prime
        return product

    @property
    def size(self) -> int:
        return (self.modulus.bit_length() + 7) // 8

    @property
    def public(self) -> bytes:
        """DER of RSAPublicKey."""
        return rsa_public_key(self.modulus, self.exponent)

    def power(self, message: int) -> int:
        """The private operation, prime by prime (RFC 8017 section 5.1.2)."""
        total, product = 0, 1
        for prime in self.primes:
            part = pow(message % prime, pow(self.exponent, -1, prime - 1), prime)
            total += product * ((part - total) * pow(product, -1, prime) % prime)
            product *= prime
        return total

    def sign(self, message: bytes, salt: bytes = bytes(32), mask: str = "sha256") -> bytes:
        """A PSS signature over the message's SHA-256."""
        encoded = _encode(message, self.modulus.bit_length() - 1, salt, mask)
        return self.power(int.from_bytes(encoded, "big")).to_bytes(self.size, "big")

    def sign_v15(self, message: bytes) -> bytes:
        """The older padding of the same key, which must not pass."""
        info = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(message).digest()
        padded = b"\0\1" + b"\xff" * (self.size - len(info) - 3) + b"\0" + info
        return self.power(int.from_bytes(padded, "big")).to_bytes(self.size, "big")


def element(tag: int, content: bytes) -> bytes:
    """A DER element in its shortest form."""
    size = len(content)
    width = (size.bit_length() + 7) // 8
    head = bytes([size]) if size < 128 else bytes([0x80 | width]) + size.to_bytes(width, "big")
    return bytes([tag]) + head + content


def integer(number: int) -> bytes:
    """A DER INTEGER."""
    return element(2, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def rsa_public_key(modulus: int, exponent: int) -> bytes:
    """RFC 8017 A.1.1."""
    return element(0x30, integer(modulus) + integer(exponent))


def _mask(seed: bytes, length: int, name: str = "sha256") -> bytes:
    parts = [hashlib.new(name, seed + n.to_bytes(4, "big")).digest() for n in range(length // 20 + 1)]
    return b"".join(parts)[:length]


def _encode(message: bytes, bits: int, salt: bytes, mask: str) -> bytes:
    """EMSA-PSS-ENCODE."""
    length = (bits + 7) // 8
    digest = hashlib.sha256(bytes(8) + hashlib.sha256(message).digest() + salt).digest()
    block = bytes(length - len(salt) - 34) + b"\1" + salt
    masked = bytearray(a ^ b for a, b in zip(block, _mask(digest, len(block), mask), strict=True))
    masked[0] &= 0xFF >> (8 * length - bits)
    return bytes(masked) + digest + b"\xbc"


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """EMSA-PSS-VERIFY with a salt of 32 bytes, for a key as `rsa_public_key` writes it."""
    size = int.from_bytes(key[6:8], "big") - 1
    modulus, exponent = int.from_bytes(key[9 : 9 + size], "big"), int.from_bytes(key[11 + size :], "big")
    number = int.from_bytes(signature, "big")
    if len(signature) != size or number >= modulus:
        return False
    bits = modulus.bit_length() - 1
    length = (bits + 7) // 8
    encoded = pow(number, exponent, modulus).to_bytes(size, "big")[size - length :]
    block, digest = encoded[: length - 33], encoded[length - 33 : -1]
    plain = bytearray(a ^ b for a, b in zip(block, _mask(digest, len(block)), strict=True))
    plain[0] &= 0xFF >> (8 * length - bits)
    return encoded == _encode(message, bits, bytes(plain[-32:]), "sha256")
