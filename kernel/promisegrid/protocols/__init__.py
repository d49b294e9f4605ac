"""Protocols this node speaks by itself: known by the CID of their specification, answered without a module.

Here are their names, the raw CIDs of documents in docs/protocols, and what a handler answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from promisegrid.cid import Cid
from promisegrid.effects import Write
from promisegrid.frozen import frozen

CAPABILITY_CALL: Final = Cid.parse("bafkreichnxt3kpiglni6tolmsaykmfr323pxc2pyw2v7iabi774e2orlsi")
DAG_EDIT: Final = Cid.parse("bafkreidigh6ouzh3khx3pfdqcsnj46pvuhmqlao5nevfcovepgkgnoprhq")
MEMO: Final = Cid.parse("bafkreieqkxuaihmcuwz7k6ddkharuhq5aflj55fx77xzeargfom4c5yjiy")
SCENARIO_TREE: Final = Cid.parse("bafkreidlwpue2hhpej75plc3s4wravwsv6xla7quv5lbl7cmh5cegoxvgu")
STORE: Final = Cid.parse("bafkreih7w5puvrqotbkaf5x7qp3dg2zk3c2bjgodnprhxf4kzxkt5eaeqm")
TAGGED: Final = frozenset((CAPABILITY_CALL, DAG_EDIT, SCENARIO_TREE))
"""Those that stand under the grid's tag."""


@frozen
class Answer:
    """What a built-in protocol answers a message with.

    body: any dag-cbor. writes: what the message changes here; when there are any, they become durable
    together with the reply before it is sent, and a repeat of the message gets that reply and changes
    nothing. after: called once they are durable; failed: called when they could not be written.
    """

    body: object
    writes: tuple[Write, ...] = ()
    after: Callable[[], None] | None = None
    failed: Callable[[], None] | None = None
