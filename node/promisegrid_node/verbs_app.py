"""app publish, app ls: a folder with a page and handlers becomes an app with a CID.

`app.json` as published names its handlers by CID, so whoever opens the app needs no paths, and the same
folder has the same CID wherever it is published.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

from promisegrid.cid import Cid, CidError
from promisegrid.errors import LocalError
from promisegrid_node.output import Output, Watcher
from promisegrid_node.session import Node
from promisegrid_node.storing import store

FIELDS: Final = ("name", "description", "entry", "handlers", "asks")
NAME_MAX: Final = 80
TEXT_MAX: Final = 500


async def publish(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Check an app's folder, store it with its handlers, and print its CID and URL."""
    folder = Path(options.folder)
    about = read_app(folder)
    with out.watching() as watch:
        about["handlers"] = await _handlers(about["handlers"], folder, node, watch)
        listed = json.dumps(about, indent=2, ensure_ascii=False, sort_keys=True).encode() + b"\n"
        found = await store(node, folder, watch, instead={folder / "app.json": listed})
        asked = {"cid": str(found.cid), "name": about["name"], "description": about["description"]}
        value = await node.call("publish", asked, progress=watch)
    lines = [value["cid"], value["url"] or "(start a node with `promisegrid up` to open it in a browser)"]
    out.answer({**value, "handlers": about["handlers"]}, lines)
    return 0


async def listing(options: argparse.Namespace, node: Node, out: Output) -> int:
    """The apps published on this node."""
    value = await node.call("published", {})
    out.answer(value, [f"{app['cid']}  {app['name']}: {app['description']}" for app in value["apps"]])
    return 0


def read_app(folder: Path) -> dict[str, Any]:
    """The folder's app.json, checked. LocalError says what to change."""
    source = folder / "app.json"
    if not folder.is_dir():
        raise LocalError(f"{folder} is not a folder: an app is a folder with index.html and app.json.")
    try:
        about = json.loads(source.read_text("utf-8"))
    except FileNotFoundError:
        raise LocalError(f"{source} is missing: an app needs {{{', '.join(FIELDS)}}} there.") from None
    except (OSError, ValueError) as error:
        raise LocalError(f"{source} cannot be read: {error}.") from error
    if not isinstance(about, dict):
        raise LocalError(f"{source} must hold one JSON object.")
    unknown = sorted(set(about) - set(FIELDS))
    if unknown:
        raise LocalError(
            f"{source} has {unknown[0]!r}, which apps do not have; they have {', '.join(FIELDS)}."
        )
    about = {"description": "", "entry": "index.html", "handlers": {}, "asks": [], **about}
    _check(about, source)
    if (
        not (folder / about["entry"]).is_file()
        or Path(about["entry"]).is_absolute()
        or ".." in about["entry"]
    ):
        raise LocalError(f"{folder / about['entry']}, the app's page, is not there.")
    return about


def _check(about: dict[str, Any], source: Path) -> None:
    name = about.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX:
        raise LocalError(f'{source}: "name" must be a text of 1 to {NAME_MAX} characters.')
    if not isinstance(about["description"], str) or len(about["description"]) > TEXT_MAX:
        raise LocalError(f'{source}: "description" must be a text of at most {TEXT_MAX} characters.')
    if not isinstance(about["entry"], str):
        raise LocalError(f'{source}: "entry" must be the name of a file in the folder.')
    asks, handlers = about["asks"], about["handlers"]
    if not isinstance(asks, list) or not all(isinstance(ask, str) for ask in asks):
        raise LocalError(f'{source}: "asks" must be a list of abilities, such as ["run"].')
    if not isinstance(handlers, dict) or not all(isinstance(code, str) for code in handlers.values()):
        raise LocalError(f'{source}: "handlers" must be names with a CID or a path each.')


async def _handlers(handlers: dict[str, str], folder: Path, node: Node, watch: Watcher) -> dict[str, str]:
    """Every handler as a CID; those that are files are stored."""
    made = {}
    for name, code in handlers.items():
        path = folder / code
        if path.is_file():
            made[name] = str((await store(node, path, watch)).cid)
            continue
        try:
            made[name] = str(Cid.parse(code))
        except CidError:
            raise LocalError(
                f"The handler {name!r} is {code!r}, and {path} is not there: ./build.sh bundle fetches the"
                " handlers of the apps that come with PromiseGrid; for your own, put the file there or give"
                " its CID."
            ) from None
    return made
