"""UnixFS: files and folders as blocks, in the `unixfs-v1-2025` profile; read in any profile.

`node`: one block. `hamt`: large folders. `build`: bytes → blocks. `walk`: CID → bytes.
"""

from __future__ import annotations

from promisegrid.unixfs.build import (
    CHUNK,
    DEPTH,
    FILE,
    FOLDER,
    SYMLINK,
    FileImporter,
    FileTree,
    TreeNode,
    build_directory,
    import_bytes,
    import_tree,
    symlink,
)
from promisegrid.unixfs.node import (
    Directory,
    Entry,
    File,
    HamtShard,
    Item,
    Symlink,
    UnixFsError,
    check_name,
    parse,
)
from promisegrid.unixfs.walk import (
    Load,
    TreeLimits,
    file_size,
    list_directory,
    read_file,
    read_leaves,
    read_tree,
    resolve,
)

__all__ = [
    "CHUNK",
    "DEPTH",
    "FILE",
    "FOLDER",
    "SYMLINK",
    "Directory",
    "Entry",
    "File",
    "FileImporter",
    "FileTree",
    "HamtShard",
    "Item",
    "Load",
    "Symlink",
    "TreeLimits",
    "TreeNode",
    "UnixFsError",
    "build_directory",
    "check_name",
    "file_size",
    "import_bytes",
    "import_tree",
    "list_directory",
    "parse",
    "read_file",
    "read_leaves",
    "read_tree",
    "resolve",
    "symlink",
]
