"""The Python half of the tab on this CPython: turns in, turns out, and no exception that gets lost."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from promisegrid.cid import Cid
from promisegrid_worker.host import Host, Settings

NOW = 1_800_000_000_000


def settings(**changes: Any) -> Settings:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    given = {
        "public_key": key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        "entropy": bytes(64),
        "engine": "test",
        "runs": 1,
        "memory_bytes": 1 << 20,
        "channel": "localhost/grid",
        "grid": None,
        "invite": None,
        **changes,
    }
    return Settings.read(cbor2.dumps(given))


@pytest.fixture
def host() -> Host:
    return Host(settings())


def turn(host: Host, *records: list[Any]) -> list[list[Any]]:
    """One turn's records out."""
    timer, out = cbor2.loads(host.turn(cbor2.dumps([NOW, list(records)])))
    assert timer is None or timer > NOW
    return list(out)


def boot(host: Host) -> None:
    """An empty store: nothing under any key, whatever asks for it."""
    replies = []
    asked = turn(host, ["call", 1, "boot", None])
    while asked:
        replies += [rest for kind, *rest in asked if kind == "reply"]
        reads = [record for record in asked if record[0] != "reply"]
        empty = [[None] * len(keys[1]) if kind == "load" else [] for kind, _, *keys in reads]
        asked = turn(host, *(["answer", read[1], rows] for read, rows in zip(reads, empty, strict=True)))
    ((ask, told),) = replies
    assert ask == 1 and told["grid"] is None


def test_boot_reads_the_store(host: Host) -> None:
    boot(host)


def test_a_put_is_committed_before_it_is_answered(host: Host) -> None:
    boot(host)
    ((_, _, handle),) = turn(host, ["call", 2, "put.open", None])
    assert turn(host, ["call", 3, "put.chunk", {"handle": handle, "data": b"hello"}])[0][0] == "commit"
    ((commit, ticket, writes, _),) = turn(host, ["call", 4, "put.close", handle])
    cid = Cid.of(b"hello")
    assert (commit, writes) == ("commit", [["blocks", bytes(cid), b"hello"]])
    assert turn(host, ["answer", ticket, None]) == [["reply", 4, str(cid)]]


def test_what_the_host_could_not_do_is_the_answer(host: Host) -> None:
    boot(host)
    turn(host, ["call", 2, "put.open", None])
    ((_, ticket, *_),) = turn(host, ["call", 4, "put.close", 1])
    assert turn(host, ["failure", ticket, "disk_full", "No room."]) == [
        ["refused", 4, "disk_full", "No room."]
    ]


def test_a_file_with_a_hole_gets_no_cid(host: Host) -> None:
    boot(host)
    turn(host, ["call", 2, "put.open", None])
    ((_, ticket, *_),) = turn(host, ["call", 3, "put.chunk", {"handle": 1, "data": b"x"}])
    assert turn(host, ["failure", ticket, "disk_full", "Full."]) == [["refused", 3, "disk_full", "Full."]]
    assert turn(host, ["call", 4, "put.close", 1])[0][:3] == ["refused", 4, "bad_args"]


CID = str(Cid.of(b"x"))


@pytest.mark.parametrize(
    ("verb", "args", "code"),
    [
        ("fly", None, "bad_args"), ("get", 1, "bad_args"), ("ls", "x", "bad_cid"),
        ("put.chunk", 7, "internal"), ("ls", None, "bad_cid"), ("look", None, "bad_cid"),
        ("look", 7, "bad_args"), ("pin", "x", "bad_args"),
        ("pin", {"cid": "x"}, "bad_cid"), ("unpin", [], "bad_cid"), ("gc", "all", "bad_args"),
        ("log", 1, "bad_args"), ("log.move", {"stream": "a", "cid": None}, "bad_cid"),
        ("folder", {}, "bad_args"), ("folder", [7], "bad_args"), ("folder", [{"path": "a//b"}], "bad_args"),
        ("folder", [{"path": "a"}, {"path": "../b"}], "bad_args"), ("folder", [{}], "bad_args"),
        ("folder", [{"path": "a", "cid": CID, "tsize": -1}], "bad_args"),
        ("folder", [{"path": "a", "cid": "x", "tsize": 1}], "bad_cid"),
        ("folder", [{"path": "a", "cid": CID, "tsize": 1}] * 2, "bad_args"),
        ("folder", [{"path": "/".join("a" * 300)}], "too_large"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_refused_and_the_next_one_works(host: Host, verb: str, args: Any, code: str) -> None:
    boot(host)
    *faults, refused = turn(host, ["call", 2, verb, args])
    assert refused[:3] == ["refused", 2, code]
    assert [fault[0] for fault in faults] == (["fault"] if code == "internal" else [])
    assert turn(host, ["call", 2, "peers", None]) == [["reply", 2, []]]


def test_a_fault_costs_its_link_and_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    boot(host)
    turn(host, ["open", 5])

    def broken(*_: object) -> None:
        raise RuntimeError("our own bug")

    monkeypatch.setattr(host.kernel, "receive", broken)
    fault, close, *rest = turn(host, ["frame", 5, b"x"], ["call", 3, "peers", None])
    assert (fault[0], fault[1]) == ("fault", "frame 5")
    assert "our own bug" in fault[2]
    assert (close[0], close[1]) == ("close", 5)
    assert rest[-1] == ["reply", 3, []]


def test_an_unknown_record_and_a_late_answer_are_no_accident(host: Host) -> None:
    boot(host)
    assert turn(host, ["answer", 999, None]) == []
    assert turn(host, ["rubbish"])[0][:2] == ["fault", "rubbish"]


def test_a_damaged_join_link() -> None:
    with pytest.raises(Exception, match="join link is damaged"):
        Host(settings(grid="nonsense"))
    with pytest.raises(Exception, match="join link is damaged"):
        Host(settings(invite="1!"))
