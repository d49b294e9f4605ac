"""This node's key on disk, and signatures by `cryptography`. Twin of worker/promisegrid_worker/keys.py.

The key is P-256, PKCS#8 in a file of 0600 in the home. It never leaves this object.
"""

from __future__ import annotations

import os
from functools import lru_cache
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
_RSA_BITS: Final = range(2048, 8193)
_SHA256: Final = hashes.SHA256()
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class Keys:
    """The node's identity, and verification of everybody else's."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        self.public_key = private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.did = did.encode_p256(self.public_key)

    @classmethod
    def open(cls, home: Path) -> Keys:
        """The key of a home, made when there is none. LocalError when the file cannot be trusted or read."""
        path = home / FILE
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return cls(_read(path))
        except OSError as error:
            raise LocalError(f"{path} cannot be written: {error.strerror}; use --home DIR.") from error
        private = ec.generate_private_key(ec.SECP256R1())
        with os.fdopen(descriptor, "wb") as file:
            file.write(
                private.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            file.flush()
            os.fsync(descriptor)
        return cls(private)

    def sign(self, message: bytes) -> bytes:
        """ES256: 64 bytes r‖s."""
        r, s = decode_dss_signature(self._private.sign(message, ec.ECDSA(_SHA256)))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def verify(self, alg: int, key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the signature holds; False, too, for a key or signature that cannot be read."""
        try:
            return _verify(alg, _load(alg, key), message, signature)
        except (ValueError, InvalidSignature, UnsupportedAlgorithm):
            return False


def _read(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        status = path.stat()
        data = path.read_bytes()
    except OSError as error:
        raise LocalError(f"The key {path} cannot be read: {error.strerror}.") from error
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise LocalError(f"The key {path} can be read by others; run: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise LocalError(f"The key {path} is damaged; restore it, or move it away for a new identity.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise LocalError(f"The key {path} is not a P-256 key; move it away for a new identity.")
    return key


@lru_cache(maxsize=1024)
def _load(alg: int, key: bytes) -> PublicKey:
    if alg == _ES256:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    if alg == _EDDSA:
        return ed25519.Ed25519PublicKey.from_public_bytes(key)
    if alg == _PS256:
        loaded = serialization.load_der_public_key(key)
        if isinstance(loaded, rsa.RSAPublicKey) and loaded.key_size in _RSA_BITS:
            return loaded
    raise ValueError(f"no key of algorithm {alg}")


def _verify(alg: int, key: PublicKey, message: bytes, signature: bytes) -> bool:
    if isinstance(key, ec.EllipticCurvePublicKey):
        if len(signature) != 64:
            return False
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(_SHA256))
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, message)
    else:
        key.verify(signature, message, padding.PSS(padding.MGF1(_SHA256), 32), _SHA256)
    return True
