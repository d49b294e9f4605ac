"""The tab's store, keys and handler pool in a real Chromium, each by itself, without Python.

What any store does is tried in test_store_laws.py, what only IndexedDB does in test_tab_store.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from e2e.pages.site import ROOT, chromium, serve
from playwright.sync_api import BrowserContext, Error, Page, sync_playwright
from tests.wasm_asm import (
    FUNC,
    I32,
    I64,
    MEMORY,
    Module,
    body,
    call,
    exported,
    functype,
    i32,
    imported,
    local_get,
    pages,
)

from promisegrid import wasi
from promisegrid.job import decode_result, encode_job
from promisegrid.wasm.guard import guard

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with serve({"/worker/": ROOT / "worker", "/pages/": ROOT / "e2e" / "pages"}) as url:
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        context = chromium(playwright, tmp_path_factory.mktemp("profile"))
        yield context
        context.close()


@pytest.fixture
def page(browser: BrowserContext, origin: str) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(f"{origin}/pages/blank.html")
    page.wait_for_function("document.title === 'begun'")
    page.evaluate("() => indexedDB.deleteDatabase('promisegrid')")
    yield page
    page.close()


def begin(page: Page, name: str = "a") -> Ask:
    """A worker of the test page; call what is returned with a command and its arguments."""
    page.evaluate("name => begin(name, '/pages/pieces.worker.mjs')", name)
    return lambda command, *args: page.evaluate(
        "([name, command, args]) => ask(name, command, ...args)", [name, command, args]
    )


@pytest.fixture
def ask(page: Page) -> Ask:
    worker = begin(page)
    worker("open")
    return worker


# -- keys ------------------------------------------------------------------------------------------------


def test_the_identity_survives_and_cannot_be_taken_out(page: Page) -> None:
    one, two = begin(page, "one"), begin(page, "two")
    one("open")
    first = one("identity")
    two("open")
    second = two("identity")
    assert first["publicKey"] == second["publicKey"]
    assert first["extractable"] is second["extractable"] is False
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes(second["publicKey"]))
    raw = bytes(second["signature"])
    assert len(raw) == 64
    der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key.verify(der, b"hello", ec.ECDSA(hashes.SHA256()))


def _es256() -> tuple[bytes, bytes]:
    private = ec.generate_private_key(ec.SECP256R1())
    r, s = utils.decode_dss_signature(private.sign(b"text", ec.ECDSA(hashes.SHA256())))
    point = private.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return point, r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _eddsa() -> tuple[bytes, bytes]:
    private = ed25519.Ed25519PrivateKey.generate()
    return private.public_key().public_bytes_raw(), private.sign(b"text")


def _ps256() -> tuple[bytes, bytes]:
    private = rsa.generate_private_key(65537, 2048)
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    der = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    return der, private.sign(b"text", scheme, hashes.SHA256())


@pytest.mark.parametrize(("alg", "make"), [(-7, _es256), (-8, _eddsa), (-37, _ps256)])
def test_verify(ask: Ask, alg: int, make: Callable[[], tuple[bytes, bytes]]) -> None:
    key, signature = make()
    ask("identity")
    good = list(b"text")
    assert ask("verify", alg, list(key), good, list(signature)) is True
    assert ask("verify", alg, list(key), list(b"texT"), list(signature)) is False
    assert ask("verify", alg, list(key), good, [*signature[:-1], signature[-1] ^ 1]) is False
    assert ask("verify", alg, list(key[:-1]), good, list(signature)) is False
    assert ask("verify", alg, list(key), good, []) is False
    assert ask("verify", -257, list(key), good, list(signature)) is False


# -- handlers --------------------------------------------------------------------------------------------


def job(code: int, **changes: Any) -> dict[str, Any]:
    """A job for the pool; `code` names a module kept under that one byte."""
    seed = bytes(32)
    return {
        "code": [code],
        "time": 5000,
        "abi": "command",
        "func": "_start",
        "params": [],
        "wasi": list(encode_job(seed, 1000, [], b"", ())),
        "output": 1000,
        "budget": 16,
        "fuel": 1 << 40,
        "initialize": False,
        "signature": {"params": [], "results": []},
        **changes,
    }


@pytest.fixture
def pool(ask: Ask) -> Ask:
    ask("pool", 2, {name: list(wasi.load(name)) for name in wasi.MODULES})
    return ask


def keep(ask: Ask, code: int, module: bytes) -> None:
    ask("keep", [code], list(module))


WASI = "wasi_snapshot_preview1"
LOOP = b"\x03\x40\x0c\x00\x0b"
UNREACHABLE = b"\x00"


def command(code: bytes, data: bytes = b"") -> bytes:
    """A command whose `_start` is `code`; function 0 is proc_exit, 1 is fd_write."""
    types = [functype([I32]), functype([I32] * 4, [I32]), functype()]
    module = Module(
        types, [imported(WASI, "proc_exit", FUNC, b"\0"), imported(WASI, "fd_write", FUNC, b"\1")]
    )
    module.functions = [(2, body(code))]
    module.memories = [pages(1)]
    module.exports = [exported("_start", FUNC, 2), exported("memory", MEMORY, 0)]
    if data:
        module.data = [b"\0" + i32(0) + b"\x0b" + bytes([len(data)]) + data]
    return module.encode()


PRINT = i32(1) + i32(0) + i32(1) + i32(16) + call(1) + b"\x1a"  # fd_write(1, the iovec at 0, 1, 16); drop
HELLO = struct.pack("<II", 8, 5) + b"hello"


def test_a_command_prints_and_exits(pool: Ask) -> None:
    keep(pool, 1, command(PRINT + i32(3) + call(0), HELLO))
    done = pool("run", job(1))
    result = decode_result(bytes(done["wasi"]), 9)
    assert (result.exit, result.stdout, done["memory"], done["values"]) == (3, b"hello", 65536, [])


BAD: dict[str, tuple[bytes, str]] = {
    "an endless loop": (LOOP, "out_of_time: The program did not end within 300 ms"),
    "a trap": (UNREACHABLE, "trap: The program trapped: unreachable"),
    "deep recursion": (call(2), "stack_overflow: The program recursed too deeply"),
    "endless output": (
        b"\x03\x40" + PRINT + b"\x0c\x00\x0b",
        "output_too_large: The program wrote more than its budget of 1000",
    ),
}


@pytest.mark.parametrize("code", BAD)
def test_a_bad_program_is_stopped_and_the_next_one_runs(pool: Ask, code: str) -> None:
    program, said = BAD[code]
    keep(pool, 1, command(program, HELLO))
    keep(pool, 2, command(PRINT, HELLO))
    with pytest.raises(Error, match=said):
        pool("run", job(1, time=300))
    assert decode_result(bytes(pool("run", job(2))["wasi"]), 9).stdout == b"hello"


def test_a_budget_of_memory_holds_for_its_run_only(pool: Ask) -> None:
    keep(pool, 1, guard(command(i32(20) + b"\x40\x00\x1a", HELLO)))  # memory.grow by 20 pages
    assert pool("run", job(1, budget=21))["memory"] == 21 * 65536
    with pytest.raises(Error, match="out_of_memory: The program asked for more memory than its budget"):
        pool("run", job(1, budget=20))
    assert pool("run", job(1, budget=21))["memory"] == 21 * 65536
    with pytest.raises(Error, match="out_of_memory: The program begins with 64 KiB"):
        pool("run", job(1, budget=0))


def test_fuel_ends_a_program_from_within(pool: Ask) -> None:
    """No `terminate()`: where a browser does not interrupt a hot loop, the meter in the code does."""
    keep(pool, 1, guard(command(LOOP)))
    with pytest.raises(Error, match="out_of_fuel: The program used up its fuel of 5,000,000"):
        pool("run", job(1, fuel=5_000_000, time=60_000))
    keep(pool, 2, guard(command(PRINT + i32(3) + call(0), HELLO)))
    used = pool("run", job(2))["fuel"]
    assert used > 0 and pool("run", job(2, fuel=used))["fuel"] == used
    with pytest.raises(Error, match="out_of_fuel"):
        pool("run", job(2, fuel=used - 1))
    keep(pool, 3, guard(command(call(2))))
    with pytest.raises(Error, match="stack_overflow: The program recursed too deeply"):
        pool("run", job(3))


def test_what_was_said_before_a_trap_is_repeated(pool: Ask) -> None:
    to_stderr = i32(2) + PRINT[2:]
    keep(pool, 1, command(to_stderr + UNREACHABLE, HELLO))
    with pytest.raises(Error, match=r"The program trapped: unreachable\. It had written to stderr: hello\."):
        pool("run", job(1))


def test_a_run_is_cancelled(pool: Ask) -> None:
    keep(pool, 1, command(LOOP))
    with pytest.raises(Error, match="cancelled: The call was cancelled"):
        pool("runAndCancel", job(1), 50)
    assert pool("running") == 0


def test_numbers_and_handlers(pool: Ask) -> None:
    module = Module([functype([I64], [I64]), functype([I32, I32], [I64]), functype([I32], [I32])])
    module.functions = [
        (0, body(local_get(0) + b"\x42\x01\x7c")),  # add one
        (1, body(local_get(0) + b"\xad\x42\x20\x86" + local_get(1) + b"\xad\x84")),  # ptr << 32 | len
        (2, body(i32(64))),
        (1, body(b"\x42\x7f")),  # a pointer outside
    ]
    module.memories = [pages(1)]
    module.exports = [
        exported("add_one", FUNC, 0),
        exported("handle", FUNC, 1),
        exported("alloc", FUNC, 2),
        exported("memory", MEMORY, 0),
    ]
    keep(pool, 1, module.encode())
    signature = {"params": ["i64"], "results": ["i64"]}
    word = list(struct.pack("<q", 2**62))
    done = pool("run", job(1, abi="plain", func="add_one", params=word, signature=signature))
    assert struct.unpack("<q", bytes(done["values"])) == (2**62 + 1,)
    assert pool("run", job(1, abi="handle", params=[1, 2, 3]))["values"] == [1, 2, 3]
    module.exports.append(exported("_initialize", FUNC, 2))  # not a reactor's: it takes a number
    keep(pool, 3, module.encode())
    assert pool("run", job(3, abi="handle", params=[1]))["values"] == [1]
    module.exports[1] = exported("handle", FUNC, 3)
    keep(pool, 2, module.encode())
    with pytest.raises(Error, match="output_too_large: The result is 4 GiB"):
        pool("run", job(2, abi="handle", params=[1]))
    with pytest.raises(Error, match="bad_result: `handle` gave a result outside"):
        pool("run", job(2, abi="handle", params=[1], output=1 << 32))


def test_what_is_not_a_module(pool: Ask) -> None:
    good = command(PRINT, HELLO)
    pool("check", list(good))
    for wrong in (good[:-3], b"GIF89a", good.replace(b"\x0c\x00", b"\x0c\x09") + b"\0"):
        with pytest.raises(Error, match="invalid_wasm: The module does not validate"):
            pool("check", list(wrong))
    with pytest.raises(Error, match="not_found: The module is no longer"):
        pool("run", job(9))
    keep(pool, 3, Module([functype()], [imported("env", "system", FUNC, b"\0")]).encode())
    with pytest.raises(Error, match="bad_import: the module imports env"):
        pool("run", job(3))


def test_a_kept_module_is_found_again_after_a_reload(page: Page, pool: Ask) -> None:
    keep(pool, 1, command(PRINT, HELLO))
    again = begin(page, "again")
    again("open")
    again("pool", 1, {name: list(wasi.load(name)) for name in wasi.MODULES})
    assert again("find", [2]) is None
    assert again("find", [1]) == [1]
    assert decode_result(bytes(again("run", job(1))["wasi"]), 9).stdout == b"hello"
