"""`python -m promisegrid_node` is `promisegrid`."""

from __future__ import annotations

from promisegrid_node.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
