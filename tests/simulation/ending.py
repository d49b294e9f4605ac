"""What must be so at the end of a world, when everybody is up and the weather has cleared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from tests.simulation.world import Broken, Host, World

from promisegrid.cid import Cid
from promisegrid.effects import Reply

WAIT_MS: Final = 60_000


def everybody_is_found(world: World) -> None:
    """Two that lie to nobody reach each other, by a link or a circuit."""
    one, other = world.random.sample([host for host in world.hosts if host.honest], 2)
    ends: list[Reply] = []
    one.ask(_reach(one, other.did), ends.append)
    world.run(world.now_ms + WAIT_MS, partial(bool, ends))
    if not ends or ends[0].error is not None:
        raise Broken(f"{one.name} cannot reach {other.name}: {ends[0].error if ends else 'no answer'}")


async def _reach(host: Host, did: str) -> None:
    await host.kernel._peering.relay.reach(did)


def neighbours_find(world: World, cid: Cid, owner: Host) -> None:
    """Whoever is linked to the owner of some content can read it."""
    for wire in list(owner.wires.values()):
        other = wire.other(owner)
        if not other.honest or owner.did not in {peer["did"] for peer in other.kernel.peers()}:
            continue
        ends: list[Reply] = []
        other.ask(other.read(cid), ends.append)
        world.run(world.now_ms + WAIT_MS, partial(bool, ends))
        if other.is_up and (not ends or ends[0].error is not None):
            text = ends[0].error if ends else "no answer"
            raise Broken(f"{other.name} cannot read {cid} of its neighbour {owner.name}: {text}")


async def forgive(host: Host) -> None:
    """Take all bans back."""
    for row in await host.kernel.bans.ls():
        await host.kernel.bans.unban(str(row["did"]))


def expect(what: str) -> Callable[[Reply], None]:
    """An ask that must go well."""

    def then(reply: Reply) -> None:
        if reply.error is not None:
            raise Broken(f"{what}: {reply.error}")

    return then
