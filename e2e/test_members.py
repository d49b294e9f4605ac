"""Who is in: a key that is banned, a grid whose founder is gone for good, two grids side by side."""

from __future__ import annotations

import shutil

from e2e.conftest import RunNode
from e2e.harness import Node, wait_for

DELEGATE = ("--ability", "member", "--delegate", "1", "--days", "30")


def peers(node: Node) -> set[str]:
    """Whom a node is linked to, in whatever way."""
    return {peer["did"] for peer in node.cli.ok("peers", "--json").json["peers"]}


def test_a_banned_key_is_out_and_others_decide_for_themselves(run_node: RunNode) -> None:
    ann = run_node("ann", "--invite-only")
    eve = run_node("eve", "--peer", ann.join)
    bob = run_node("bob", "--peer", ann.cli.ok("invite", "--json").json["url"], "--peer", eve.url)
    wait_for(lambda: peers(bob) == {ann.did, eve.did}, what="bob's two links")
    ann.cli.ok("ban", eve.did[8:24], "--reason", "floods")
    assert eve.did not in peers(ann)
    assert "banned" in ann.cli.refused("admit", eve.did)
    (row,) = ann.cli.ok("ban", "--json").json["banned"]
    assert (row["did"], row["reason"]) == (eve.did, "floods")
    assert peers(eve) == {bob.did} and eve.did in peers(bob), "bob bans nobody"
    assert peers(ann) == {bob.did}, "eve dials ann again and again"
    ann.cli.ok("unban", eve.did)
    wait_for(lambda: eve.did in peers(ann), what="eve's return")


def test_a_grid_whose_founder_is_gone_for_good_takes_new_members(run_node: RunNode) -> None:
    ann = run_node("ann", "--invite-only")
    bob = run_node("bob", "--invite-only", "--peer", ann.join)
    carol = run_node("carol", "--invite-only", "--peer", ann.cli.ok("invite", "--json").json["url"])
    assert "may not admit" in bob.cli.refused("invite")
    ann.cli.ok("cap", "grant", bob.did, *DELEGATE)
    ann.stop()
    shutil.rmtree(ann.cli.home)
    dan = run_node("dan", "--peer", bob.cli.ok("invite", "--json").json["url"])
    assert dan.grid == bob.grid and peers(dan) == {bob.did}
    assert dan.did in bob.cli.ok("members", "--json").json["members"]
    dan.stop()
    dan = run_node("dan", "--peer", carol.url)
    wait_for(lambda: peers(carol) == {dan.did}, what="a member that never saw dan's admitter")
    cid = carol.cli.ok("put", "-", stdin=b"the grid goes on").text
    assert dan.cli.ok("get", cid).out == b"the grid goes on"
    assert "may not admit" in dan.cli.refused("invite")


def test_two_grids_on_one_machine_see_nothing_of_each_other(run_node: RunNode) -> None:
    """Two nodes of each, with doors as open as loopback has them; one of the first tries to cross over."""
    ann, zoe = run_node("ann", "--serve"), run_node("zoe", "--serve")
    assert ann.grid != zoe.grid
    run_node("bob", "--peer", ann.join).stop()
    bob = run_node("bob", "--peer", ann.url, "--peer", zoe.url)
    yan = run_node("yan", "--peer", zoe.join)
    wait_for(lambda: peers(ann) == {bob.did} and peers(zoe) == {yan.did}, what="two pairs")
    for one in (ann, bob, zoe, yan):
        one.cli.ok("topic", "follow", "news")
    ann.cli.ok("topic", "publish", "news", '"of the first"')
    zoe.cli.ok("topic", "publish", "news", '"of the second"')

    def heard(node: Node) -> list[object]:
        return [one["body"] for one in node.cli.ok("topic", "read", "news", "--json").json["entries"]]

    wait_for(lambda: heard(bob) == ["of the first"] and heard(yan) == ["of the second"], what="the news")
    assert heard(ann) == ["of the first"] and heard(zoe) == ["of the second"]
    cid = ann.cli.ok("put", "-", stdin=b"of the first grid").text
    assert bob.cli.ok("get", cid).out == b"of the first grid"
    assert "not stored here" in yan.cli.refused("get", cid)
    assert "not connected" in zoe.cli.refused("call", cid, "f", "--on", ann.did)
    assert peers(bob) == {ann.did} and zoe.did not in peers(bob), "whoever dials across is refused"
