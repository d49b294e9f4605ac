"""The page's files, as `worker/bundle.py` made them: read once, listed once, served from their list.

Nothing outside the list can be asked for, so no path can lead out of the directory.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from promisegrid.errors import LocalError

LIST: Final = "manifest.json"
FRAME: Final = "inlined.js"
"""The script that shows apps without a node; the page's policy names it by its hash."""
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".xml": "text/xml; charset=utf-8",
    ".zip": "application/zip",
}


def content_type(name: str) -> str:
    """The media type a file name says, the same on every machine for what a page is made of."""
    suffix = Path(name).suffix.lower()
    return TYPES.get(suffix) or mimetypes.types_map.get(suffix, "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the bundle: its path on disk, its entity tag, and which compressed twins lie beside it."""

    path: Path
    etag: str
    twins: tuple[str, ...]

    def pick(self, accept_encoding: str) -> tuple[Path, str | None]:
        """The file to send and its Content-Encoding, for a browser that accepts these encodings."""
        accepted = {
            part.partition(";")[0].strip() for part in accept_encoding.lower().split(",") if "q=0" not in part
        }
        for encoding in self.twins:
            if encoding in accepted:
                return self.path.with_name(f"{self.path.name}.{encoding.replace('gzip', 'gz')}"), encoding
        return self.path, None


class Bundle:
    """All assets by their path on the site, such as "index.html" or "static/<hash>/boot.mjs"."""

    def __init__(self, assets: dict[str, Asset], static: str, frame: str = "") -> None:
        self.assets = assets
        self.static = static
        self.frame = frame
        """The hash of FRAME as a Content-Security-Policy names it; empty when there is no such file."""

    def reserved(self, name: str) -> Asset | None:
        """The asset of that name in the hashed directory."""
        return self.assets.get(f"{self.static.strip('/')}/{name}")


def load(folder: Path) -> Bundle:
    """Read the list of a bundle; the list itself is an asset too. LocalError when there is none."""
    try:
        text = (folder / LIST).read_bytes()
        listed = json.loads(text)
        files, static = listed["files"], str(listed["static"])
    except FileNotFoundError:
        raise LocalError(f"There is no page to serve in {folder}: run ./build.sh bundle.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LocalError(
            f"{folder / LIST} cannot be read ({error}): run ./build.sh bundle."
        ) from error
    digests = {name: about["sha256"] for name, about in files.items()}
    digests[LIST] = hashlib.sha256(text).hexdigest()
    frame = digests.get(f"{static.strip('/')}/{FRAME}")
    named = f"sha256-{base64.b64encode(bytes.fromhex(frame)).decode()}" if frame else ""
    return Bundle({name: _asset(folder / name, digest) for name, digest in digests.items()}, static, named)


def _asset(path: Path, digest: str) -> Asset:
    ends = (("br", ".br"), ("gzip", ".gz"))
    twins = tuple(code for code, end in ends if Path(f"{path}{end}").is_file())
    return Asset(path, f'"{digest[:32]}"', twins)


def find() -> Path:
    """Where the bundle is: `build/web` of the source tree this package lies in."""
    return Path(__file__).resolve().parents[2] / "build" / "web"
