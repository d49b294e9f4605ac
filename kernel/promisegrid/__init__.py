"""PromiseGrid's kernel: pure Python, no I/O, the same code in a tab, on a server and on a Raspberry Pi."""

from __future__ import annotations

import promisegrid.dagcbor as dagcbor
from promisegrid.cid import Cid

__all__ = ["Cid", "dagcbor"]
