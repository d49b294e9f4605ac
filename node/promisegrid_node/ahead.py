"""The next of several things made while the one before it is used: reading while writing, and the reverse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def ahead(items: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same items, each made while the one before it is used."""
    making = asyncio.ensure_future(_next(items))
    try:
        while True:
            try:
                item = await making
            except StopAsyncIteration:
                return
            making = asyncio.ensure_future(_next(items))
            yield item
    finally:
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)
