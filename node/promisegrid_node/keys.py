"""This node's key on disk, and signatures by `cryptography`. Twin of worker/promisegrid_worker/keys.py.

The key is P-256, PKCS#8 in a file of 0600 in the home. It never leaves this object.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from promisegrid import did
from promisegrid.errors import LocalError

FILE: Final = "key.pem"
_ES256: Final = -7
_EDDSA: Final = -8
_PS256: Final = -37
_POINT_BYTES: Final = 65
_RSA_BITS: Final = range(2048, 8193)
_RSA_KEY_BYTES: Final = 1200
"""DER of the largest key: a modulus of 1024 bytes, a small exponent, and their headers."""
_RSA_EXPONENT_MAX: Final = (1 << 32) - 1
"""A giant exponent is legal and makes verification cost a thousand times as much."""
_KNOWN_MAX: Final = 1024
"""Public keys kept parsed; parsing a point costs half as much as verifying."""
_SHA256: Final = hashes.SHA256()
_ECDSA: Final = ec.ECDSA(_SHA256)
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class Keys:
    """The node's identity, and verification of everybody else's."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        self.public_key = private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.did = did.encode_p256(self.public_key)
        self._known: OrderedDict[tuple[int, bytes], PublicKey] = OrderedDict()

    @classmethod
    def open(cls, home: Path) -> Keys:
        """The key of a home, made when there is none. LocalError when the file cannot be trusted or read."""
        path = home / FILE
        if not path.exists():
            _write(path, ec.generate_private_key(ec.SECP256R1()))
        return cls(_read(path))

    def sign(self, message: bytes) -> bytes:
        """ES256: 64 bytes r‖s."""
        r, s = decode_dss_signature(self._private.sign(message, _ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def verify(self, alg: int, key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the signature holds; False, too, for a key or signature that cannot be read."""
        try:
            _verify(self._public(alg, key), message, signature)
        except (ValueError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True

    def _public(self, alg: int, key: bytes) -> PublicKey:
        known = self._known.get((alg, key))
        if known is None:
            known = self._known[alg, key] = _load(alg, key)
            if len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)
        return known


def _write(path: Path, private: ec.EllipticCurvePrivateKey) -> None:
    """Whole or not at all, never over another key, never readable by others, not even for a moment."""
    data = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    new = path.with_suffix(f".{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            with contextlib.suppress(FileExistsError):  # another process was quicker: its key is the key
                os.link(new, path)
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        finally:
            new.unlink()
    except OSError as error:
        raise LocalError(f"The key {path} cannot be written: {error.strerror}; use --home DIR.") from error


def _read(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(65_536)
    except OSError as error:
        raise LocalError(f"The key {path} cannot be read: {error.strerror}.") from error
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise LocalError(f"The key {path} can be read by others; run: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise LocalError(f"The key {path} is damaged; restore it, or move it away for a new one.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise LocalError(f"The key {path} is not a P-256 key; move it away for a new identity.")
    return key


def _load(alg: int, key: bytes) -> PublicKey:
    """ValueError or UnsupportedAlgorithm unless it is a key of that algorithm in its one spelling."""
    if alg == _ES256 and len(key) == _POINT_BYTES:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    if alg == _EDDSA:
        return ed25519.Ed25519PublicKey.from_public_bytes(key)
    if alg == _PS256 and len(key) <= _RSA_KEY_BYTES:
        return _rsa(key)
    raise ValueError(f"no key of algorithm {alg}")


def _rsa(key: bytes) -> rsa.RSAPublicKey:
    loaded = serialization.load_der_public_key(key)
    if not isinstance(loaded, rsa.RSAPublicKey) or loaded.key_size not in _RSA_BITS:
        raise ValueError("not an RSA key, or of a size that is refused")
    if loaded.public_numbers().e > _RSA_EXPONENT_MAX:
        raise ValueError("an RSA key with a giant exponent")
    if loaded.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1) != key:
        raise ValueError("an RSA key in another spelling than RSAPublicKey")
    return loaded


def _verify(key: PublicKey, message: bytes, signature: bytes) -> None:
    """InvalidSignature or ValueError unless it holds."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        if len(signature) != 64:
            raise InvalidSignature
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key.verify(encode_dss_signature(r, s), message, _ECDSA)
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, message)
    else:
        key.verify(signature, message, padding.PSS(padding.MGF1(_SHA256), _SHA256.digest_size), _SHA256)
