"""Which store a home has: its own file, or a base on a PostgreSQL server that several homes share.

Chosen by `up --store`, which the home remembers; `PROMISEGRID_STORE` goes before what is remembered. The key,
the door and compiled code stay in the home either way.

Promises: the driver of a server is loaded only by who chose one; a URL, which may hold a password, is never
printed, and lies in a file of 0600.
"""

from __future__ import annotations

import importlib
import logging
import os
from pathlib import Path
from typing import Any, Final

from promisegrid.errors import LocalError
from promisegrid_node.home import Home
from promisegrid_node.ports import Store
from promisegrid_node.store import Store as FileStore
from promisegrid_node.store_file import FILE as STORE_FILE

FILE: Final = "store"
OWN: Final = "sqlite"
"""What chooses the home's own file."""
VARIABLE: Final = "PROMISEGRID_STORE"
_SCHEMES: Final = ("postgresql://", "postgres://")

log = logging.getLogger("promisegrid")


def open_store(home: Home, me: str, wanted: str | None = None) -> Store:
    """The store of a home, for its node `me` (a did).

    `wanted`, what `up --store` said, is remembered once it could be opened. LocalError with the remedy.
    """
    url = wanted or os.environ.get(VARIABLE) or _remembered(home)
    store = FileStore.open(home.path) if url is None or url == OWN else _open_server(url, me)
    if wanted is not None and wanted != (_remembered(home) or OWN):
        if wanted != OWN and (home.path / STORE_FILE).exists():
            log.warning(
                "What this home kept until now stays in %s: `up --store %s` goes back to it, and "
                "`promisegrid export --all` and `import` carry it over.", home.path / STORE_FILE, OWN
            )  # fmt: skip
        _remember(home.path / FILE, wanted)
    return store


def _open_server(url: str, me: str) -> Store:
    if not url.startswith(_SCHEMES):
        raise LocalError(
            f"A store is {OWN} (the home's own file) or postgresql://USER@HOST/DATABASE: say so with --store "
            f"or in {VARIABLE}."
        )
    try:
        module: Any = importlib.import_module("promisegrid_node.store_postgres")
    except ImportError as error:
        raise LocalError(
            f"A store on PostgreSQL needs psycopg ({error}): pip install 'promisegrid[postgres]'."
        ) from error
    store: Store = module.Store.open(url, me)
    return store


def _remembered(home: Home) -> str | None:
    try:
        return (home.path / FILE).read_text().strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"{home.path / FILE} cannot be read: say --store again, or remove it.") from error


def _remember(path: Path, wanted: str) -> None:
    """Write it down, all or nothing, for its owner alone."""
    part = path.with_name(path.name + ".part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(wanted + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise LocalError(f"{path} cannot be written: {error.strerror}; use --home DIR.") from error
