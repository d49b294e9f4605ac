"""Dataclasses that are complete when made.

As `dataclass(frozen=True, slots=True)` to readers and to the type checker, which refuses every assignment.
What is left out is the guard at run time, through which each field would be set by a call: a message makes
some thirty of these objects, and the guard took a tenth of all the time the kernel spends on one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """A frozen, slotted dataclass with equality and a hash over its fields."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
