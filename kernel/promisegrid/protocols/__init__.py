"""Protocols this node speaks by itself: known by the CID of their specification, answered without a module.

Here is only what all of them share: what a handler answers.
"""

from __future__ import annotations

from dataclasses import dataclass

from promisegrid.effects import Write


@dataclass(frozen=True, slots=True)
class Answer:
    """What a built-in protocol answers a message with.

    body: any dag-cbor. writes: what the message changes here; when there are any, they become durable
    together with the reply before it is sent, and a repeat of the message gets that reply and changes
    nothing.
    """

    body: object
    writes: tuple[Write, ...] = ()
