"""Fifty thousand damaged messages: answered, refused or nothing. See mutants.py."""

from __future__ import annotations

import sys

from tests import mutants
from tests.test_fuzz import READERS

MESSAGES = 5_000 if sys.platform == "emscripten" else 50_000


def test_damaged_messages_are_answered_refused_or_nothing() -> None:
    taken = mutants.run(1, MESSAGES)
    assert taken.codes["answered"] > MESSAGES // 100, "some get past every check"
    assert len(taken.codes) > 15, taken


def test_damaged_pieces_are_read_or_refused() -> None:
    codes = mutants.pieces(1, MESSAGES // 25, READERS)
    assert codes["malformed"] and codes["bad_claims"] and codes["bad_capability"]
    assert codes[""] > sum(codes.values()) // 100, "some are still good, and say something else"
