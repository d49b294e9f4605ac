"""Envelope, claims and frames: what is written is read, and a message has one spelling, so one name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.test_fuzz import A_CID, CLAIMS, FRAMES, LIMITS, MESSAGE, SIGN1

from promisegrid import claims, envelope, frames
from promisegrid.cbor import byte_string
from promisegrid.cid import Cid
from promisegrid.effects import Budget
from promisegrid.errors import RemoteError

NOW_MS = 1_794_999_999_000
numbers = st.integers(1, (1 << 53) - 1)
texts = st.text(min_size=1, max_size=30)
cids = st.builds(Cid.of, st.binary(max_size=8), st.sampled_from(["raw", "dag-cbor"]))
maybe = st.none() | cids
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.binary(max_size=9)
    | st.text(max_size=9)
    | cids
)
values = st.recursive(
    plain,
    lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=4), v, max_size=4),
    max_leaves=8,
)
any_claims = st.builds(
    claims.Claims,
    iss=texts,
    aud=texts,
    exp=numbers,
    cti=st.binary(min_size=8, max_size=64),
    iat=st.none() | numbers,
    nbf=st.none() | numbers,
    call=st.none() | st.tuples(texts, st.lists(values, max_size=3).map(tuple)),
    files=maybe,
    stdin=maybe,
    budget=st.builds(Budget, *[st.none() | numbers] * 4),
    reply_to=maybe,
    body=values,
    refusal=st.none() | st.tuples(texts, texts),
    proofs=st.lists(st.binary(max_size=9), max_size=3).map(tuple),
    extra=st.dictionaries(st.integers(100, 200), values, max_size=2),
)


@given(any_claims)
@settings(max_examples=120, deadline=None)
def test_claims_that_are_written_are_read(content: claims.Claims) -> None:
    assert claims.decode(content.encode(), LIMITS) == content


@given(any_claims, cids, cids)
@settings(max_examples=60, deadline=None)
def test_a_message_that_is_written_is_read(content: claims.Claims, protocol: Cid, grid: Cid) -> None:
    signed = envelope.prepare(protocol, grid, content.encode())
    raw = envelope.seal(signed, SIGN1)
    opened = envelope.open_message(raw, grid, 1 << 20)
    assert (opened.protocol, opened.grid, opened.claims) == (protocol, grid, content.encode())
    assert opened.signed == signed and opened.name == Cid.of(raw)


def test_the_times_of_claims() -> None:
    now_s = NOW_MS // 1000
    for changes, code in (
        ({}, None),
        ({"exp": now_s - 60}, None),
        ({"exp": now_s - 61}, "expired"),
        ({"exp": now_s + 24 * 3600 + 60}, None),
        ({"exp": now_s + 24 * 3600 + 61}, "bad_claims"),
        ({"nbf": now_s + 60}, None),
        ({"nbf": now_s + 61}, "not_yet_valid"),
        ({"iat": now_s + 61}, "not_yet_valid"),
    ):
        content = (
            replace(CLAIMS, exp=now_s + 10, **changes) if "exp" not in changes else replace(CLAIMS, **changes)
        )
        try:
            claims.check_times(content, NOW_MS, LIMITS)
        except RemoteError as wrong:
            assert wrong.code == code, changes
        else:
            assert code is None, changes


BAD: dict[str, tuple[int, object]] = {
    "a sender of bytes": (claims.ISS, b"did"),
    "no audience": (claims.AUD, ""),
    "a text for a time": (claims.EXP, "soon"),
    "half a second": (claims.EXP, 1.5),
    "true for a time": (claims.IAT, True),
    "before 1970": (claims.NBF, -1),
    "beyond 53 bits": (claims.EXP, 1 << 53),
    "a number cut short": (claims.CTI, b"1234567"),
    "a number too long": (claims.CTI, bytes(65)),
    "a call of one": (claims.CALL, ["f"]),
    "a call without a name": (claims.CALL, ["", []]),
    "a call without a list": (claims.CALL, ["f", {}]),
    "too many arguments": (claims.CALL, ["f", [0] * 1025]),
    "files by text": (claims.FILES, "bafkqaaa"),
    "stdin by value": (claims.STDIN, b"typed"),
    "an answer to nothing": (claims.REPLY_TO, 1),
    "a budget of lists": (claims.BUDGET, []),
    "a budget of unknown things": (claims.BUDGET, {"money": 1}),
    "a budget below zero": (claims.BUDGET, {"fuel": -1}),
    "a budget of half": (claims.BUDGET, {"time": 0.5}),
    "a refusal of one": (claims.REFUSAL, ["trap"]),
    "nine proofs": (claims.PROOFS, [b""] * 9),
    "a proof of text": (claims.PROOFS, ["proof"]),
}


@pytest.mark.parametrize("what", BAD)
def test_claims_of_the_wrong_kind(what: str) -> None:
    key, value = BAD[what]
    table = claims._DIALECT.decode(CLAIMS.encode())
    assert isinstance(table, dict)
    with pytest.raises(RemoteError) as wrong:
        claims.decode(claims._DIALECT.encode({**table, key: value}), LIMITS)
    assert wrong.value.code == "bad_claims"


@pytest.mark.parametrize("refusal", [("x" * 65, "y"), ("x", "y" * (LIMITS.text_chars + 1))])
def test_a_refusal_fits_a_screen(refusal: tuple[str, str]) -> None:
    content = replace(CLAIMS, refusal=refusal)
    with pytest.raises(RemoteError) as wrong:
        claims.decode(content.encode(), LIMITS)
    assert wrong.value.code == "bad_claims"


# -- the envelope --------------------------------------------------------------------------------------------


def test_a_length_has_one_spelling() -> None:
    at = MESSAGE.index(b"\x58\x25\x00\x01")
    longer = MESSAGE[:at] + b"\x59\x00\x25" + MESSAGE[at + 2 :]
    with pytest.raises(RemoteError) as wrong:
        envelope.open_message(longer, A_CID, 1 << 20)
    assert wrong.value.code == "malformed"


def test_a_link_has_its_zero_byte_and_one_spelling() -> None:
    tail = MESSAGE[1 + 5 + 4 + 1 + len(bytes(A_CID)) :]
    for content in (
        bytes(A_CID),
        b"\0",
        b"\1" + bytes(A_CID),
        b"\0" + bytes(A_CID) + b"\0",
        b"\0" + bytes(200),
    ):
        raw = b"\x85\x64grid\xd8\x2a" + byte_string(content) + tail
        with pytest.raises(RemoteError) as wrong:
            envelope.open_message(raw, A_CID, 1 << 20)
        assert wrong.value.code == "bad_cid"


def test_a_length_beyond_the_bytes_costs_nothing() -> None:
    with pytest.raises(RemoteError) as wrong:
        envelope.open_message(b"\x85\x64grid\xd8\x2a\x5a\xff\xff\xff\xff", A_CID, 1 << 20)
    assert wrong.value.code == "malformed"


# -- frames --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(FRAMES)))
def test_every_kind_of_frame_is_read_as_it_was_written(number: int) -> None:
    frame = frames.decode(FRAMES[number], 1 << 20)
    assert type(frame) is frames.KINDS[number] and frames.encode(frame) == FRAMES[number]


def test_a_kind_keeps_its_number() -> None:
    names = "Hello Proof Join Admitted Message Refusal Want BlockFrame Credit Progress Ping Pong Status"
    names += " Cancel Dial Dialled HangUp Relayed Window Near Seek Sought Piece"
    assert [kind.__name__ for kind in frames.KINDS] == names.split()


@pytest.mark.parametrize(
    "data",
    ["80", "f6", "00", "8120", "810d", "8160", "81f5", "820a61", "820af5", "830a0101", "810a", "820a00ff"],
)
def test_what_is_no_frame(data: str) -> None:
    with pytest.raises(RemoteError) as wrong:
        frames.decode(bytes.fromhex(data), 1 << 20)
    assert wrong.value.code == "malformed"


def test_a_frame_is_bounded_before_it_is_read() -> None:
    with pytest.raises(RemoteError) as wrong:
        frames.decode(bytes(100), 99)
    assert wrong.value.code == "too_large"
    with pytest.raises(RemoteError):
        frames.decode(frames.encode(frames.Refusal("trap", "x" * 2049, None)), 1 << 20)
