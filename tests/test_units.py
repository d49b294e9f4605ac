"""Numbers for people."""

from __future__ import annotations

import pytest

from promisegrid import units


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1024**2 - 1, "1 MiB"),
        (512 * 1024**2, "512 MiB"), (4_400_000, "4.2 MiB"), (3 * 1024**4, "3 TiB"), (2**60, "1048576 TiB"),
    ],
)  # fmt: skip
def test_sizes_are_said_as_people_do(count: int, expected: str) -> None:
    assert units.size(count) == expected


def test_long_numbers_are_grouped() -> None:
    assert units.number(12_345_678) == "12,345,678"
