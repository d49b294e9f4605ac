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
    """Largest met: 141."""
    params: int = 200
    """Of one type. Largest met: 18."""
    results: int = 32
    """Of one type. Largest met: 1; each is a value that two bytes of `call` can make again."""
    imports: int = 1_000
    """47 exist. A name may be imported twice."""
    functions: int = 100_000
    """Largest met: 11,491. A compiler pays some microseconds for each, however small (100,000: 2 s)."""
    tables: int = 16
    """Largest met: 1."""
    table_elements: int = 1_000_000
    """Reserved before the program starts, outside its memory budget: 8 MB. Largest met: 7,206."""
    globals: int = 20_000
    """Largest met: 8."""
    exports: int = 20_000
    """Largest met: 10. Their names are kept in `ModuleInfo`."""
    name_bytes: int = 1_000_000
    """Names of imports and exports together, for the same reason. Largest met: 1,509."""
    segments: int = 100_000
    """Data and element segments: the engines' own bound. Largest met: 53,028, in a Go program."""
    elements: int = 1_000_000
    """Entries of all element segments. Largest met: 5,902."""

    # -- one function ------------------------------------------------------------------------------------
    # Times are Cranelift's on one slow core, for the worst shape found at that bound.
    body_bytes: int = 2 * 1024 * 1024
    """Largest met: 106 KB. Compilers hold a whole function in memory, many times over (3 s, 500 MB)."""
    locals: int = 10_000
    """Locals and parameters. Largest met: 188."""
    depth: int = 4_096
    """Blocks within blocks. Largest met: 642, in a Go program."""
    branch_targets: int = 65_520
    """Of all `br_table`: Wasmtime's bound for one. Largest met: 1,221."""
    loops_times_locals: int = 20_000
    """Deepest nesting of loops × locals: every loop head merges every local. Largest met: 1,504. The time
    grows with its square: 0.4 s here, 10 s at 100,000, 153 s at the 2,000,000 of the module above."""
    depth_times_locals: int = 150_000
    """Deepest nesting of blocks × locals: values merged again at each end. Largest met: 15,792."""
    edges: int = 32_768
    """Blocks, conditional branches and `br_table` targets. Largest met: 2,901. 66,000 took 13 s."""
    edges_times_locals: int = 2_000_000
    """Those × locals: values handed over at joins. Largest met: 194,204. Ten million took 23 s."""
    block_values: int = 20_000
    """Parameters and results of all blocks with a function type. Largest met: 0; 160,000 took over 3 GB."""
    call_values: int = 250_000
    """Calls × the most results of any type, if that is not one. Largest met: 0. A million took 7 s."""

    # -- all functions together --------------------------------------------------------------------------
    all_code_bytes: int = 64 * 1024 * 1024
    """Largest met: 6.2 MB, which compiles for 10 s."""
    all_locals: int = 10_000_000
    """Three bytes declare ten thousand. Largest met: 44,678; 200 million took 11 s."""
    all_loops_times_locals: int = 1_000_000
    """The sum over all functions. Largest met: 21,840."""
    all_edges_times_locals: int = 40_000_000
    """The sum over all functions. Largest met: 2,419,947."""
