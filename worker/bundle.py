#!/usr/bin/env python3
"""Make ``build/web``: everything a node serves to a tab, and nothing fetched from anywhere else.

    python worker/bundle.py [--out build/web] [--force]
    python worker/bundle.py --test-site     instead: what tests-in-pyodide.mjs needs

Promises: the same inputs give the same bytes; an unchanged tree is recognised and left alone; a failure is
one sentence and leaves the previous bundle in place. Does not know what pages, worker or kernel do.

The result::

    index.html, …            what web/ has at its root (index.html, and web/root/): short-lived
    static/<hash16>/…        everything else under a name that changes with its content: cache for ever
    static/<hash16>/bundle.json   what boot.mjs must know: versions, sizes, the files to place
    manifest.json            every file's sha-256 and size (not itself, not the .br and .gz twins)

``{{static}}`` in a text file becomes ``/static/<hash16>``. Files worth it have ``.br`` and ``.gz`` twins.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKER = ROOT / "worker"
PYODIDE = WORKER / "node_modules" / "pyodide"
CACHE = ROOT / "build" / "cache"
PACKAGES = (ROOT / "kernel" / "promisegrid", WORKER / "promisegrid_worker")
ENGINE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm")
BUILD_ONLY = ("freeze.mjs", "compress.mjs", "tests-in-pyodide.mjs", "store.disk.mjs", "socket.node.mjs")
PLATFORM = ("pyemscripten_2026_0_wasm32", "3.14", "cp314")
ARCHIVE = "python.zip"

BROTLI = 9  # of 13.3 MB: 5 takes 0.6 s and gives 3.5 MB, 9 takes 2.5 s and 3.4 MB, 11 takes 33 s and 3.0 MB
TEXT = (".html", ".mjs", ".js", ".css", ".json", ".svg", ".webmanifest")
COMPRESSIBLE = (*TEXT, ".wasm", ".zip", ".so", ".pyc", ".txt")
COMPRESS_MIN = 1024  # bytes; below it a twin saves less than a packet
MARKER = b"{{static}}"

Files = dict[str, bytes]


class BundleError(Exception):
    """The bundle cannot be made; the message says why and what to do."""


def say(text: str) -> None:
    """One line of progress."""
    print(f"  {text}", flush=True)


def command(arguments: list[str], what: str, stdin: str | None = None) -> None:
    """Run a tool to its end, or raise BundleError with the last thing it said."""
    if shutil.which(arguments[0]) is None:
        name = Path(arguments[0]).name
        raise BundleError(f"{name} is not installed, and is needed for {what}: install Node.js 20 or newer.")
    done = subprocess.run(arguments, input=stdin, capture_output=True, text=True, cwd=WORKER, check=False)
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise BundleError(f"{what} failed: {' | '.join(said[-4:]) or f'exit code {done.returncode}'}")


def walk(folder: Path, suffix: str = "*") -> list[Path]:
    """The files below ``folder`` in byte order, without caches and hidden files."""
    found = (path for path in folder.rglob(suffix) if path.is_file())
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)
    )


def inputs() -> list[Path]:
    """Every file of ours the bundle is made from."""
    pins = WORKER / "requirements.txt", WORKER / "package-lock.json"
    own = [*WORKER.glob("*.mjs"), *WORKER.glob("*.py"), *pins]
    return sorted([*own, *walk(ROOT / "web"), *(path for package in PACKAGES for path in walk(package))])


def digest(data: bytes) -> str:
    """sha-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def stamp() -> str:
    """One name for the inputs and for the Pyodide that npm installed."""
    said = hashlib.sha256()
    for path in (*inputs(), PYODIDE / "package.json"):
        said.update(f"{path.relative_to(ROOT)}\0{digest(path.read_bytes())}\n".encode())
    return said.hexdigest()


def fetch_wheels(requirements: Path, target: Path) -> list[Path]:
    """The pinned wheels for Pyodide's platform, checked against their hashes; kept until the pins change."""
    mark = target / ".done"
    want = digest(requirements.read_bytes() + (WORKER / "requirements.txt").read_bytes())
    if not (mark.exists() and mark.read_text() == want):
        say(f"fetching the wheels of {requirements.relative_to(ROOT)}")
        shutil.rmtree(target, ignore_errors=True)
        platform, python, abi = PLATFORM
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-input"]
        exactly = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--platform", platform]
        exactly += ["--python-version", python, "--abi", abi, "--abi", "none"]
        where = ["--dest", str(target), "-r", str(requirements)]
        command([*pip, *exactly, *where], "fetching wheels from the package index (is there a network?)")
        mark.write_text(want)
    return sorted(target.glob("*.whl"))


