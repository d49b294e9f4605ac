"""The bundle's own rules; making a real one is e2e's."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "worker"))

import bundle  # noqa: E402  (a script beside the worker, on no path of its own)

STATIC = {"page.mjs": b"import '{{static}}/boot.mjs'", "boot.mjs": b"1", "python.zip": b"PK{{static}}"}


def test_static_files_are_named_by_their_content() -> None:
    one, again = bundle.named(STATIC, {}), bundle.named(dict(reversed(STATIC.items())), {})
    other = bundle.named(STATIC | {"boot.mjs": b"2"}, {})
    assert one == again
    assert json.loads(one["manifest.json"])["static"] != json.loads(other["manifest.json"])["static"]
    assert all(re.fullmatch(r"static/[0-9a-f]{16}/[a-z.]+", name) for name in one if name != "manifest.json")


def test_the_marker_becomes_the_hashed_folder_in_text_only() -> None:
    files = bundle.named(STATIC, {"index.html": b"<script src={{static}}/page.mjs>"})
    static = json.loads(files["manifest.json"])["static"]
    assert files["index.html"] == f"<script src={static}/page.mjs>".encode()
    assert files[f"{static[1:]}/page.mjs"] == f"import '{static}/boot.mjs'".encode()
    assert files[f"{static[1:]}/python.zip"] == STATIC["python.zip"]


def test_the_manifest_names_every_file_with_its_digest() -> None:
    files = bundle.named(STATIC, {"index.html": b"hello {{static}}"})
    listed = json.loads(files.pop("manifest.json"))["files"]
    expected = {n: {"sha256": hashlib.sha256(d).hexdigest(), "size": len(d)} for n, d in files.items()}
    assert listed == expected


def test_gzip_is_repeatable() -> None:
    data = bytes(range(256)) * 40
    assert bundle.gzipped(data) == bundle.gzipped(data)
    assert gzip.decompress(bundle.gzipped(data)) == data
    assert bundle.gzipped(data)[4:8] == bytes(4), "a time stamp"


def test_replacing_leaves_nothing_of_the_old(tmp_path: Path) -> None:
    out = tmp_path / "web"
    bundle.replace(out, {"a/old.mjs": b"1"})
    bundle.replace(out, {"a/new.mjs": b"2"})
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.mjs")] == ["web/a/new.mjs"]


def test_module_names_come_from_file_names() -> None:
    names = bundle.module_names(["a/__init__.py", "a/b.py", "a/c/__init__.py", "a/c/__main__.py", "a/x.wasm"])
    assert names == ["a", "a.b", "a.c"]


def test_a_missing_tool_is_one_sentence() -> None:
    with pytest.raises(bundle.BundleError, match=r"^no-such-tool is not installed, .*: install Node\.js"):
        bundle.command(["no-such-tool"], "a test")


def test_a_failing_tool_says_its_last_words() -> None:
    with pytest.raises(bundle.BundleError, match=r"^a test failed: .*ZeroDivisionError"):
        bundle.command([sys.executable, "-c", "1/0"], "a test")


def test_pins_name_no_host_and_have_hashes() -> None:
    for name in ("requirements.txt", "requirements-test.txt"):
        pins = [line for line in (ROOT / "worker" / name).read_text().splitlines() if "==" in line]
        form = re.compile(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}")
        assert pins and all(form.fullmatch(pin) for pin in pins)
    assert "resolved" not in (ROOT / "worker" / "package-lock.json").read_text()
