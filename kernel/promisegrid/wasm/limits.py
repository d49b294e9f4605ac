"""What a module may cost to read and to compile, each bound with its reason.

A module is code from a stranger, and a compiler is an amplifier: 31 KB of legal WebAssembly, 2,000
nested loops over 1,000 locals, kept Wasmtime's Cranelift busy for 153 seconds and took 1.3 GB. These
bounds are static, so they hold before a compiler sees the module; a compile still belongs in a
process with a time and memory limit, for what no static figure foresees.

"Largest met" is over CPython 3.12, QuickJS, Graphviz, resvg and a Go program, all built for WASI.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModuleLimits:
    """Bounds of one module. Sizes are bytes unless the name says otherwise."""

    module_bytes: int = 128 * 1024 * 1024
    """The whole module. Largest met: 26 MB."""
    custom_sections: int = 1_000
    """Passed over, but each costs a step."""
    types: int = 10_000
    params: int = 500
    results: int = 100
    imports: int = 1_000
    functions: int = 100_000
    """Largest met: 11,448. A compiler pays some microseconds for each, however small."""
    tables: int = 16
    table_elements: int = 1_000_000
    globals: int = 20_000
    exports: int = 20_000
    segments: int = 100_000
    elements: int = 1_000_000
    body_bytes: int = 2 * 1024 * 1024
    """One function. Largest met: 106 KB. Compilers hold a whole function in memory, many times over."""
    locals: int = 10_000
    """Locals and parameters of one function. Largest met: 188."""
    depth: int = 4_096
    """Blocks within blocks. Largest met: 642, in a Go program."""
    branch_targets: int = 200_000
    """Targets of all br_table of one function. Largest met: 1,222."""
    loops_times_locals: int = 65_536
    """Deepest loop nesting times locals: what is merged at loop heads. Largest met: 1,504."""
    blocks_times_locals: int = 5_000_000
    """Blocks of a function times its locals: what is merged at joins. Largest met: 103,400."""
