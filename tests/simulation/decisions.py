"""What owners decide in a simulated life: whose receipts count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tests.simulation.life import Life


def trust(life: Life) -> None:
    """Somebody lets another's receipts count, or what any two agree on; or only its own again.

    Whoever is trusted may be a liar: his name is on what he signed.
    """
    random, host = life.world.random, life._someone()
    if host is None:
        return
    mode: Literal["own", "peers", "agree"] = random.choice(("own", "peers", "peers", "agree"))
    others = [other.did for other in life.world.hosts if other not in (host, life.outsider)]
    dids = random.sample(others, 1) if mode == "peers" else []
    life._asked(host, f"trust {mode}", host.kernel.owner.set_trust(mode, dids), lambda reply: None)
