"""A process that counts on a shared base: `python -m tests.node.counting URL NAME TIMES`.

It says "ready", and begins when it is sent a line. Each step reads the counter and, if nobody was faster,
writes the next number and its own name for it, in one `Commit`. It prints the number once that is
acknowledged, so that others can tell what was promised.
"""

from __future__ import annotations

import sys

from promisegrid.effects import Commit, Conflict, Failure, Load, Save, Seen, Write
from promisegrid_node.store_postgres import Store

COUNTER = Load("kv", (b"counter",))


def count(store: Store, name: str, times: int) -> None:
    """Add to the counter so many times."""
    done = 0
    while done < times:
        (read,) = store.perform([COUNTER])
        if isinstance(read, Failure):
            raise SystemExit(read.text)
        assert isinstance(read, tuple)
        number = int(read[0] or b"0") + 1
        row = f"{name}/{done}".encode()
        writes = (
            Write("kv", b"counter", b"%d" % number),
            Write("kv", b"step/" + row, b"%d" % number),
            Write("blocks", b"block/" + row, bytes(3000)),
        )
        saved, answer = store.perform(
            [Save((Write("memo", row, b""),)), Commit(writes, (Seen(COUNTER, read),))]
        )
        if isinstance(answer, Failure):
            raise SystemExit(answer.text)
        if not isinstance(answer, Conflict):
            assert answer is None, (saved, answer)
            done += 1
            print(number, flush=True)


if __name__ == "__main__":
    opened = Store.open(sys.argv[1], f"did:key:{sys.argv[2]}")
    print("ready", flush=True)
    sys.stdin.readline()
    count(opened, sys.argv[2], int(sys.argv[3]))
    opened.close()
