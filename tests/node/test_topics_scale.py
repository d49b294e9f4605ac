"""What it costs to find a tenth of many entries, in a world where signatures cost nothing."""

from __future__ import annotations

from tests.simulation.life import LIMITS
from tests.simulation.world import Host, Weather, Wire, World

from promisegrid import entry
from promisegrid.effects import Reply
from promisegrid.entry import Entry

TOTAL, EVERY = 20_000, 10


def done(world: World, host: Host, verb: object) -> object:
    """Ask, and let the world go on until it is over."""
    ends: list[Reply] = []
    host.ask(verb, ends.append)  # type: ignore[arg-type]
    for _ in range(60):
        world.run(world.now_ms + 500)
        if ends:
            break
    (end,) = ends
    assert end.error is None, end.error
    return end.value


def test_a_tenth_that_was_missed_costs_less_than_half_as_much_again() -> None:
    """Entries of 256 bytes; everything both sides send counts."""
    world = World(1)
    ann, bob = Host(world, "ann", LIMITS), Host(world, "bob", LIMITS)
    done(world, ann, ann.kernel.owner.found("test"))
    invite = done(world, ann, ann.kernel.owner.invite())
    wire = Wire(world, bob, ann, Weather((1, 2)), "test/grid")
    near, far = wire.numbers
    assert isinstance(invite, bytes)
    bob.enter(lambda: bob.kernel.connect(near, "initiator", "test/grid", "ws", bob.now_ms, invite=invite))
    ann.enter(lambda: ann.kernel.connect(far, "responder", "test/grid", "ws", ann.now_ms))
    world.run(world.now_ms + 2_000)
    done(world, ann, ann.kernel.topics.follow("news"))

    async def written() -> list[Entry]:
        start, grid = ann.now_ms - TOTAL * 1000, ann.kernel.grid
        assert grid is not None
        times = range(start, ann.now_ms, 1000)
        return [await entry.seal(grid, "news", ann.did, at_ms, bytes(8), "x" * 16) for at_ms in times]

    rows = done(world, ann, written())
    assert isinstance(rows, list) and len(rows[0].data) == 256
    done(world, ann, ann.kernel.topics._keep(rows))
    done(world, bob, bob.kernel.topics._keep([one for n, one in enumerate(rows) if n % EVERY]))
    sent: list[int] = []
    real = Wire.send

    def counted(self: Wire, host: Host, frame: bytes) -> None:
        sent.append(len(frame))
        real(self, host, frame)

    Wire.send = counted  # type: ignore[method-assign]
    try:
        done(world, bob, bob.kernel.topics.follow("news"))
        world.run(world.now_ms + 60_000)
    finally:
        Wire.send = real  # type: ignore[method-assign]
    assert len(done(world, bob, bob.kernel.topics.index("news"))) == TOTAL  # type: ignore[arg-type]
    assert sum(sent) < 1.5 * TOTAL // EVERY * 256, sum(sent) / (TOTAL // EVERY * 256)
