"""Every command of the README, as it is written there, against a running node."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from e2e.conftest import RunNode
from e2e.harness import ROOT, environment

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.partition("   #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if "promisegrid" in line and "…" not in line
]


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_does_what_it_says(run_node: RunNode, tmp_path: Path) -> None:
    if not (ROOT / ".venv" / "bin" / "promisegrid").exists():
        pytest.fail("the README's command is not installed: run ./build.sh bundle")
    node = run_node()
    said = {}
    for command in COMMANDS:
        typed = re.sub(r"\b(drawing\.png|copy\.svg|backup\.car)\b", rf"{tmp_path}/\1", command)
        done = subprocess.run(
            ["bash", "-c", typed], cwd=ROOT, env={**os.environ, **environment(node.cli.home)},
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{typed}: {done.stderr}"
        said[command] = done.stdout
    assert len(said) >= 5
    assert (tmp_path / "drawing.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "copy.svg").read_bytes() == (ROOT / "docs" / "drawing.svg").read_bytes()
    assert (tmp_path / "backup.car").stat().st_size > 1_000_000
    assert any("  drawing" in text and "  docs" in text for text in said.values())
    assert any('"cached": true' in text for text in said.values())
    assert any("/#/app/" in text for text in said.values())
