"""What is remembered of calls by their bytes, against reading them anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from promisegrid import claims
from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.effects import Budget
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.recall import Recall
from promisegrid.task import Task

LIMITS = Limits()
CODE = Cid.of(b"module")
CALL = Claims(
    iss="did:key:z" + "a" * 48, aud="did:key:z" + "b" * 48, exp=1_795_000_600, iat=1_795_000_000,
    cti=bytes(16), call=("add_one", (3, "four")), proofs=(b"a promise",), budget=Budget(fuel=7), files=CODE,
)  # fmt: skip


def outcome(read: Callable[[], Claims]) -> object:
    """The claims, or the code of the refusal."""
    try:
        return read()
    except RemoteError as wrong:
        return wrong.code


def same(recall: Recall, data: bytes) -> None:
    anew = outcome(lambda: claims.decode(data, LIMITS))
    assert outcome(lambda: recall.claims(data)) == anew
    assert outcome(lambda: recall.claims(data)) == anew


@pytest.mark.parametrize(
    "content",
    [
        CALL,
        replace(CALL, sub="did:key:zc", nbf=1_795_000_000),
        replace(CALL, sub="did:key:zc"),
        replace(CALL, iat=None),
        replace(CALL, cti=bytes(15)),
        replace(CALL, iss="short"),
        replace(CALL, call=None, body={"a": [1, None, 2.5]}),
        replace(CALL, exp=65_535, iat=65_536),
        replace(CALL, exp=1 << 32),
        replace(CALL, fresh=True, func="f", extra={-70_000: "x"}),
        replace(CALL, call=("f", (bytes(4096),))),
    ],
)
def test_what_is_remembered_reads_as_anew_whatever_is_changed(content: Claims) -> None:
    data, recall = content.encode(), Recall(LIMITS)
    same(recall, data)
    for at in range(min(len(data), 420)):
        for flip in (1, 0x20, 0x80):
            same(recall, data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
        same(recall, data[:at])
        same(recall, data[:at] + data[at + 1 :])
        same(recall, data[:at] + b"\x00" + data[at:])


def test_bytes_that_only_look_like_times_are_none() -> None:
    """A text that holds what times look like, at every place where they might be taken for some."""
    recall = Recall(LIMITS)
    inner = "\x03x\x01z" + "\x04\x1aABCD" + "\x06\x1aABCD" + "\x07P" + "n" * 16 + ":\x00\x01\x00\x00"
    for pad in range(120):
        for letter in "mn":
            text = "c" * pad + inner.replace("n", letter) + "c" * 40
            same(recall, replace(CALL, iss="a", sub=text).encode())
            same(recall, replace(CALL, iss="a" * 30, aud=text).encode())
            same(recall, replace(CALL, iss="a" * 30, sub=text).encode())
            same(recall, replace(CALL, iss="a" * 30, sub="a", aud=text).encode())


def test_times_that_are_not_in_their_shortest_form_are_refused() -> None:
    data, recall = CALL.encode(), Recall(LIMITS)
    recall.claims(data)
    for time in (1_795_000_600, 1_795_000_000):
        wrong = data.replace(time.to_bytes(4, "big"), (65_535).to_bytes(4, "big"))
        assert wrong != data and outcome(partial(recall.claims, wrong)) == "bad_claims"


def test_times_and_number_are_those_of_the_message_at_hand() -> None:
    recall = Recall(LIMITS)
    for number in range(5):
        content = replace(CALL, exp=CALL.exp + number, iat=1_795_000_000 - number, cti=bytes([number] * 16))
        assert recall.claims(content.encode()) == content


def test_a_task_comes_with_its_block_when_it_comes_again_and_no_other_task_does() -> None:
    recall, other = Recall(LIMITS), Cid.of(b"another module")
    for code in (CODE, other):
        for args in ((3,), (True,), (3.0,), ({"grid/message": b"x"},), ([1],)):
            for number in range(4):
                sent = replace(CALL, cti=bytes([number] * 16), call=("f", args), files=None)
                content = recall.claims(sent.encode())
                task = recall.task(code, content)
                anew = Task(code, "f", args)
                assert task.block(LIMITS) == anew.block(LIMITS) and type(task.args[0]) is type(args[0])
                nested = isinstance(args[0], dict)
                assert (task.named is not None) == ((number > 0 or code is other) and not nested)


def test_no_more_is_remembered_than_its_limits() -> None:
    recall = Recall(Limits(calls=4))
    for number in range(64):
        for _ in range(3):
            content = recall.claims(replace(CALL, call=("f", (number,))).encode())
            recall.task(CODE, content)
    assert len(recall._claims) == 4 and len(recall._tasks) == 4


