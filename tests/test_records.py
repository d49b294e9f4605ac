"""Small signed or named records: genesis, task, result, receipt; and what they rest on."""

from __future__ import annotations

import dataclasses

import pytest
from tests.test_cose import DID, drive
from tests.test_fuzz import A_CID, GENESIS, LIMITS, RESULT

from promisegrid import dagcbor, genesis, membership, receipt, task
from promisegrid.cid import Cid
from promisegrid.entropy import Entropy
from promisegrid.errors import CODES, RemoteError
from promisegrid.limits import Limits
from promisegrid.receipt import Receipt
from promisegrid.task import Result, Task


def test_a_task_says_what_was_asked_and_nothing_else() -> None:
    asked = Task(A_CID, "f", (1, "two"))
    assert dagcbor.decode(asked.block(LIMITS).data) == {"code": A_CID, "func": "f", "args": [1, "two"]}
    whole = Task(A_CID, "f", (), A_CID, A_CID).block(LIMITS)
    assert set(dagcbor.decode(whole.data)) == {"code", "func", "args", "files", "stdin"}
    assert whole.cid == Cid.of(whole.data, "dag-cbor") != asked.block(LIMITS).cid
    assert str(Task(A_CID, "f").block(LIMITS).cid).startswith("bafy")


def test_a_task_without_a_function_has_no_name() -> None:
    with pytest.raises(AssertionError):
        Task(A_CID).block(LIMITS)


RESULTS = [
    Result(0, A_CID, A_CID),
    Result(2**32 - 1, A_CID, A_CID, A_CID),
    Result(value=None),
    Result(value={"a": [1.5, b"", A_CID]}),
]


@pytest.mark.parametrize("number", range(len(RESULTS)))
def test_a_result_is_read_as_it_was_written(number: int) -> None:
    assert task.read_result(RESULTS[number].block().data) == RESULTS[number]


@pytest.mark.parametrize(
    "value",
    [
        None, [], {}, {"value": 1, "exit": 0}, {"exit": 0}, {"exit": "0", "stdout": A_CID, "stderr": A_CID},
        {"exit": -1, "stdout": A_CID, "stderr": A_CID}, {"exit": 0, "stdout": b"", "stderr": A_CID},
        {"exit": 1 << 32, "stdout": A_CID, "stderr": A_CID}, {"exit": True, "stdout": A_CID, "stderr": A_CID},
        {"exit": 0, "stdout": A_CID, "stderr": A_CID, "files": None},
        {"exit": 0, "stdout": A_CID, "stderr": A_CID, "more": A_CID},
    ],
)  # fmt: skip
def test_what_is_no_result(value: object) -> None:
    with pytest.raises(RemoteError) as wrong:
        task.read_result(dagcbor.encode(value))
    assert wrong.value.code == "malformed"
    assert task.read_result(RESULT).exit == 3


def test_a_receipt_states_and_is_verified() -> None:
    claim = Receipt(A_CID, A_CID, DID, "engine", None, 65_536, A_CID)
    block = drive(receipt.seal(claim))
    assert block.cid == Cid.of(block.data) and drive(receipt.verify(block.data)) == claim
    for at in range(0, len(block.data), 9):
        changed = block.data[:at] + bytes([block.data[at] ^ 4]) + block.data[at + 1 :]
        assert drive(receipt.verify(changed)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"task": "bafkqaaa"}, {"result": None}, {"executor": ""}, {"executor": "x" * 2000},
        {"engine": "x" * 81}, {"fuel": -1}, {"fuel": True}, {"fuel": 1.5}, {"memory": None}, {"wasi": b""},
        {"meter": "one"}, {"more": 1},
    ],
)  # fmt: skip
def test_what_is_no_receipt(change: dict[str, object]) -> None:
    fields = {field.name: None for field in dataclasses.fields(Receipt)}
    good = {
        "task": A_CID,
        "result": A_CID,
        "executor": DID,
        "engine": "",
        "memory": 0,
        "fuel": None,
        "wasi": None,
        "meter": None,
    }
    assert set(good) == set(fields)
    payload = dagcbor.encode({**good, **change})
    data = drive(receipt.cose.sign("grid-receipt", payload, False))
    with pytest.raises(RemoteError) as wrong:
        receipt.read(data)
    assert wrong.value.code == "malformed" and drive(receipt.verify(data)) is None


def test_a_grid_is_the_name_of_its_genesis() -> None:
    grid, founded = genesis.read(GENESIS)
    assert grid == Cid.of(GENESIS, "dag-cbor") == founded.block().cid


@pytest.mark.parametrize(
    "change",
    [
        {"founder": "bob"}, {"founder": 1}, {"name": "x" * 81}, {"name": None}, {"nonce": b"short"},
        {"rules": []}, {"more": 1}, {"rules": {"r": "x" * 20_000}},
    ],
)  # fmt: skip
def test_what_is_no_genesis(change: dict[str, object]) -> None:
    with pytest.raises(RemoteError):
        genesis.read(dagcbor.encode({**dagcbor.decode(GENESIS), **change}))


def test_a_membership_is_verified_by_whoever_knows_the_founder() -> None:
    made = drive(membership.promise(A_CID, DID, None, "did:key:zMember", b"12345678", 1000, LIMITS))
    arguments = (made.proof, A_CID, DID, "did:key:zMember")
    assert drive(membership.verify(*arguments, 1000, LIMITS)) == made
    late = (membership.LIFE_S + 1) * 1000
    assert drive(membership.verify(*arguments, late + LIMITS.clock_skew_ms - 1000, LIMITS)) == made
    with pytest.raises(RemoteError, match="expired"):
        drive(membership.verify(*arguments, late + LIMITS.clock_skew_ms + 1000, LIMITS))
    half = membership.LIFE_S // 2 * 1000
    assert not made.renewable(1000) and not made.renewable(half) and made.renewable(half + 2000)


def test_numbers_that_repeat_for_whoever_knows_the_seed() -> None:
    one, same, other = Entropy(b"s" * 32), Entropy(b"s" * 32), Entropy(b"t" * 32)
    taken = [one.take(16) for _ in range(100)]
    assert taken == [same.take(16) for _ in range(100)] and len(set(taken)) == 100
    assert other.take(16) not in taken and len(one.take(32)) == 32
    for size in (0, 33):
        with pytest.raises(AssertionError):
            one.take(size)
    with pytest.raises(AssertionError):
        Entropy(b"short")


def test_what_a_peer_says_is_wrong_is_made_fit_to_show() -> None:
    odd = RemoteError.from_wire("no such code", "line\n\x1b[31mred" + "x" * 5000)
    assert odd.code == "internal" and odd.text.startswith("line[31mred") and len(odd.text) <= 1024
    assert RemoteError.from_wire("trap", "").text == CODES["trap"]
    ended = RemoteError.from_wire("cancelled", "")
    assert (ended.code, ended.text) == ("closed", CODES["cancelled"]), "that word is nobody's but our own"
    with pytest.raises(AssertionError):
        RemoteError("no such code")


def test_every_bound_is_a_positive_number_and_fits_its_neighbours() -> None:
    limits = Limits()
    assert all(type(value) is int and value > 0 for value in dataclasses.asdict(limits).values())
    assert limits.block_bytes < limits.frame_bytes and limits.message_bytes < limits.frame_bytes
    assert limits.inline_bytes + limits.args_bytes < limits.message_bytes
    assert limits.ping_ms * 3 < limits.silent_ms and limits.run_ms <= limits.run_ms_max
    assert limits.hedge_ms < limits.fetch_ms < limits.effect_ms
