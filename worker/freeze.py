"""Make the archive a tab starts Python from: the standard library it needs, and our packages, compiled.

Runs inside Pyodide (see freeze.mjs). Promises: nothing is imported here before the trace, so what the trace
sees is what a tab loads; the same inputs give the same bytes. Does not know what the modules do: it imports
every one.

Compiling is what makes a stock Pyodide slow to start (its archive holds only source text), hence ``.pyc``.
The archive is stored, not deflated: it travels compressed as a whole, which is smaller and quicker to open.

Each ``@dataclass`` compiles text of its own making when its module is imported, a third of the kernel's
import. So the texts are compiled here, into a module ``prepared``: imported first, it hands dataclasses the
code for a text it knows, and changes nothing for any other.
"""

import asyncio
import importlib
import json
import marshal
import sys

STDLIB = "/lib/python314.zip"
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip file can say

ALSO = (
    "encodings.ascii",  # codecs are looked up by name, at run time
    "encodings.cp437",  # zipimport reads an archive's file names with it
    "encodings.idna",
    "encodings.latin_1",
    "encodings.utf_8",
    "traceback",  # wanted only once something has gone wrong
    "linecache",
    "tokenize",
)


PREPARED = """\
import dataclasses
import marshal

CODE = marshal.loads({marshalled!r})


def prepared_exec(source, globals=None, locals=None):
    exec(CODE.get(source, source), globals, locals)


dataclasses.exec = prepared_exec
"""


def prepared(modules):
    """Import ``modules``; the source of the module that spares a tab from compiling their dataclasses."""
    dataclasses = importlib.import_module("dataclasses")
    code = {}

    def noted_exec(source, globals=None, locals=None):
        code[source] = marshal.loads(marshal.dumps(compile(source, "<string>", "exec", dont_inherit=True)))
        exec(code[source], globals, locals)  # noqa: S102  (what dataclasses wrote, as it would itself)

    dataclasses.exec = noted_exec
    for name in modules:
        importlib.import_module(name)
    return PREPARED.format(marshalled=marshal.dumps(dict(sorted(code.items()))))


def exercise(modules):
    """Do what a tab will do, so that what Python and cbor2 import late is traced too."""
    cbor2 = importlib.import_module("cbor2")
    for value in ([1, -1, 1.5, "é", b"", None, True, {"a": []}, cbor2.CBORTag(42, b"\0")], object(), 1 << 80):
        try:
            cbor2.loads(cbor2.dumps(value))
        except (cbor2.CBORError, TypeError, ValueError) as error:
            importlib.import_module("traceback").format_exception(error)
    resources = sys.modules.get("importlib.resources")
    if resources is not None:
        for name in modules:
            if hasattr(sys.modules[name], "__path__"):
                for entry in resources.files(name).iterdir():
                    if entry.is_file():
                        entry.read_bytes()


def traced():
    """The standard library's modules now loaded, as (name inside the archive) in order."""
    inside = set()
    for name in (*sys.modules, *ALSO):
        module = importlib.import_module(name) if name in ALSO else sys.modules[name]
        origin = getattr(getattr(module, "__spec__", None), "origin", None) or ""
        if origin.startswith(STDLIB + "/"):
            inside.add(origin.removeprefix(STDLIB + "/"))
    return sorted(inside)


def pyc(source, name):
    """Compiled ``source``, as an unchecked hash-based .pyc (PEP 552): without a time stamp, so repeatable."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    magic = importlib.import_module("importlib.util").MAGIC_NUMBER
    flags = 0b01
    # Writing depends on who else holds a constant; writing what was just read does not.
    body = marshal.dumps(marshal.loads(marshal.dumps(code)))
    return magic + flags.to_bytes(4, "little") + bytes(8) + body


def freeze(modules, sources, out):
    """Trace, compile and pack; ``modules`` are dotted names found in the archive ``sources``.

    Returns JSON text: how many modules, the Python version, and what Pyodide was built for.
    """
    sys.path.insert(0, sources)
    asyncio.get_event_loop()
    wanted = [str(name) for name in modules]
    first = prepared(wanted)
    exercise(wanted)
    names = traced()
    zipfile = importlib.import_module("zipfile")  # only now: a tab does not need it
    sysconfig = importlib.import_module("sysconfig")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for origin, inside in ((STDLIB, names), (sources, None)):
            with zipfile.ZipFile(origin) as source:
                for name in sorted(source.namelist()) if inside is None else inside:
                    data = source.read(name)
                    if name.endswith(".py"):
                        name, data = name + "c", pyc(data, name)
                    archive.writestr(zipfile.ZipInfo(name, DATE), data)
        archive.writestr(zipfile.ZipInfo("prepared.pyc", DATE), pyc(first, "prepared.py"))
    return json.dumps(
        {
            "modules": len(names),
            "python": ".".join(map(str, sys.version_info[:3])),
            "abi": sysconfig.get_config_var("PYODIDE_ABI_VERSION"),
        }
    )
