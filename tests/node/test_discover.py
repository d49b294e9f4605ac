"""What a node makes of the records others announce on its LAN: strangers' text."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from tests.sim import World
from zeroconf import Zeroconf

from promisegrid.cid import Cid
from promisegrid_node import discover

GRID = Cid.of(b"a grid")
DID = World().node("ann").did
GOOD: dict[bytes, bytes | None] = {
    b"grid": str(GRID).encode(), b"did": DID.encode(), b"scheme": b"https", b"path": b"/grid",
}  # fmt: skip


def test_a_member_of_the_grid_is_dialled_where_it_says() -> None:
    found = discover.read(GOOD, ["203.0.113.256", "8.8.8.8", "10.77.0.1"], 8420, GRID)
    assert found is not None and found.did == DID
    assert str(found.peer.url) == "wss://10.77.0.1:8420/grid" and found.peer.invite is None
    six = discover.read(GOOD, ["fe80::1%eth0", "fd00::1"], 8420, GRID)
    assert six is not None and str(six.peer.url) == "wss://[fd00::1]:8420/grid"


@pytest.mark.parametrize(
    "wrong",
    [
        {b"grid": str(Cid.of(b"another")).encode()}, {b"grid": None}, {b"did": b"did:key:zzz"}, {b"did": b""},
        {b"did": b"\xff"}, {b"scheme": b"file"}, {b"path": b"/grid?x=1"}, {b"path": b"@evil.example/"},
        {b"path": b"/" + b"a" * 65}, {b"path": b"/\r\nHost: x"},
        {b"path": b"/cgi-bin/reboot"},
    ],
)  # fmt: skip
def test_what_is_not_of_this_grid_or_not_well_formed_is_not_dialled(wrong: dict[bytes, bytes | None]) -> None:
    assert discover.read(GOOD | wrong, ["10.77.0.1"], 8420, GRID) is None


@pytest.mark.parametrize("port", [0, -1, 65_536, 22, 25, 445])
def test_a_port_that_is_none_or_another_services(port: int) -> None:
    assert discover.read(GOOD, ["10.77.0.1"], port, GRID) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "8.8.8.8", "0.0.0.0", "224.0.0.251", "x", ""])
def test_neither_this_machine_nor_the_internet_is_dialled(address: str) -> None:
    assert discover.read(GOOD, [address], 8420, GRID) is None


def test_a_name_that_is_none_does_not_end_discovery() -> None:
    async def overheard() -> bool:
        lan = discover.Lan.__new__(discover.Lan)
        lan._unread = asyncio.Queue()
        lan._unread.put_nowait("x._other._udp.local.")
        reading = asyncio.create_task(lan._read(Zeroconf.__new__(Zeroconf), GRID))
        for _ in range(5):
            await asyncio.sleep(0)
        alive = not reading.done()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return alive and lan._unread.empty()

    assert asyncio.run(overheard())


@pytest.mark.parametrize("banned", [False, True])
def test_a_banned_member_is_not_dialled(banned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record is there for all to read; who dials it is each owner's decision."""
    dialled: list[str] = []

    async def dial(self: discover.Lan, found: discover.Found) -> None:
        dialled.append(found.did)

    async def dealt() -> None:
        world = World()
        (ann,) = world.grid("mal")
        if banned:
            ann.do(ann.kernel.bans.ban(DID))
        lan = discover.Lan.__new__(discover.Lan)
        lan._host, lan._links, lan._dialling = SimpleNamespace(kernel=ann.kernel), {}, {}
        found = discover.read(GOOD, ["10.77.0.1"], 8420, GRID)
        assert found is not None
        lan._known = {DID: found}
        lan._deal()
        await asyncio.gather(*lan._dialling.values())

    monkeypatch.setattr(discover.Lan, "_dial", dial)
    asyncio.run(dealt())
    assert dialled == ([] if banned else [DID])
