"""Second opinions on COSE and CWT: python-cwt and pycose, every algorithm, tagged or not, attached or not.

And the examples that RFC 9052 and RFC 8392 print. What is only ours, the low s, is made or left aside here.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from pycose.algorithms import EdDSA, Es256, Ps256
from pycose.headers import Algorithm
from pycose.keys import EC2Key, OKPKey, RSAKey
from pycose.keys.curves import P256
from pycose.keys.curves import Ed25519 as Curve
from pycose.messages import Sign1Message
from tests import edges

from promisegrid import claims, cose, did
from promisegrid.capability import Terms, promise
from promisegrid.cbor import Dialect
from promisegrid.cid import Cid
from promisegrid.effects import Sign, Verify
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid_node.keys import Keys

ROOT = Path(__file__).resolve().parent.parent.parent
CBOR = Dialect(name="test", links=False, int_keys=True)
TYP = "grid-statement"
PAYLOAD = b"This is the content."
Referee = Callable[..., bytes]
FORMS = [(tagged, detached) for tagged in (True, False) for detached in (True, False)]


@dataclass(frozen=True)
class Signer:
    """A key in everybody's words."""

    alg: int
    did: str
    jwk: dict[str, str]
    cose_key: Any
    cose_alg: Any
    sign: Callable[[bytes], bytes]


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def p256_signer() -> Signer:
    secret = 0x1234567890ABCDEF
    private = ec.derive_private_key(secret, ec.SECP256R1())
    public = private.public_key().public_numbers()
    x, y, d = (value.to_bytes(32, "big") for value in (public.x, public.y, secret))

    def sign(message: bytes) -> bytes:
        r, s = utils.decode_dss_signature(private.sign(message, ec.ECDSA(hashes.SHA256())))
        return cose.low_s(r.to_bytes(32, "big") + s.to_bytes(32, "big"))

    jwk = {"kty": "EC", "crv": "P-256", "alg": "ES256", "x": text(x), "y": text(y), "d": text(d)}
    key = EC2Key(crv=P256, x=x, y=y, d=d)
    return Signer(-7, did.encode_p256(b"\4" + x + y), jwk, key, Es256, sign)


def ed25519_signer() -> Signer:
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    x, d = private.public_key().public_bytes_raw(), private.private_bytes_raw()
    jwk = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": text(x), "d": text(d)}
    return Signer(-8, edges.ed25519_name(x), jwk, OKPKey(crv=Curve, x=x, d=d), EdDSA, private.sign)


def rsa_signer() -> Signer:
    private = rsa.generate_private_key(65537, 2048)
    numbers, public = private.private_numbers(), private.public_key()
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    parts = {
        "n": numbers.public_numbers.n,
        "e": 65537,
        "d": numbers.d,
        "p": numbers.p,
        "q": numbers.q,
        "dp": numbers.dmp1,
        "dq": numbers.dmq1,
        "qi": numbers.iqmp,
    }
    jwk = {"kty": "RSA", "alg": "PS256", **{name: text(number(value)) for name, value in parts.items()}}
    names = {"dp": "dp", "dq": "dq", "qi": "qinv"}
    key = RSAKey(**{names.get(name, name): number(value) for name, value in parts.items()})
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    sign = lambda message: private.sign(message, scheme, hashes.SHA256())  # noqa: E731
    return Signer(-37, edges.rsa_name(der), jwk, key, Ps256, sign)


@pytest.fixture(scope="module", params=[p256_signer, ed25519_signer, rsa_signer])
def signer(request: pytest.FixtureRequest) -> Signer:
    made: Signer = request.param()
    return made


