"""The shape of the tree: who may import whom, what the kernel must not touch, how large a file may be."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import promisegrid
from promisegrid.errors import CODES

KERNEL = Path(promisegrid.__file__).parent
ROOT = KERNEL.parent.parent
HOSTS = {"js", "pyodide", "promisegrid_node", "promisegrid_worker"}
FORBIDDEN = HOSTS | {
    "asyncio", "concurrent", "ctypes", "datetime", "http", "io", "logging", "multiprocessing", "os", "select",
    "pathlib", "random", "secrets", "selectors", "shutil", "socket", "sqlite3", "ssl", "subprocess", "time",
    "tempfile", "threading", "urllib",
}  # fmt: skip
FILES = sorted(KERNEL.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(KERNEL.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports(path: Path, typing_too: bool = False) -> set[str]:
    """The modules a file imports, by full name; not those under `if TYPE_CHECKING:` unless asked for."""
    tree = ast.parse(path.read_text())
    hidden: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not typing_too:
            hidden.update(child for part in node.body for child in ast.walk(part))
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert not node.level, f"{path}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(name if name in MODULES else node.module for name in names)
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_the_kernel_does_no_io_and_knows_no_host(path: Path) -> None:
    names = imports(path, typing_too=True) - {"urllib.parse"}  # it reads addresses, and opens nothing
    assert not {name.partition(".")[0] for name in names} & FORBIDDEN
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "exec", "eval", "breakpoint"}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_is_small_says_what_it_is_and_imports_at_its_top(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [part for part in ast.walk(node) if isinstance(part, ast.Import | ast.ImportFrom)]
            assert not inner, f"{node.name} imports"
            assert node.end_lineno is not None and node.end_lineno - node.lineno < 60, node.name


def test_nothing_in_the_kernel_goes_round_in_a_circle() -> None:
    graph = {name: imports(path) & set(MODULES) - {name} for name, path in MODULES.items()}
    assert list(TopologicalSorter(graph).static_order())


def test_the_browser_is_known_in_the_worker_only() -> None:
    for folder in ("node", "apps", "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not {name.partition(".")[0] for name in imports(path, typing_too=True)} & {
                "js",
                "pyodide",
            }, path


def test_every_code_of_the_vocabulary_is_used() -> None:
    hosts = [ROOT / "node", ROOT / "worker"]
    if not all(host.is_dir() for host in hosts):
        pytest.skip("only the kernel is here, and some codes are the hosts'")
    sources = [
        *FILES,
        *(path for host in hosts for path in host.rglob("*") if path.suffix in (".py", ".mjs")),
    ]
    text = "".join(path.read_text() for path in sources if path.name != "errors.py")
    assert [code for code in CODES if f'"{code}"' not in text] == []
