"""Documents that code names by CID hash to it: who follows the link reads the rules that are followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from promisegrid.cid import Cid
from promisegrid.protocols import CAPABILITY_CALL, DAG_EDIT, MEMO, SCENARIO_TREE, STORE
from promisegrid.protocols.promise import PROMISE
from promisegrid.receipt import METER
from promisegrid.signalling import SIGNAL
from promisegrid.topics import TOPIC

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "cid"),
    [
        ("meter.md", METER),
        ("protocols/capability-call.md", CAPABILITY_CALL),
        ("protocols/dag-edit.md", DAG_EDIT),
        ("protocols/memo.md", MEMO),
        ("protocols/promise.md", PROMISE),
        ("protocols/scenario-tree.md", SCENARIO_TREE),
        ("protocols/signal.md", SIGNAL),
        ("protocols/store.md", STORE),
        ("protocols/topic.md", TOPIC),
    ],
)
def test_code_names_the_document_that_is_there(name: str, cid: Cid) -> None:
    assert Cid.of((DOCS / name).read_bytes()) == cid
