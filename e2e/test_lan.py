"""Two hosts on a LAN of the test's own: joining over HTTPS, finding each other by multicast DNS, banning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from e2e.conftest import RunNode
from e2e.harness import Node, wait_for
from e2e.netspace import apart, neighbour

Visit = Callable[[], AbstractContextManager[None]]
FOUNDER = ("--listen", "10.77.0.1:8420")
OTHER = ("--listen", "10.77.0.2:8420")


@pytest.fixture
def visit() -> Iterator[Visit]:
    """This thread on one host; what takes it to the other."""
    with ExitStack() as stack:
        stack.enter_context(apart())
        yield stack.enter_context(neighbour())


def peers(node: Node) -> set[str]:
    """Whom a node is linked to directly."""
    return {peer["did"] for peer in node.cli.ok("peers", "--json").json["peers"] if peer["via"] != "relay"}


def test_members_on_a_lan_find_each_other_and_nobody_else(
    visit: Visit, run_node: RunNode, tmp_path: Path
) -> None:
    """Joined once by an invitation over HTTPS, they need no address of each other any more."""
    founder = run_node("founder", *FOUNDER)
    assert founder.url == "https://10.77.0.1:8420/"
    with visit():
        other = run_node("other", *OTHER, "--no-discover", "--peer", founder.join)
        assert other.grid == founder.grid
        other.stop()
        quiet = run_node("other", *OTHER, "--no-discover")
        stranger = run_node("stranger", "--listen", "10.77.0.2:8421")
        quiet.stop()
        assert peers(founder) == set(), "one that is not to be found was found"
        other = run_node("other", *OTHER)
    wait_for(lambda: other.did in peers(founder), 10, "finding each other")
    assert peers(other) == {founder.did}
    assert peers(stranger) == set() and "10.77" not in stranger.said

    url = founder.cli.ok("invite", "--json").json["url"]
    with visit():
        third = run_node("third", "--listen", "10.77.0.2:8422", "--peer", url)
    assert third.grid == founder.grid and founder.did in peers(third)
    wait_for(lambda: other.did in peers(third), 10, "the third finding the second")
