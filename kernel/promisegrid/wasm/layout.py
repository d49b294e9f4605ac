"""What a module declares, section by section, without looking inside function bodies.

`parse` is the one reader of module structure; `describe`, `inspect` and `guard` all stand on it.
Promises: time in proportion to the bytes, memory in proportion to `ModuleLimits`, only `RemoteError`.
It does not validate: that a type index exists is checked only where this package would use it. The
engine's own validation comes first (see `guard`).

Source: WebAssembly Core Specification 2.0, section 5.5 (modules).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from promisegrid import units
from promisegrid.errors import RemoteError
from promisegrid.wasm.binary import SECTION_NAMES, Reader, Section, sections
from promisegrid.wasm.limits import ModuleLimits
from promisegrid.wasm.opcodes import CONSTANT

VALUE_TYPES: Final = {
    0x7F: "i32",
    0x7E: "i64",
    0x7D: "f32",
    0x7C: "f64",
    0x7B: "v128",
    0x70: "funcref",
    0x6F: "externref",
}
KINDS: Final = ("func", "table", "memory", "global")
PAGES_MAX: Final = 65_536
"""Pages of 64 KiB in a 32-bit memory."""


@dataclass(frozen=True, slots=True)
class FuncType:
    """A function's signature: value types by their text names ("i32", …)."""

    params: tuple[str, ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


@dataclass(frozen=True, slots=True)
class Import:
    """One import. `kind` is one of `KINDS`; `type` is a function's signature, else None."""

    module: str
    name: str
    kind: str
    type: FuncType | None


@dataclass(frozen=True, slots=True)
class Memory:
    """The one memory: pages of 64 KiB; `max_pages` None when the module declares no maximum."""

    imported: bool
    min_pages: int
    max_pages: int | None


@dataclass(frozen=True, slots=True)
class Export:
    """One export: what kind of thing, and its index among things of that kind."""

    kind: str
    index: int


@dataclass(frozen=True, slots=True)
class Layout:
    """One module's declarations. Index spaces begin with the imported things."""

    data: bytes
    sections: dict[int, Section]
    types: tuple[FuncType, ...]
    imports: tuple[Import, ...]
    functions: tuple[int, ...]
    """The type index of every function, imported ones first."""
    imported_functions: int
    tables: int
    table_elements: int
    """The sum of the tables' initial sizes."""
    globals: int
    memory: Memory | None
    memory_limits_at: tuple[int, int]
    """Where the memory's limits are written, start and end; (0, 0) without a memory."""
    exports: dict[str, Export]
    start: int | None
    segments: int
    """Data segments and element segments."""
    elements: int
    """Entries of all element segments."""

    def type_of(self, function: int) -> FuncType:
        """The signature of a function by its index."""
        if function >= len(self.functions) or self.functions[function] >= len(self.types):
            raise RemoteError("invalid_wasm", f"Function {function} or its type does not exist.")
        return self.types[self.functions[function]]

    def reader(self, section_id: int, where: str) -> Reader:
        """A reader over one section's payload."""
        section = self.sections[section_id]
        return Reader(self.data, section.start, section.end, where)


class _Parser:
    """Collects the declarations; one method a section."""

    def __init__(self, data: bytes, limits: ModuleLimits) -> None:
        self.limits = limits
        self.types: list[FuncType] = []
        self.imports: list[Import] = []
        self.functions: list[int] = []
        self.imported_functions = self.tables = self.table_elements = self.globals = 0
        self.memory: Memory | None = None
        self.memory_limits_at = (0, 0)
        self.exports: dict[str, Export] = {}
        self.start: int | None = None
        self.segments = self.elements = self.name_bytes = 0

    # -- pieces --------------------------------------------------------------------------------------

    def name(self, reader: Reader) -> str:
        """A name of an import or export, as long as all of them together stay within the limit."""
        start = reader.pos
        name = reader.name()
        self.name_bytes += reader.pos - start
        if self.name_bytes > self.limits.name_bytes:
            reader.fail(f"there are more than {self.limits.name_bytes:,} bytes of names", "too_complex")
        return name

    def value_type(self, reader: Reader) -> str:
        byte = reader.byte()
        if byte not in VALUE_TYPES:
            if byte in (0x63, 0x64, *range(0x69, 0x70), *range(0x71, 0x79)):
                reader.refuse("typed references or garbage collection")
            reader.fail(f"value type 0x{byte:02x} is unknown")
        return VALUE_TYPES[byte]

    def sizes(self, reader: Reader, what: str) -> tuple[int, int | None]:
        """Limits of a memory or table: minimum, and maximum or None."""
        flags = reader.byte()
        if flags & 4 and flags < 16:
            reader.refuse(f"a 64-bit {what} (memory64)")
        if flags & 2 and flags < 16:
            reader.refuse(f"a shared {what} (threads)")
        if flags > 1:
            reader.fail(f"the flags 0x{flags:02x} of a {what} are unknown", "unsupported")
        smallest = reader.u32()
        return smallest, reader.u32() if flags else None

    def add_memory(self, reader: Reader, imported: bool) -> None:
        if self.memory is not None:
            reader.refuse("more than one memory")
        start = reader.pos
        smallest, largest = self.sizes(reader, "memory")
        if max(smallest, largest or 0) > PAGES_MAX or (largest is not None and largest < smallest):
            reader.fail(f"memory limits {smallest} to {largest} pages are not valid")
        self.memory = Memory(imported, smallest, largest)
        self.memory_limits_at = (start, reader.pos)

    def add_table(self, reader: Reader) -> None:
        if reader.pos < reader.end and reader.data[reader.pos] == 0x40:
            reader.refuse("a table with an initial value")
        self.value_type(reader)
        smallest, _ = self.sizes(reader, "table")
        self.tables += 1
        self.table_elements += smallest
        if self.tables > self.limits.tables or self.table_elements > self.limits.table_elements:
            reader.fail(
                f"there are {self.tables} tables of {self.table_elements:,} elements; this node's limits are "
                f"{self.limits.tables} and {self.limits.table_elements:,}",
                "too_complex",
            )

    def add_global(self, reader: Reader) -> None:
        self.value_type(reader)
        mutable = reader.byte()
        if mutable > 1:
            feature = "shared globals (threads)" if mutable < 4 else "globals of an unknown kind"
            reader.refuse(f"{feature}")
        self.globals += 1

    def constant(self, reader: Reader) -> None:
        """Pass a constant expression."""
        match = CONSTANT.match(reader.data, reader.pos, reader.end)
        if match is None:
            reader.fail("an initial value is no plain constant, which is refused", "unsupported")
        reader.pos = match.end()

    def indices(self, reader: Reader) -> None:
        for _ in range(self.entries(reader)):
            reader.u32()

    def entries(self, reader: Reader) -> int:
        count = reader.count("element entries", self.limits.elements - self.elements)
        self.elements += count
        return count

    # -- sections ------------------------------------------------------------------------------------

    def type_section(self, reader: Reader) -> None:
        for _ in range(reader.count("types", self.limits.types)):
            form = reader.byte()
            if form in (0x4D, 0x4E, 0x4F, 0x50, 0x5C, 0x5D, 0x5E, 0x5F):
                reader.refuse("garbage collection or stack switching")
            if form != 0x60:
                reader.fail(f"type form 0x{form:02x} is unknown")
            params = reader.count("params", self.limits.params)
            taken = tuple([self.value_type(reader) for _ in range(params)])
            results = reader.count("results", self.limits.results)
            self.types.append(FuncType(taken, tuple([self.value_type(reader) for _ in range(results)])))

    def import_section(self, reader: Reader) -> None:
        for _ in range(reader.count("imports", self.limits.imports)):
            module, name, kind = self.name(reader), self.name(reader), reader.byte()
            signature = None
            if kind == 0:
                index = reader.u32()
                if index >= len(self.types):
                    reader.fail(f"type {index} does not exist")
                signature = self.types[index]
                self.functions.append(index)
            elif kind == 4:
                reader.refuse("exception handling (an imported tag)")
            elif kind > 4:
                reader.fail(f"import kind {kind} is unknown")
            else:
                (self.add_table, self.add_imported_memory, self.add_global)[kind - 1](reader)
            self.imports.append(Import(module, name, KINDS[kind], signature))
        self.imported_functions = len(self.functions)

    def add_imported_memory(self, reader: Reader) -> None:
        self.add_memory(reader, imported=True)

    def function_section(self, reader: Reader) -> None:
        count = reader.count("functions", self.limits.functions)
        self.functions.extend([reader.u32() for _ in range(count)])

    def table_section(self, reader: Reader) -> None:
        for _ in range(reader.count("tables", self.limits.tables)):
            self.add_table(reader)

    def memory_section(self, reader: Reader) -> None:
        for _ in range(reader.count("memories", 100)):
            self.add_memory(reader, imported=False)

    def global_section(self, reader: Reader) -> None:
        for _ in range(reader.count("globals", self.limits.globals)):
            self.add_global(reader)
            self.constant(reader)

    def export_section(self, reader: Reader) -> None:
        for _ in range(reader.count("exports", self.limits.exports)):
            name, kind = self.name(reader), reader.byte()
            if kind >= len(KINDS):
                if kind == 4:
                    reader.refuse("exception handling (an exported tag)")
                reader.fail(f"export kind {kind} is unknown")
            if name in self.exports:
                reader.fail("an export comes twice")
            self.exports[name] = Export(KINDS[kind], reader.u32())

    def start_section(self, reader: Reader) -> None:
        self.start = reader.u32()

    def element_section(self, reader: Reader) -> None:
        """The eight forms of 5.5.12: bit 0 not active, bit 1 a table named or declared, bit 2 expressions."""
        count = reader.count("element segments", self.limits.segments)
        self.segments += count
        for _ in range(count):
            flags = reader.u32()
            if flags > 7:
                reader.fail(f"form {flags} of an element segment is unknown")
            if flags & 3 == 2:
                reader.u32()
            if not flags & 1:
                self.constant(reader)
            if flags & 3:
                self.value_type(reader) if flags & 4 else reader.byte()
            if flags & 4:
                for _ in range(self.entries(reader)):
                    self.constant(reader)
            else:
                self.indices(reader)

    def data_count_section(self, reader: Reader) -> None:
        reader.u32()

    def code_section(self, reader: Reader) -> None:
        """Only that there is a body for every function; `inspect` and `guard` look inside."""
        count = reader.u32()
        own = len(self.functions) - self.imported_functions
        if count != own:
            reader.fail(f"there are {count:,} bodies for {own:,} functions")
        reader.pos = reader.end

    def data_section(self, reader: Reader) -> None:
        count = reader.count("data segments", self.limits.segments)
        self.segments += count
        for _ in range(count):
            flags = reader.u32()
            if flags > 2:
                reader.fail(f"form {flags} of a data segment is unknown")
            if flags == 2 and reader.u32():
                reader.refuse("more than one memory")
            if flags != 1:
                self.constant(reader)
            reader.skip(reader.u32())


def parse(data: bytes, limits: ModuleLimits) -> Layout:
    """Read every section's declarations. Raises `RemoteError` (not_wasm, invalid_wasm, unsupported,
    too_complex, too_large) with one sentence; never anything else."""
    if len(data) > limits.module_bytes:
        most = units.size(limits.module_bytes)
        text = f"The module is {units.size(len(data))}; this node reads up to {most}."
        raise RemoteError("too_large", text)
    found = sections(data, limits.custom_sections)
    parser = _Parser(data, limits)
    readers: dict[int, Callable[[Reader], None]] = {
        1: parser.type_section,
        2: parser.import_section,
        3: parser.function_section,
        4: parser.table_section,
        5: parser.memory_section,
        6: parser.global_section,
        7: parser.export_section,
        8: parser.start_section,
        9: parser.element_section,
        12: parser.data_count_section,
        10: parser.code_section,
        11: parser.data_section,
    }
    for section_id, section in found.items():
        reader = Reader(data, section.start, section.end, f"the {SECTION_NAMES[section_id]} section")
        readers[section_id](reader)
        reader.done()
    if 10 not in found and len(parser.functions) > parser.imported_functions:
        raise RemoteError("invalid_wasm", "The module is truncated: its code section is missing.")
    return Layout(
        data,
        found,
        tuple(parser.types),
        tuple(parser.imports),
        tuple(parser.functions),
        parser.imported_functions,
        parser.tables,
        parser.table_elements,
        parser.globals,
        parser.memory,
        parser.memory_limits_at,
        parser.exports,
        parser.start,
        parser.segments,
        parser.elements,
    )
