"""Reading a whole table in key order: `rows` one by one, `batches` a batch at a time.

Neither holds more than one batch, and none is a picture of one moment: a row that is written behind the place
they have come to is not seen, and one removed ahead of it is not either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from promisegrid.effects import Scan, Table

BATCH: Final = 256  # rows a read: one crossing to the store costs about as much as reading these

Row = tuple[bytes, bytes]


async def batches(
    table: Table,
    prefix: bytes = b"",
    size: int = BATCH,
    after: bytes | None = None,
    keys_only: bool = False,
    everyone: bool = False,
) -> AsyncIterator[tuple[Row, ...]]:
    """The rows with key > `after` (by default the prefix) that begin with `prefix`, `size` at a time.

    A row is (key, value). With `keys_only` every value is b""; with `everyone`, in a base that
    several nodes share, it is the rows of all of them, each key with its node in front.
    """
    at = prefix if after is None else after
    while found := await Scan(table, prefix, at, size, keys_only, everyone):
        at = found[-1][0]
        yield found


async def rows(
    table: Table, prefix: bytes = b"", size: int = BATCH, keys_only: bool = False
) -> AsyncIterator[Row]:
    """As `batches`, one row at a time."""
    async for found in batches(table, prefix, size, keys_only=keys_only):
        for row in found:
            yield row