def unpack(wheels: Iterable[Path], target: Path) -> None:
    """Wheels as the files of one site-packages folder."""
    shutil.rmtree(target, ignore_errors=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)


def package_files() -> Files:
    """Our Python packages as they lie in the archive: source text and package data."""
    files: Files = {}
    for package in PACKAGES:
        for path in walk(package):
            if path.name != "py.typed":
                files[path.relative_to(package.parent).as_posix()] = path.read_bytes()
    return files


def module_names(files: Iterable[str]) -> list[str]:
    """The dotted names of the modules among ``files``, packages first."""
    names = {name.removesuffix(".py").removesuffix("/__init__") for name in files if name.endswith(".py")}
    return sorted(name.replace("/", ".") for name in names if not name.endswith("__main__"))


def freeze(site: Path, scratch: Path) -> tuple[bytes, dict[str, object]]:
    """The archive of compiled modules, and what freeze.py reports about it."""
    sources = package_files()
    say(f"tracing and compiling the standard library for {len(module_names(sources))} modules of ours")
    with zipfile.ZipFile(scratch / "sources.zip", "w") as archive:
        for name, data in sorted(sources.items()):
            archive.writestr(zipfile.ZipInfo(name), data)
    out = scratch / ARCHIVE
    command(
        ["node", "freeze.mjs", str(site), str(scratch / "sources.zip"), str(out), *module_names(sources)],
        "importing the kernel and the worker inside Pyodide",
    )
    report: dict[str, object] = json.loads(Path(f"{out}.json").read_text())
    return out.read_bytes(), report


def site_files(site: Path) -> Files:
    """What must lie in site-packages as files, since Python loads no extension module from an archive."""
    return {
        path.relative_to(site).as_posix(): path.read_bytes()
        for path in walk(site)
        if path.suffix in (".py", ".so") and path.name != "tool.py"
    }


def static_files(scratch: Path) -> Files:
    """Everything below static/<hash16>, with the marker still in it."""
    site = scratch / "site"
    unpack(fetch_wheels(WORKER / "requirements.txt", CACHE / "wheels"), site)
    archive, report = freeze(site, scratch)
    files: Files = {name: (PYODIDE / name).read_bytes() for name in ENGINE}
    files[ARCHIVE] = archive
    placed = site_files(site)
    files |= {f"site/{name}": data for name, data in placed.items()}
    lock = json.loads((PYODIDE / "pyodide-lock.json").read_text())["info"]
    sizes = {name: len(data) for name, data in files.items()}
    about = {"pyodide": json.loads((PYODIDE / "package.json").read_text())["version"], "lock": lock, **report}
    files["bundle.json"] = to_json({**about, "site": sorted(placed), "sizes": sizes})
    ours = {path.name: path for path in WORKER.glob("*.mjs") if path.name not in BUILD_ONLY}
    web = ROOT / "web"
    found = [path.relative_to(web) for path in walk(web)]
    pages = {path.as_posix(): web / path for path in found if not at_root(path)}
    for name, path in (*ours.items(), *pages.items()):
        if name in files:
            where = path.relative_to(ROOT)
            raise BundleError(f"{where} has the name of another file of the bundle, {name!r}: rename it.")
        files[name] = path.read_bytes()
    return files


def at_root(path: Path) -> bool:
    """Whether a file of web/ keeps its plain name at the root of the site."""
    return path.as_posix() == "index.html" or path.parts[0] == "root"


def root_files() -> Files:
    """The files with plain names, with the marker still in them."""
    web = ROOT / "web"
    found = [path.relative_to(web) for path in walk(web) if at_root(path.relative_to(web))]
    return {path.as_posix().removeprefix("root/"): (web / path).read_bytes() for path in found}


