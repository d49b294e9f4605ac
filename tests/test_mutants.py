"""Fifty thousand damaged messages, and pieces of every kind: read, refused or nothing. See mutants.py."""

from __future__ import annotations

import sys

from tests import mutants
from tests.test_fuzz import READERS

SHARE = 10 if sys.platform == "emscripten" else 1
DEALT_WITH = 20_000 // SHARE
OPENED = 30_000 // SHARE


def test_damaged_messages_are_answered_refused_or_nothing() -> None:
    taken = mutants.run(1, DEALT_WITH)
    assert taken.codes["answered"] > DEALT_WITH // 100, "some get past every check"
    assert len(taken.codes) > 15, taken


def test_damaged_messages_are_opened_or_refused() -> None:
    codes = mutants.opened(1, OPENED)
    assert codes[""] > OPENED // 20 and len(codes) > 8, codes


def test_damaged_pieces_are_read_or_refused() -> None:
    codes = mutants.pieces(1, 2000 // SHARE, READERS)
    assert codes["malformed"] and codes["bad_claims"] and codes["bad_capability"]
    assert codes[""] > sum(codes.values()) // 100, "some are still good, and say something else"