@pytest.fixture(scope="module")
def referee() -> Iterator[Referee]:
    """python-cwt, asked by name; its objection comes out as a ValueError."""
    python = ROOT / ".venv-cwt" / "bin" / "python"
    if not python.exists():
        pytest.fail("python-cwt is missing: run `./build.sh test` once, which makes .venv-cwt.")
    script = Path(__file__).with_name("cwt_referee.py")
    pipe = subprocess.PIPE
    with subprocess.Popen([python, script], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None and process.stdout is not None

        def ask(do: str, **request: object) -> bytes:
            spelled = {key: part.hex() if isinstance(part, bytes) else part for key, part in request.items()}
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps({"do": do, **spelled}) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            if "error" in answer:
                raise ValueError(answer["error"])
            return bytes.fromhex(answer["ok"])

        yield ask
        process.stdin.close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys.open(tmp_path_factory.mktemp("home"))


def holds(keys: Keys, found: cose.AnySign1, payload: bytes, signer: str) -> bool:
    """The kernel's verdict by OpenSSL, s lowered."""
    sign1 = found.sign1
    low = cose.low_s(sign1.signature) if sign1.alg in (-7, -9) else sign1.signature
    lowered = cose.Sign1(sign1.protected, sign1.alg, sign1.typ, sign1.payload, low)
    verdict = cose.holds(lowered, payload, signer)
    try:
        effect = verdict.send(None)
        assert isinstance(effect, Verify)
        verdict.send(keys.verify(effect.alg, effect.key, effect.message, effect.signature))
    except StopIteration as end:
        return bool(end.value)
    raise AssertionError


def ours(signer: Signer, tagged: bool, detached: bool) -> bytes:
    """A COSE_Sign1 as this kernel writes it."""
    protected = cose.protected_header(TYP, signer.alg)
    signature = signer.sign(cose.to_be_signed(protected, PAYLOAD))
    return cose.assemble(protected, None if detached else PAYLOAD, signature, (18,) if tagged else ())


def by_pycose(data: bytes) -> Sign1Message:
    """Read by pycose, the tag taken off by cbor2: pycose's own reader of tags does not know cbor2 6."""
    item = cbor2.loads(data)
    protected, unprotected, payload, signature = item.value if isinstance(item, cbor2.CBORTag) else item
    return Sign1Message.from_cose_obj([protected, dict(unprotected), payload, signature], True)


@pytest.mark.parametrize(("tagged", "detached"), FORMS)
def test_they_read_ours(signer: Signer, referee: Referee, tagged: bool, detached: bool) -> None:
    data = ours(signer, tagged, detached)
    payload = PAYLOAD if detached else None
    secret = {"d", "p", "q", "dp", "dq", "qi"}
    public = {name: value for name, value in signer.jwk.items() if name not in secret}
    assert referee("verify", key=public, data=data, payload=payload) == PAYLOAD
    with pytest.raises(ValueError, match="VerifyError"):
        referee("verify", key=public, data=data[:-1] + bytes([data[-1] ^ 1]), payload=payload)
    message = by_pycose(data)
    message.key = signer.cose_key
    assert message.verify_signature(detached_payload=payload)
    if detached:
        assert not message.verify_signature(detached_payload=PAYLOAD + b"!")


@pytest.mark.parametrize(("tagged", "detached"), FORMS)
def test_we_read_theirs(signer: Signer, referee: Referee, keys: Keys, tagged: bool, detached: bool) -> None:
    header = CBOR.encode({1: signer.alg, 16: TYP})
    message = Sign1Message(
        phdr={Algorithm: signer.cose_alg, 16: TYP}, payload=None if detached else PAYLOAD, key=signer.cose_key
    )
    theirs = [
        referee("sign", key=signer.jwk, payload=PAYLOAD, header=header, tagged=tagged, detached=detached),
        message.encode(tag=tagged, detached_payload=PAYLOAD if detached else None),
    ]
    for data in theirs:
        found = cose.read_any(data)
        assert found.tags == ((18,) if tagged else ()) and found.header == {1: signer.alg, 16: TYP}
        assert found.sign1.payload == (None if detached else PAYLOAD) and found.sign1.typ == TYP
        assert holds(keys, found, PAYLOAD, signer.did)
        assert not holds(keys, found, PAYLOAD + b"!", signer.did)
        if tagged:
            assert cose.read(data, TYP) == found.sign1
        else:
            with pytest.raises(RemoteError, match="carries the tag"):
                cose.read(data, TYP)


@pytest.mark.parametrize("tagged", [True, False])
def test_a_cwt_of_theirs(signer: Signer, referee: Referee, keys: Keys, tagged: bool) -> None:
    table = {1: "coap://as", 2: "sub", 3: "coap://light", 4: 1 << 40, 5: 1, 6: 2, 7: b"12345678"}
    data = referee("encode_cwt", key=signer.jwk, claims=CBOR.encode(table), tagged=tagged)
    found = cose.read_any(data)
    assert found.tags == ((61, 18) if tagged else (18,)) and found.sign1.alg == signer.alg
    assert holds(keys, found, found.sign1.payload or b"", signer.did)
    content = claims.decode(found.sign1.payload or b"", Limits())
    assert (content.iss, content.aud, content.sub) == ("coap://as", "coap://light", "sub")
    assert (content.exp, content.nbf, content.iat, content.cti) == (1 << 40, 1, 2, b"12345678")


@pytest.mark.parametrize("tags", [(18,), (61, 18)])
def test_a_cwt_of_ours(signer: Signer, referee: Referee, tags: tuple[int, ...]) -> None:
    content = claims.Claims(signer.did, signer.did, 1 << 40, b"12345678", iat=1, nbf=2, body={"a": [1, b"x"]})
    protected = cose.protected_header("grid-capability", signer.alg)
    signature = signer.sign(cose.to_be_signed(protected, content.encode()))
    data = cose.assemble(protected, content.encode(), signature, tags)
    assert cbor2.loads(referee("decode_cwt", key=signer.jwk, data=data)) == cbor2.loads(content.encode())


def test_a_capability_is_a_cwt_bound_to_a_key(referee: Referee) -> None:
    """RFC 8747: what python-cwt reads in `cnf` is the holder's name."""
    signer = p256_signer()
    grid, code, times = Cid.of(b"grid"), Cid.of(b"code"), (1_700_000_000, None, 1 << 40)
    made = promise(Terms(("code", code)), grid, signer.did, "did:key:zHolder", times, b"12345678", Limits())
    try:
        effect = made.send(None)
        assert isinstance(effect, Sign)
        made.send(signer.sign(effect.message))
    except StopIteration as end:
        token = end.value.raw
    table = cbor2.loads(referee("decode_cwt", key=signer.jwk, data=token))
    assert (table[1], table[3], table[4]) == (signer.did, "did:key:zHolder", 1 << 40)
    assert table[8] == {3: b"did:key:zHolder"}


# -- printed examples --------------------------------------------------------------------------------

RFC_9052_KEY = (
    "bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff",
    "20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e",
)
RFC_9052_C_2_1 = (
    "d28443a10126a10442313154546869732069732074686520636f6e74656e742e58408eb33e4ca31d1c465ab05aac34cc6b23d58fef5c"
    "083106c4d25a91aef0b0117e2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36"
)
RFC_8392_KEY = (
    "143329cce7868e416927599cf65a34f3ce2ffda55a7eca69ed8919a394d42f0f",
    "60f7f1a780d8a783bfb7a2dd6b2796e8128dbbcef9d3d168db9529971a36e7b9",
)
RFC_8392_A_3 = (
    "d28443a10126a104524173796d6d657472696345434453413235365850a70175636f61703a2f2f61732e6578616d706c652e636f6d02"
    "656572696b77037818636f61703a2f2f6c696768742e6578616d706c652e636f6d041a5612aeb0051a5610d9f0061a5610d9f007420b"
    "7158405427c1ff28d23fbad1f29c4c7c6a555e601d6fa29f9179bc3d7438bacaca5acd08c8d4d4f96131680c429a01f85951ecee743a"
    "52b9b63632c57209120e1c9e30"
)


def name_of(key: tuple[str, str]) -> str:
    return did.encode_p256(b"\4" + bytes.fromhex(key[0] + key[1]))


def jwk_of(key: tuple[str, str], kid: str) -> dict[str, str]:
    x, y = (text(bytes.fromhex(part)) for part in key)
    return {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": kid, "x": x, "y": y}


def test_the_example_of_rfc_9052(keys: Keys, referee: Referee) -> None:
    data = bytes.fromhex(RFC_9052_C_2_1)
    found = cose.read_any(data)
    assert found.tags == (18,) and found.header == {1: -7} and found.unprotected == {4: b"11"}
    assert found.sign1.payload == PAYLOAD and holds(keys, found, PAYLOAD, name_of(RFC_9052_KEY))
    assert referee("verify", key=jwk_of(RFC_9052_KEY, "11"), data=data, payload=None) == PAYLOAD
    with pytest.raises(RemoteError, match="Unprotected"):
        cose.read(data, TYP)


def test_the_example_of_rfc_8392(keys: Keys, referee: Referee) -> None:
    data = bytes.fromhex(RFC_8392_A_3)
    found = cose.read_any(data)
    payload = found.sign1.payload or b""
    assert holds(keys, found, payload, name_of(RFC_8392_KEY))
    assert CBOR.decode(payload) == {
        claims.ISS: "coap://as.example.com",
        claims.SUB: "erikw",
        claims.AUD: "coap://light.example.com",
        claims.EXP: 1444064944,
        claims.NBF: 1443944944,
        claims.IAT: 1443944944,
        claims.CTI: bytes.fromhex("0b71"),
    }
    kid = "AsymmetricECDSA256"
    assert referee("decode_cwt", key=jwk_of(RFC_8392_KEY, kid), data=data) == payload
    with pytest.raises(RemoteError, match="cti"):  # two bytes are too few for the grid
        claims.decode(payload, Limits())
    again = cose.assemble(found.sign1.protected, payload, found.sign1.signature)
    assert by_pycose(again).payload == payload


def test_the_cwt_tag_of_rfc_8392_is_read(keys: Keys) -> None:
    found = cose.read_any(b"\xd8\x3d" + bytes.fromhex(RFC_8392_A_3))
    assert found.tags == (61, 18) and holds(keys, found, found.sign1.payload or b"", name_of(RFC_8392_KEY))
