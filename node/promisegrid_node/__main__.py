"""The command's first lines, and `python -m promisegrid_node`.

Loading the rest takes a third of a second, in which Ctrl-C ends the process as it does any other program:
without a traceback. So nothing heavy is imported here.
"""

from __future__ import annotations

import importlib
import signal


def main() -> int:
    """Load the command and run it; its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    code: int = importlib.import_module("promisegrid_node.cli").main()
    return code


if __name__ == "__main__":
    raise SystemExit(main())
