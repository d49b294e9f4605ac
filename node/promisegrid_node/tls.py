"""HTTPS beyond loopback: the owner's certificate, or one made at first start.

A browser gives WebCrypto, locks and storage only to secure contexts. A self-signed certificate is shown by
its SHA-256 fingerprint, which the owner can compare with what the browser shows. On the dialling side a
self-signed certificate is pinned at first contact, and a changed one refused.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from promisegrid.errors import LocalError

LIFE_DAYS = 397
"""The longest life browsers accept for a server's certificate."""
RENEW_DAYS = 14
PINS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's TLS context and the SHA-256 fingerprint of its certificate, as browsers print it."""

    context: ssl.SSLContext
    fingerprint: str


def from_files(cert: Path, key: Path) -> Certificate:
    """The owner's certificate chain and key (PEM). LocalError names the file that cannot be used."""
    for path, option in ((cert, "--tls-cert"), (key, "--tls-key")):
        if not path.is_file():
            raise LocalError(f"{path} is not a file: {option} wants a PEM file.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
        leaf = x509.load_pem_x509_certificate(cert.read_bytes())
    except (ssl.SSLError, OSError, ValueError) as error:
        raise LocalError(f"{cert} and {key} are not a certificate and its key in PEM: {error}.") from error
    return Certificate(context, fingerprint(leaf.public_bytes(serialization.Encoding.DER)))


def self_signed(folder: Path, names: frozenset[str]) -> Certificate:
    """The certificate kept in `folder`, made anew when there is none, it is running out or lacks a name."""
    cert, key = folder / "tls-cert.pem", folder / "tls-key.pem"
    if not (cert.is_file() and key.is_file() and _still_good(cert, names)):
        _make(cert, key, names)
    return from_files(cert, key)


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate's DER, in the colon form browsers show."""
    return _colons(hashlib.sha256(der).digest())


def _colons(digest: bytes) -> str:
    return digest.hex(":").upper()


def _still_good(cert: Path, names: frozenset[str]) -> bool:
    try:
        found = x509.load_pem_x509_certificate(cert.read_bytes())
        held = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, OSError):
        return False
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=RENEW_DAYS)
    have = {*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))}
    return found.not_valid_after_utc > soon and {name.strip("[]") for name in names} <= have


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return x509.DNSName(name)


def _make(cert: Path, key: Path, names: frozenset[str]) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "PromiseGrid node")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=LIFE_DAYS))
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in sorted(names)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    _write_private(key, pem)
    _write_private(cert, built.public_bytes(serialization.Encoding.PEM))


def _write_private(path: Path, data: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    fresh.replace(path)


class Pins:
    """Self-signed certificates met when dialling: host:port → fingerprint, kept in one JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, host: str, port: int, der: bytes) -> aiohttp.Fingerprint:
        """What a connection to host:port must show; the first certificate met is remembered.

        LocalError when it is not the one remembered: somebody else answers there, or the node was made anew.
        """
        known = self._read()
        name, digest = f"{host}:{port}", hashlib.sha256(der).digest()
        held = known.get(name)
        if held is None:
            if len(known) < PINS_MAX:
                known[name] = digest.hex()
                _write_private(self._path, json.dumps(known, indent=1).encode())
        elif held != digest.hex():
            raise LocalError(
                f"{name} shows another certificate than before ({_colons(digest)}): if its owner renewed it,"
                f" remove the line {name!r} from {self._path}."
            )
        return aiohttp.Fingerprint(digest)

    def _read(self) -> dict[str, str]:
        try:
            known = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return {str(k): str(v) for k, v in known.items()} if isinstance(known, dict) else {}


async def trust(
    host: str, port: int, pins: Pins, address: str | None = None
) -> aiohttp.Fingerprint | bool:
    """What aiohttp's `ssl` option must be for host:port: True (a public certificate) or a pinned one.

    address: of the host, when its name is not to be looked up again.

    Raises OSError when nobody answers, LocalError when a pinned certificate changed.
    """
    try:
        _, writer = await asyncio.wait_for(_open(host, port, True, address), 10)
    except ssl.SSLCertVerificationError:
        pass
    else:
        writer.close()
        return True
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.wait_for(_open(host, port, anything, address), 10)
    session = writer.get_extra_info("ssl_object")
    der = session.getpeercert(binary_form=True)
    writer.close()
    return pins.check(host, port, der or b"")


async def _open(
    host: str, port: int, trusted: ssl.SSLContext | bool, address: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(address or host, port, ssl=trusted, server_hostname=host)
