"""Documents that code names by CID hash to that CID: who follows the link reads the rules that are followed."""

from __future__ import annotations

from pathlib import Path

from promisegrid.cid import Cid
from promisegrid.receipt import METER

DOCS = Path(__file__).parents[2] / "docs"


def test_receipts_name_the_meter_by_its_specification() -> None:
    assert Cid.of((DOCS / "meter.md").read_bytes()) == METER
