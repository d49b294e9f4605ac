"""Keys and signatures at the edge of what is allowed, judged with exact verifiers. See edges.py."""

from __future__ import annotations

from collections import Counter

from tests import ed25519, edges

from promisegrid import did
from promisegrid.effects import Verify


def test_each_edge_gets_its_verdict() -> None:
    assert edges.wrong(lambda asked: [edges.pure(effect) for effect in asked]) == []
    verdicts = Counter(edge.holds for edge in edges.table())
    assert verdicts[True] > 15 and verdicts[False] > 100 and verdicts[None] > 50


def test_where_libraries_differ_the_kernel_decides() -> None:
    """A host is not even asked."""
    words = ("s plus", "the order", "small order", "an R that is", "high s", "r plus order", "is zero")
    found = [edge for edge in edges.table() if not edge.holds and any(word in edge.what for word in words)]
    asked = [edge.what for edge in found if isinstance(edges.question(edge), Verify)]
    assert asked == ["s is zero", "an R that is no point"] and len(found) > 40


def test_the_points_of_small_order_are_all_that_there_are() -> None:
    points = ed25519.small_order()
    assert len({ed25519.encode(point) for point in points}) == 8
    assert all(ed25519.encode(ed25519.times(8, p)) == ed25519.encode(ed25519.IDENTITY) for p in points)
    assert not any(did.is_sound_ed25519(ed25519.encode(point)) for point in points)
    assert did.is_sound_ed25519(ed25519.encode(ed25519.BASE))
