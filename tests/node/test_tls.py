"""Certificates: made once, kept private, pinned at first contact."""

from __future__ import annotations

import asyncio
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from tests.node.hosting import on_loop

from promisegrid.errors import LocalError
from promisegrid_node import tls

NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "pi.local"})


def test_a_certificate_is_made_once_and_names_everything_served(tmp_path: Path) -> None:
    first = tls.self_signed(tmp_path, NAMES)
    assert tls.self_signed(tmp_path, NAMES).fingerprint == first.fingerprint
    made = x509.load_pem_x509_certificate((tmp_path / "tls-cert.pem").read_bytes())
    named = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(named.get_values_for_type(x509.DNSName)) == {"localhost", "pi.local"}
    assert {str(ip) for ip in named.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}
    assert stat.S_IMODE((tmp_path / "tls-key.pem").stat().st_mode) == 0o600
    assert len(first.fingerprint.split(":")) == 32


def test_a_new_name_makes_a_new_certificate(tmp_path: Path) -> None:
    first = tls.self_signed(tmp_path, NAMES)
    assert tls.self_signed(tmp_path, NAMES | {"other.local"}).fingerprint != first.fingerprint


def test_files_that_are_no_certificate_are_named(tmp_path: Path) -> None:
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    with pytest.raises(LocalError, match=r"c\.pem is not a file: --tls-cert"):
        tls.from_files(cert, key)
    cert.write_text("x")
    key.write_text("y")
    with pytest.raises(LocalError, match="not a certificate and its key"):
        tls.from_files(cert, key)


def test_a_changed_certificate_is_refused(tmp_path: Path) -> None:
    pins = tls.Pins(tmp_path / "pins.json")
    pins.check("pi.local", 8420, b"first")
    pins.check("pi.local", 8420, b"first")
    pins.check("pi.local", 8421, b"second")
    with pytest.raises(LocalError, match="another certificate than before"):
        pins.check("pi.local", 8420, b"second")


def test_a_broken_pin_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "pins.json").write_text("not json")
    tls.Pins(tmp_path / "pins.json").check("pi.local", 8420, b"first")


@on_loop
async def test_a_self_signed_server_is_trusted_by_its_fingerprint(tmp_path: Path) -> None:
    made = tls.self_signed(tmp_path, NAMES)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=made.context)
    port = server.sockets[0].getsockname()[1]
    pin = await tls.trust("127.0.0.1", port, tls.Pins(tmp_path / "pins.json"))
    assert not isinstance(pin, bool)
    assert (
        tls.fingerprint(ssl.PEM_cert_to_DER_cert((tmp_path / "tls-cert.pem").read_text())) == made.fingerprint
    )
    assert pin.fingerprint.hex(":").upper() == made.fingerprint
    server.close()
