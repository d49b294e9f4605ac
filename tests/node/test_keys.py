"""The key on disk and OpenSSL's verification: the contract, and what can be wrong with a key file."""

from __future__ import annotations

import asyncio
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from tests import contracts, edges

from promisegrid import did
from promisegrid.effects import Effect, Sign, Verify
from promisegrid.errors import LocalError
from promisegrid_node.keys import FILE, Keys

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.open(tmp_path)


def performer(keys: Keys) -> contracts.Perform:
    async def perform(effects: Sequence[Effect]) -> list[object]:
        return [answer(keys, effect) for effect in effects]

    return perform


def answer(keys: Keys, effect: Effect) -> object:
    if isinstance(effect, Sign):
        return keys.sign(effect.message)
    assert isinstance(effect, Verify)
    return keys.verify(effect.alg, effect.key, effect.message, effect.signature)


@pytest.mark.parametrize("law", contracts.KEYS, ids=contracts.name)
def test_it_keeps_the_contract(law: contracts.Law, keys: Keys) -> None:
    asyncio.run(law(performer(keys)))


def test_what_it_signs_others_verify(keys: Keys) -> None:
    asyncio.run(contracts.signs_for(keys.public_key)(performer(keys)))


def test_the_edges_get_their_verdicts(keys: Keys) -> None:
    assert edges.wrong(lambda asked: [answer(keys, effect) for effect in asked]) == []


def test_the_identity_stays(tmp_path: Path, keys: Keys) -> None:
    assert Keys.open(tmp_path).did == keys.did == did.encode_p256(keys.public_key)
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_the_file_is_only_for_its_owner(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Keys.open(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700 | 0o010])
def test_a_key_that_others_can_read_is_not_used(tmp_path: Path, keys: Keys, mode: int) -> None:
    (tmp_path / FILE).chmod(mode)
    with pytest.raises(LocalError, match="can be read by others; run: chmod 600") as refused:
        Keys.open(tmp_path)
    assert str(tmp_path / FILE) in refused.value.text


def test_a_file_that_holds_no_p256_key_is_kept_and_named(tmp_path: Path) -> None:
    path = tmp_path / FILE
    other = ec.generate_private_key(ec.SECP384R1()).private_bytes(PEM, PKCS8, PLAIN)
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        PEM, PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    for content, why in (
        (b"", "damaged"),
        (b"noise" * 99, "damaged"),
        (locked, "damaged"),
        (other, "not a P-256"),
    ):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(LocalError, match=why):
            Keys.open(tmp_path)
        assert path.read_bytes() == content


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"absent.*cannot be written.*--home"):
        Keys.open(tmp_path / "absent")


def test_the_key_of_whoever_was_quicker_is_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Keys.open(tmp_path)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert Keys.open(tmp_path).did == first.did


def rsa_key(bits: int, exponent: int = 65_537) -> tuple[rsa.RSAPrivateKey, bytes]:
    private = rsa.generate_private_key(exponent, bits)
    der = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    return private, der


def ps256(private: rsa.RSAPrivateKey, message: bytes, salt: int = 32) -> bytes:
    return private.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256())


def test_rsa_keys_are_bounded_and_have_one_spelling(keys: Keys) -> None:
    private, der = rsa_key(2048)
    signature = ps256(private, b"m")
    assert keys.verify(-37, der, b"m", signature)
    assert not keys.verify(-37, der, b"m", ps256(private, b"m", salt=20))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    spki = private.public_key().public_bytes(serialization.Encoding.DER, form)
    assert not keys.verify(-37, spki, b"m", signature)
    weak, short = rsa_key(1024)
    assert not keys.verify(-37, short, b"m", ps256(weak, b"m"))


def test_a_giant_exponent_does_not_keep_us_busy(keys: Keys) -> None:
    """The signature holds, but to see it costs forty times as much: whoever made the key wants us to pay."""
    private, _ = rsa_key(2048)
    numbers = private.private_numbers()
    for exponent, holds in (((1 << 31) + 11, True), ((1 << 1999) + 1, False)):
        while math.gcd(exponent, (numbers.p - 1) * (numbers.q - 1)) != 1:
            exponent += 2
        odd = another_exponent(numbers, exponent)
        der = odd.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
        assert keys.verify(-37, der, b"m", ps256(odd, b"m")) is holds


def another_exponent(numbers: rsa.RSAPrivateNumbers, exponent: int) -> rsa.RSAPrivateKey:
    """The same modulus with another pair of exponents."""
    p, q = numbers.p, numbers.q
    secret = pow(exponent, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(exponent, p * q)
    parts = rsa.rsa_crt_dmp1(secret, p), rsa.rsa_crt_dmq1(secret, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, secret, *parts, public).private_key()


def test_parsed_keys_are_forgotten(keys: Keys) -> None:
    for number in range(1100):
        keys.verify(-8, number.to_bytes(32, "little"), b"m", bytes(64))
    assert len(keys._known) <= 1024
