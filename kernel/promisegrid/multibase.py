"""The text alphabets in which CIDs are met: base16, base32, base36 and base58btc.

Each text has one meaning and, given its alphabet, each byte string one text: letters outside the alphabet,
padding and stray trailing bits are refused. (Source: multiformats/multibase.)
"""

from __future__ import annotations

import base64
import binascii

BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = tuple(high + low for high in _BASE32 for low in _BASE32)
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_AT_ONCE = 10
"""Letters taken together, small enough for quick arithmetic: the long numbers are touched that much less."""


def base32(data: bytes) -> str:
    """Lower-case base32 without padding (RFC 4648 section 6)."""
    bits = 8 * len(data)
    digits = -(-bits // 10)
    number = int.from_bytes(data, "big") << (10 * digits - bits)
    text = "".join([_PAIRS[number >> shift & 1023] for shift in range(10 * digits - 10, -1, -10)])
    return text[: -(-bits // 5)]


def from_base32(text: str) -> bytes:
    """The bytes of lower-case unpadded base32; ValueError when it is anything else."""
    data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    if base32(data) != text:
        raise ValueError("base32 with stray letters or bits")
    return data


def base58(data: bytes) -> str:
    """Bitcoin's base58, a leading zero byte becoming a leading 1."""
    return _positional(data, BASE58)


def from_base58(text: str) -> bytes:
    """The bytes of base58btc; ValueError for letters outside the alphabet."""
    return _from_positional(text, BASE58)


def _positional(data: bytes, alphabet: str) -> str:
    number = int.from_bytes(data, "big")
    digits = ""
    while number:
        number, digit = divmod(number, len(alphabet))
        digits = alphabet[digit] + digits
    zeros = len(data) - len(data.lstrip(b"\0"))
    return alphabet[0] * zeros + digits


def _from_positional(text: str, alphabet: str) -> bytes:
    number, base = 0, len(alphabet)
    for start in range(0, len(text), _AT_ONCE):
        piece, letters = 0, text[start : start + _AT_ONCE]
        for letter in letters:
            piece = piece * base + alphabet.index(letter)
        number = number * base ** len(letters) + piece
    zeros = len(text) - len(text.lstrip(alphabet[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def decode(text: str) -> bytes:
    """The bytes of a text that begins with its multibase letter; ValueError with the reason otherwise.

    The work grows with the square of the length for base36 and base58: bound the text before calling.
    """
    prefix, body = text[:1], text[1:]
    if prefix in "BKF" and body == body.upper():
        prefix, body = prefix.lower(), body.lower()
    try:
        if prefix == "b":
            return from_base32(body)
        if prefix == "z":
            return from_base58(body)
        if prefix == "k":
            return _from_positional(body, BASE36)
        if prefix == "f" and body == body.lower() and body.isalnum():
            return binascii.unhexlify(body)
    except ValueError as error:
        raise ValueError(f"it has letters outside its alphabet ({prefix!r} …)") from error
    raise ValueError(f"{prefix!r} is not the multibase letter of base32, base36, base58btc or base16")


def base36(data: bytes) -> str:
    """Lower-case base36, the alphabet of IPNS names that fit a DNS label."""
    return _positional(data, BASE36)