def to_json(value: object) -> bytes:
    """JSON the same way every time."""
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def named(static: Files, root: Files) -> Files:
    """All files by their path on the site: the hash put in the names, and the names put in the text."""
    content = "".join(f"{name}\0{digest(data)}\n" for name, data in sorted(static.items()))
    prefix = f"static/{digest(content.encode())[:16]}"
    files = {f"{prefix}/{name}": data for name, data in static.items()} | root
    for name, data in files.items():
        if name.endswith(TEXT) and MARKER in data:
            files[name] = data.replace(MARKER, f"/{prefix}".encode())
    listed = {name: {"sha256": digest(data), "size": len(data)} for name, data in sorted(files.items())}
    files["manifest.json"] = to_json({"static": f"/{prefix}", "files": listed})
    return files


def gzipped(data: bytes) -> bytes:
    """gzip without a time stamp."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9, mtime=0, filename="") as archive:
        archive.write(data)
    return out.getvalue()


def twins(files: Files) -> Files:
    """``.br`` and ``.gz`` for the files that gain by it; kept by content, since brotli is slow."""
    store = CACHE / f"compressed-{BROTLI}"
    store.mkdir(parents=True, exist_ok=True)
    worth = {n: data for n, data in files.items() if n.endswith(COMPRESSIBLE) and len(data) >= COMPRESS_MIN}
    wanted = {name: digest(data) for name, data in worth.items()}
    missing = {key: name for name, key in wanted.items() if not (store / f"{key}.br").exists()}
    if missing:
        say(f"compressing {len(missing)} files")
    for key, name in missing.items():
        (store / f"{key}.raw").write_bytes(files[name])
        (store / f"{key}.gz").write_bytes(gzipped(files[name]))
    pairs = "".join(f"{store / key}.raw\t{store / key}.br\n" for key in missing)
    command(["node", "compress.mjs", str(BROTLI)], "compressing", stdin=pairs)
    made: Files = {}
    for name, key in wanted.items():
        for suffix in (".br", ".gz"):
            data = (store / f"{key}{suffix}").read_bytes()
            if len(data) < len(files[name]):
                made[name + suffix] = data
    for key in missing:
        (store / f"{key}.raw").unlink()
    return made


def replace(out: Path, files: Files) -> None:
    """Write all files beside ``out``, then take its place; a node that is serving sees the old or the new."""
    fresh, old = out.with_name(out.name + ".new"), out.with_name(out.name + ".old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    for name, data in files.items():
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if out.exists():
        out.rename(old)
    fresh.rename(out)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One at a time makes a bundle; whoever comes meanwhile waits, and mostly finds it made."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def bundle(out: Path, force: bool = False) -> bool:
    """Make ``out``; False if it already was what the inputs give."""
    if not (PYODIDE / "package.json").exists():
        raise BundleError("Pyodide is missing from worker/node_modules: run ./build.sh bundle.")
    mark = out.with_name(out.name + ".stamp")
    now = stamp()
    if not force and (out / "manifest.json").exists() and mark.exists() and mark.read_text() == now:
        return False
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="promisegrid-bundle-") as scratch:
        files = named(static_files(Path(scratch)), root_files())
    files |= twins(files)
    replace(out, files)
    mark.write_text(now)
    plain = {name: data for name, data in files.items() if not name.endswith((".br", ".gz"))}
    sent = sum(len(files.get(name + ".br", data)) for name, data in plain.items())
    say(f"{len(files)} files, {sent / 1e6:.2f} MB to send with brotli, in {time.monotonic() - started:.0f} s")
    return True


def make_test_site() -> None:
    """pytest and Hypothesis for Pyodide, unpacked, unless they already are."""
    site, pins = CACHE / "test-site", WORKER / "requirements-test.txt"
    wheels = fetch_wheels(pins, CACHE / "test-wheels")
    mark, now = CACHE / "test-site.stamp", digest(pins.read_bytes())
    if not (site.exists() and mark.exists() and mark.read_text() == now):
        unpack(wheels, site)
        mark.write_text(now)


def main() -> int:
    """The command line; exit code 1 with one line on stderr when the bundle cannot be made."""
    parser = argparse.ArgumentParser(description="Make everything a node serves to a tab.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "web")
    parser.add_argument("--force", action="store_true", help="make it even if nothing changed")
    parser.add_argument("--test-site", action="store_true", help="fetch what tests inside Pyodide need")
    options = parser.parse_args()
    try:
        if options.test_site:
            make_test_site()
        else:
            with alone():
                bundle(options.out.resolve(), options.force)
    except (BundleError, OSError) as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
