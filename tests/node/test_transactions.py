"""Transactions on SQLite, by two stores on one file, killed now and then, against a dictionary."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from tests.transacting import Machine

from promisegrid_node import store_file
from promisegrid_node.store import FILE, Store

MEMORY = "/dev/shm"
"""Where syncing costs nothing: what a disk does is not what is tested here."""


class OnSqlite(Machine):
    """Effects go to one store and to the other in turn, as from two processes."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
        self.turn = self.lives = 0
        self.open(self.home / "0")

    def open(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.now, self.stores = home, [Store.open(home), Store.open(home)]

    def perform(self, effect: Any) -> object:
        self.turn += 1
        (answer,) = self.stores[self.turn % 2].perform([effect])
        return answer

    def crash(self) -> None:
        self.lives += 1
        home = self.home / f"{self.lives}"
        home.mkdir()
        for suffix in ("", "-wal"):
            shutil.copyfile(self.now / f"{FILE}{suffix}", home / f"{FILE}{suffix}")
        self.close()
        self.open(home)

    def close(self) -> None:
        for store in self.stores:
            store.close()
        assert store_file.check(self.now / FILE) == []
        shutil.rmtree(self.now)

    def teardown(self) -> None:
        self.close()
        shutil.rmtree(self.home)


TestOnSqlite = OnSqlite.TestCase
TestOnSqlite.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
