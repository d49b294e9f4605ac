"""Whose turn it is: one who brings much does not keep out one who brings little."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from promisegrid.turns import Turns


def test_links_take_turns_and_within_a_link_senders() -> None:
    line: Turns[str] = Turns(20)
    for number in range(4):
        assert line.add(f"flood {number}", 1, "ann") is None
    line.add("carried", 1, "bob")
    line.add("single", 2, "carol")
    order = list(line.drain())
    assert order == ["flood 0", "single", "carried", "flood 1", "flood 2", "flood 3"] and not len(line)


def test_a_full_line_sheds_the_longest_lane_not_the_newcomer() -> None:
    line: Turns[str] = Turns(3)
    for name in "abc":
        line.add(name, 1, "ann")
    assert line.add("d", 1, "ann") == "d", "no lane is longer than his own"
    assert line.add("e", 2, "bob") == "c", "the flood gives way"
    assert line.add("f", 1, "carol") == "b", "within the link, its own flood"
    assert list(line.drain()) == ["a", "e", "f"]


def test_who_leaves_the_line_is_passed_over() -> None:
    line: Turns[str] = Turns(3)
    line.add("a", 1, "ann")
    line.add("b", 1, "ann")
    assert line.remove("a") and not line.remove("a") and len(line) == 1
    assert line.next() == "b" and line.next() is None


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from("xy")), max_size=60), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_everybody_in_line_has_a_turn_within_one_round_of_links(
    comers: list[tuple[int, str]], most: int
) -> None:
    line: Turns[tuple[int, int, str]] = Turns(most)
    inside = set()
    for number, (link, sender) in enumerate(comers):
        inside.add((number, link, sender))
        inside.discard(line.add((number, link, sender), link, sender) or (-1, 0, ""))
        assert len(line) == len(inside) <= most
    order = list(line.drain())
    assert set(order) == inside
    for at in range(len(order)):
        waiting = {other for _, other, _ in order[at:]}
        ahead = [other for _, other, _ in order[at : at + len(waiting)]]
        assert sorted(ahead) == sorted(waiting), "each link once a round"
