"""UnixFS: trees survive the way to blocks and back, names are stable, and hostile blocks cost little."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promisegrid import dagpb, protobuf, unixfs
from promisegrid.block import Block
from promisegrid.chunker import Sized
from promisegrid.cid import DAG_PB, Cid
from promisegrid.dagpb import Link, Node
from promisegrid.unixfs import FILE, FOLDER, SYMLINK, Entry, FileImporter, TreeLimits, TreeNode, UnixFsError
from promisegrid.unixfs.node import write_directory

MIB = 1024 * 1024


class Store:
    """Blocks in memory, and how often they were asked for."""

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self.blocks = {block.cid: block.data for block in blocks}
        self.loads = 0

    def add(self, message: bytes, *links: Link) -> Cid:
        """A dag-pb block of one's own making."""
        block = Block.of(dagpb.encode(Node(message, links)), DAG_PB)
        self.blocks[block.cid] = block.data
        return block.cid

    async def load(self, cid: Cid) -> bytes:
        """A `unixfs.Load`."""
        self.loads += 1
        return self.blocks[cid]


def run(steps: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that waits for nothing."""
    try:
        steps.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waited")


def content(store: Store, cid: Cid, start: int = 0, end: int | None = None) -> bytes:
    """A file's bytes."""

    async def collect(pieces: AsyncIterator[bytes]) -> bytes:
        return b"".join([piece async for piece in pieces])

    result: bytes = run(collect(unixfs.read_file(store.load, cid, start, end)))
    return result


def imported(data: bytes, chunk: int, links: int, step: int) -> tuple[Cid, int, list[Block]]:
    """A file fed in steps."""
    importer = FileImporter(Sized(chunk), links)
    blocks: list[Block] = []
    for at in range(0, len(data), step):
        blocks.extend(importer.feed(data[at : at + step]))
    cid, tsize, last = importer.finish()
    return cid, tsize, blocks + last


def test_the_empty_folder() -> None:
    root, blocks = unixfs.import_tree([])
    assert str(root) == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    assert blocks == [Block(root, bytes.fromhex("0a020801"))]


def test_well_known_files() -> None:
    empty, blocks = unixfs.import_bytes(b"")
    assert str(empty) == "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
    assert blocks == [Block.of(b"")]
    small, blocks = unixfs.import_bytes(b"hello")
    assert (small, blocks) == (Cid.of(b"hello"), [Block.of(b"hello")])


def test_names_that_must_never_change() -> None:
    """Compared with Helia once, by e2e/test_helia.py; pinned here, where no Node.js is needed."""
    pattern = bytes((place * 7 + 9) & 255 for place in range(251))
    data = (pattern * (5 * MIB // 251 + 1))[: 5 * MIB - 7]
    assert str(unixfs.import_bytes(data)[0]) == "bafybeiepx3dtaowx6mim4jxppyl276nh65wbryvvwkln4lgqzjagyb7q7a"
    data = (bytes((place * 7) & 255 for place in range(251)) * 300)[:70_001]
    tall = "bafybeihxjbviuzqxzhbsv6didpt6twbfxecwtbe6oleat25fxgm557dk3y"
    assert str(imported(data, 64, 3, 999)[0]) == tall
    full = "bafybeigf7qb5pyhnqkpkvfwj7qzpgyg2p2arzt4abk5k3eifr52ccjo72y"
    assert str(imported(data[:1024], 256, 4, 1024)[0]) == full
    nodes: list[TreeNode] = [(f"file number {n}", FILE, bytes([n & 255])) for n in range(6000)]
    assert str(unixfs.import_tree(nodes)[0]) == "bafybeiastgmt7oqtdxl4ut2dgttthp2vse5naveuw5ykh57c2sws5zi5hq"


@given(
    st.binary(max_size=2000),
    st.integers(1, 64),
    st.integers(2, 5),
    st.integers(1, 2500),
)
def test_a_file_comes_back(data: bytes, chunk: int, links: int, step: int) -> None:
    cid, tsize, blocks = imported(data, chunk, links, step)
    assert imported(data, chunk, links, 1)[:2] == (cid, tsize)
    store = Store(blocks)
    assert content(store, cid) == data
    assert tsize == sum(len(block.data) for block in blocks)
    assert all(block.cid.holds(block.data) for block in blocks)


@given(st.integers(0, 700), st.integers(0, 700))
def test_a_range_of_a_file(start: int, end: int) -> None:
    data = bytes(n * 7 & 255 for n in range(600))
    cid, _, blocks = imported(data, 16, 3, 600)
    store = Store(blocks)
    assert content(store, cid, start, end) == data[start:end]
    assert store.loads <= 8 + 2 * max(0, end - start) // 16 + 6


@given(st.binary(max_size=600), st.integers(1, 40), st.integers(2, 4))
def test_the_leaves_of_a_file_are_told_without_loading_them(data: bytes, chunk: int, links: int) -> None:
    cid, _, blocks = imported(data, chunk, links, 600)
    nodes = Store([block for block in blocks if block.cid.codec_name == "dag-pb" or block.cid == cid])

    async def collect() -> list[tuple[Cid, int]]:
        return [leaf async for leaf in unixfs.read_leaves(nodes.load, cid)]

    cut = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    assert run(collect()) == [(Cid.of(piece), len(piece)) for piece in cut]


def test_memory_is_bounded_by_the_levels() -> None:
    importer = FileImporter(Sized(1), 4)
    for _ in range(1000):
        assert len(importer.feed(b"x")) <= 6
    assert sum(map(len, importer._tree._levels)) <= 4 * 6
    assert importer.size == 1000


letters = st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
names = st.text(letters, min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
trees: st.SearchStrategy[Any] = st.recursive(
    st.binary(max_size=50) | st.binary(min_size=1, max_size=20).map(lambda target: ("to", target)),
    lambda inner: st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)


def flatten(tree: dict[str, Any], above: str = "") -> list[TreeNode]:
    """A nested dict as tree nodes."""
    nodes: list[TreeNode] = []
    for name, item in tree.items():
        if isinstance(item, dict):
            nodes.append((above + name, FOLDER, b""))
            nodes.extend(flatten(item, f"{above}{name}/"))
        elif isinstance(item, tuple):
            nodes.append((above + name, SYMLINK, item[1]))
        else:
            nodes.append((above + name, FILE, item))
    return sorted(nodes, key=lambda node: node[0].encode())


@given(st.dictionaries(names, trees, max_size=5), st.randoms())
def test_a_tree_comes_back(tree: dict[str, Any], random: Any) -> None:
    nodes = flatten(tree)
    root, blocks = unixfs.import_tree(nodes)
    assert run(unixfs.read_tree(Store(blocks).load, root)) == nodes
    random.shuffle(nodes)
    assert unixfs.import_tree(nodes)[0] == root


def test_paths_lead_somewhere() -> None:
    nodes: list[TreeNode] = [("a/b/c", FILE, b"deep"), ("a/link", SYMLINK, b"b/c"), ("top", FILE, b"")]
    root, blocks = unixfs.import_tree(nodes)
    store = Store(blocks)
    assert run(unixfs.resolve(store.load, root, "a/b/c")) == Cid.of(b"deep")
    assert run(unixfs.resolve(store.load, root, "/a/b/c/")) == Cid.of(b"deep")
    assert run(unixfs.resolve(store.load, root, "")) == root
    assert [entry.name for entry in run(unixfs.list_directory(store.load, root))] == ["a", "top"]
    for path in ("a/x", "top/x", "a/link/c", "../a", "a/./b", "a/\0", "x/" * 300):
        with pytest.raises(UnixFsError):
            run(unixfs.resolve(store.load, root, path))


KUBO: dict[str, tuple[list[TreeNode], str]] = {
    "links and empty folders": (
        [
            ("file", FILE, b"target"),
            ("link", SYMLINK, b"file"),
            ("long", SYMLINK, "ü/".encode() + b"a" * 200),
            ("empty", FOLDER, b""),
            ("deep/up", SYMLINK, b"../file"),
            ("deep/er/dangling", SYMLINK, b"/nowhere/at/all"),
            ("deep/er/x", FILE, b"x"),
        ],
        "bafybeihlziupsa7fx6kmnpasqiokhsrnk7wzwjcdwwpf4ycqldqkglfx4u",
    ),
    "shards below shards, a folder among them": (
        [
            *((f"file number {n}", FILE, bytes([n % 251]) * (n % 50)) for n in range(6000)),
            ("sub/x", FILE, b"y"),
        ],
        "bafybeibdbmcxsyrjkrefvvrvbqhmgcjthtunf5f4qz2qffkbczrgtq6vjm",
    ),
}
"""Folders, and the CID that Kubo 0.22 gives them with CIDv1 and raw leaves."""


@pytest.mark.parametrize("name", KUBO)
def test_folders_have_kubos_cids(name: str) -> None:
    nodes, cid = KUBO[name]
    assert str(unixfs.import_tree(nodes)[0]) == cid


def test_a_large_folder_is_sharded_and_read() -> None:
    nodes: list[TreeNode] = [(f"file number {n}", FILE, bytes([n & 7])) for n in range(6000)]
    root, blocks = unixfs.import_tree(nodes)
    store = Store(blocks)
    assert isinstance(unixfs.parse(root, store.blocks[root]), unixfs.HamtShard)
    found = run(unixfs.list_directory(store.load, root))
    assert [entry.name for entry in found] == sorted(node[0] for node in nodes)
    assert run(unixfs.resolve(store.load, root, "file number 4321")) == Cid.of(bytes([4321 & 7]))
    with pytest.raises(UnixFsError, match="no 'file number 6000'"):
        run(unixfs.resolve(store.load, root, "file number 6000"))
    with pytest.raises(UnixFsError, match="more than 5999"):
        run(unixfs.list_directory(store.load, root, 5999))
    with pytest.raises(UnixFsError, match="more than 5999"):
        run(unixfs.read_tree(store.load, root, TreeLimits(nodes=5999)))


def test_a_folder_is_sharded_above_256_kib_of_block() -> None:
    cid = Cid.of(b"")
    entries = [Entry(f"{n:0200}", cid) for n in range(1060)]
    size = len(write_directory(entries).data)
    room = unixfs.build.DIRECTORY_MAX - size
    over = len(write_directory([*entries, Entry("z" * 200, cid)]).data) - size - 200
    last = Entry("z" * (room - over), cid)
    fits = unixfs.build_directory([*entries, last])
    assert len(fits[2][-1].data) == unixfs.build.DIRECTORY_MAX
    assert len(fits[2]) == 1
    assert len(unixfs.build_directory([*entries, Entry(last.name + "z", cid)])[2]) > 1


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0", "\ud800"])
def test_names_that_no_folder_has(name: str) -> None:
    cid = Cid.of(b"")
    with pytest.raises(UnixFsError, match="cannot be a name"):
        unixfs.build_directory([Entry(name, cid)])
    with pytest.raises(UnixFsError):
        unixfs.import_tree([(f"x/{name}/", FILE, b"")])
    if name != "\ud800":
        store = Store()
        root = store.add(b"\x08\x01", Link(cid, name))
        with pytest.raises(UnixFsError, match=f"{root} is not a file or folder"):
            run(unixfs.list_directory(store.load, root))


def test_one_name_once() -> None:
    twice = [Entry("a", Cid.of(b"")), Entry("b", Cid.of(b"")), Entry("a", Cid.of(b"x"))]
    with pytest.raises(UnixFsError, match="'a' is there twice"):
        unixfs.build_directory(twice)
    store = Store()
    root = store.add(b"\x08\x01", *(Link(entry.cid, entry.name) for entry in twice))
    with pytest.raises(UnixFsError, match="'a' is there twice"):
        run(unixfs.list_directory(store.load, root))


def test_a_tree_may_not_be_larger_than_its_limits() -> None:
    root, blocks = unixfs.import_tree([("ab", FILE, b"12345"), ("cd", SYMLINK, b"123")])
    store = Store(blocks)
    assert len(run(unixfs.read_tree(store.load, root, TreeLimits(bytes=12)))) == 2
    for most in (11, 4):
        with pytest.raises(UnixFsError, match="bytes"):
            run(unixfs.read_tree(store.load, root, TreeLimits(bytes=most)))
    big = store.add(a_file([MIB] * 1000, MIB * 1000), *[Link(Cid.of(b"not here"), "")] * 1000)
    root = store.add(b"\x08\x01", Link(big, "big"))
    with pytest.raises(UnixFsError, match=f"{MIB * 1000} bytes where 1000 are left"):
        run(unixfs.read_tree(store.load, root, TreeLimits(bytes=1000)))


@pytest.mark.parametrize(
    "nodes",
    [
        [("a", FILE, b""), ("a", FILE, b"x")],
        [("a", FILE, b""), ("a", FOLDER, b"")],
        [("a", FILE, b""), ("a/b", FILE, b"")],
        [("a/b", FILE, b""), ("a", SYMLINK, b"x")],
        [("/a", FILE, b"")],
        [("a/", FILE, b"")],
        [("a//b", FILE, b"")],
        [("", FILE, b"")],
        [("a", 3, b"")],
        [("a", SYMLINK, b"")],
        [("a", SYMLINK, b"x" * 5000)],
        [("a/" * 300 + "b", FILE, b"")],
    ],
    ids=range(12),
)
def test_trees_that_cannot_be(nodes: list[TreeNode]) -> None:
    with pytest.raises(UnixFsError):
        unixfs.import_tree(nodes)
    with pytest.raises(UnixFsError):
        unixfs.import_tree(nodes[::-1])


def test_one_kind_is_not_another() -> None:
    root, blocks = unixfs.import_tree([("f", FILE, b"x"), ("l", SYMLINK, b"f")])
    store = Store(blocks)
    link = run(unixfs.resolve(store.load, root, "l"))
    other = Block.of(b"\xa0", "dag-cbor")
    store.blocks[other.cid] = other.data
    assert run(unixfs.file_size(store.load, Cid.of(b"x"))) == 1
    for cid, kind in ((root, "folder"), (link, "symbolic link"), (other.cid, "dag-cbor")):
        with pytest.raises(UnixFsError, match=f"{cid} is .*{kind}"):
            content(store, cid)
    for cid, kind in ((Cid.of(b"x"), "file"), (link, "symbolic link"), (other.cid, "dag-cbor")):
        with pytest.raises(UnixFsError, match=f"{cid} is .*{kind}"):
            run(unixfs.list_directory(store.load, cid))


def a_file(sizes: list[int], total: int | None = None, data: bytes = b"") -> bytes:
    """A UnixFS message of type file."""
    out = protobuf.number(1, 2) + (protobuf.run(2, data) if data else b"")
    if total is not None:
        out += protobuf.number(3, total)
    return out + b"".join(protobuf.number(4, size) for size in sizes)


def test_sizes_that_lie() -> None:
    store = Store([Block.of(b"abc")])
    part = Link(Cid.of(b"abc"), "")
    assert content(store, store.add(a_file([3, 3], 7, b"x"), part, part)) == b"xabcabc"
    assert content(store, store.add(a_file([3]), part)) == b"abc"
    packed = protobuf.number(1, 2) + protobuf.run(4, b"\x03\x03")
    assert content(store, store.add(packed, part, part)) == b"abcabc"
    for message in (a_file([3], 4), a_file([4], 4), a_file([2], 2), a_file([3, 3], 6), a_file([], 0)):
        with pytest.raises(UnixFsError):
            content(store, store.add(message, part))


def test_bombs_in_files() -> None:
    store = Store([Block.of(b"")])
    cid = Cid.of(b"")
    for _ in range(40):
        cid = store.add(a_file([0] * 100, 0), *[Link(cid, "")] * 100)
    assert content(store, cid) == b""
    assert store.loads == 1
    store.blocks[Cid.of(b"x")] = b"x"
    cid = Cid.of(b"x")
    for _ in range(40):
        cid = store.add(a_file([1], 1), Link(cid, ""))
    with pytest.raises(UnixFsError, match="deeper than 32"):
        content(store, cid)


def test_bombs_in_folders() -> None:
    store = Store([Block.of(b"x" * 1000)])
    cid = store.add(b"\x08\x01", *(Link(Cid.of(b"x" * 1000), str(n)) for n in range(100)))
    for _ in range(10):
        cid = store.add(b"\x08\x01", *(Link(cid, str(n)) for n in range(100)))
    with pytest.raises(UnixFsError, match="files and folders"):
        run(unixfs.read_tree(store.load, cid, TreeLimits(bytes=10**9, nodes=2000)))
    assert store.loads < 2100
    with pytest.raises(UnixFsError, match="bytes"):
        run(unixfs.read_tree(store.load, cid, TreeLimits(bytes=5000, nodes=10**6)))
    deep = store.add(b"\x08\x01")
    for _ in range(300):
        deep = store.add(b"\x08\x01", Link(deep, "d"))
    with pytest.raises(UnixFsError, match="nested deeper"):
        run(unixfs.read_tree(store.load, deep))


def a_shard(fanout: int = 256, kind: int = 0x22) -> bytes:
    """A UnixFS message of type shard."""
    head = protobuf.number(1, 5) + protobuf.run(2, b"\xff")
    return head + protobuf.number(5, kind) + protobuf.number(6, fanout)


def test_bombs_in_shards() -> None:
    store = Store()
    cid = store.add(a_shard(), Link(Cid.of(b""), "00name"))
    for _ in range(6):
        cid = store.add(a_shard(), *(Link(cid, f"{slot:02X}") for slot in range(256)))
    with pytest.raises(UnixFsError, match="more than 1000"):
        run(unixfs.list_directory(store.load, cid, 1000))
    assert store.loads < 20
    cid = store.add(a_shard(), Link(Cid.of(b""), "00name"))
    for _ in range(12):
        cid = store.add(a_shard(), Link(cid, "00"))
    with pytest.raises(UnixFsError, match="share one hash"):
        run(unixfs.list_directory(store.load, cid))


@pytest.mark.parametrize(
    ("message", "labels"),
    [
        (a_shard(0), []),
        (a_shard(255), []),
        (a_shard(4), []),
        (a_shard(1 << 20), []),
        (a_shard(256, 0x12), []),
        (protobuf.number(1, 5), []),
        (a_shard(), ["0"]),
        (a_shard(), ["0aname"]),
        (a_shard(), ["+1name"]),
        (a_shard(), ["00a", "00b"]),
        (a_shard(), ["00a", "01a"]),
        (a_shard(), ["00.."]),
        (a_shard(8), ["8name"]),
    ],
    ids=range(13),
)
def test_shards_that_cannot_be(message: bytes, labels: list[str]) -> None:
    store = Store()
    root = store.add(message, *(Link(Cid.of(b""), label) for label in labels))
    with pytest.raises(UnixFsError):
        run(unixfs.list_directory(store.load, root))


@settings(max_examples=300)
@given(st.binary(max_size=60), st.lists(st.text("0A./x", max_size=4), max_size=3))
def test_any_node_is_something_or_a_refusal(message: bytes, labels: list[str]) -> None:
    store = Store([Block.of(b"x")])
    root = store.add(message, *(Link(Cid.of(b"x"), label) for label in labels))
    for read in (unixfs.read_tree, unixfs.list_directory, unixfs.file_size):
        try:
            run(read(store.load, root))
        except UnixFsError:
            continue


def test_modes_and_times_are_read_over() -> None:
    store = Store()
    mtime = protobuf.run(8, protobuf.number(1, 1_700_000_000))
    message = a_file([], 3, b"abc") + protobuf.number(7, 0o644) + mtime
    assert content(store, store.add(message)) == b"abc"
