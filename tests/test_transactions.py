"""Transactions on the base in memory, against a dictionary. See transacting."""

from __future__ import annotations

from hypothesis import settings
from tests.transacting import Machine

TestTransactions = Machine.TestCase
TestTransactions.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
