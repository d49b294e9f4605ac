"""Which Host and Origin are taken, and what each kind of response tells the browser."""

from __future__ import annotations

import pytest

from promisegrid_node import headers
from promisegrid_node.headers import HostName, read_host, same_origin


@pytest.mark.parametrize(
    ("text", "scheme", "expected"),
    [
        ("127.0.0.1:8420", "http", HostName("127.0.0.1", 8420)),
        ("LOCALHOST", "http", HostName("localhost", None)),
        ("node.example:80", "http", HostName("node.example", None)),
        ("node.example:443", "http", HostName("node.example", 443)),
        ("node.example:443", "https", HostName("node.example", None)),
        ("node.example.:8420", "http", HostName("node.example", 8420)),
        ("[::1]:8420", "http", HostName("[::1]", 8420)),
        ("[::1]", "http", HostName("[::1]", None)),
    ],
)
def test_a_host_is_read(text: str, scheme: str, expected: HostName) -> None:
    assert read_host(text, scheme) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":8420",
        "a b",
        "a/b",
        "[::1",
        "[zz]",
        "[::1]x",
        "a:0",
        "a:65536",
        "a:99999999",
        "a:١",
        "user@a",
        "a:80:80",
    ],
)
def test_what_is_no_host_is_none(text: str) -> None:
    assert read_host(text) is None


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://127.0.0.1:8420", True),
        ("https://127.0.0.1:8420", True),
        ("http://127.0.0.1:3000", False),
        ("http://127.0.0.1", False),
        ("http://localhost:8420", False),
        ("http://evil.example", False),
        ("http://127.0.0.1:8420.evil.example", False),
        ("null", False),
        ("", False),
        ("ftp://127.0.0.1:8420", False),
    ],
)
def test_only_the_page_served_under_the_same_host_is_an_origin(origin: str, expected: bool) -> None:
    assert same_origin(origin, HostName("127.0.0.1", 8420)) is expected


def test_a_page_behind_a_proxy_is_the_same_origin() -> None:
    assert same_origin("https://grid.example", HostName("grid.example", None))


def test_loopback_serves_loopback_names_and_what_is_added() -> None:
    assert headers.served_names("127.0.0.1", ("Pi.local.",)) == headers.LOOPBACK_NAMES | {"pi.local"}
    assert headers.served_names("0.0.0.0") > headers.LOOPBACK_NAMES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("pi", False),
    ],
)
def test_loopback_is_known(name: str, expected: bool) -> None:
    assert headers.is_loopback(name) is expected


def policy(answer: dict[str, str]) -> dict[str, list[str]]:
    """A Content-Security-Policy by directive."""
    parts = [part.split() for part in answer["Content-Security-Policy"].split(";") if part.strip()]
    return {part[0]: part[1:] for part in parts}


def test_the_page_runs_its_own_scripts_only_and_is_framed_by_nobody() -> None:
    said = policy(headers.for_page(HostName("127.0.0.1", 8420)))
    assert said["default-src"] == ["'none'"]
    assert said["script-src"] == ["'self'", "'wasm-unsafe-eval'"]
    assert said["connect-src"] == ["'self'", "ws://127.0.0.1:8420", "wss://127.0.0.1:8420"]
    assert said["frame-ancestors"] == said["base-uri"] == said["form-action"] == ["'none'"]


def test_a_frame_that_builds_an_app_by_itself_inherits_what_it_needs() -> None:
    """One script by its hash, and what scripts make; never what is written into a page, and no network."""
    host = HostName("127.0.0.1", 8420)
    plain, said = policy(headers.for_page(host)), policy(headers.for_page(host, frame="sha256-x"))
    more = {name: [word for word in words if word not in plain[name]] for name, words in said.items()}
    assert {name: words for name, words in more.items() if words} == {
        "script-src": ["'sha256-x'", "blob:"], "worker-src": ["blob:"], "style-src": ["blob:"],
        "font-src": ["blob:"], "media-src": ["blob:", "data:"],
    }  # fmt: skip
    only = '("*://127.0.0.1:8420/*");redirects=allow;webrtc=allow'
    assert headers.for_page(host, frame="sha256-x")["Connection-Allowlist"] == only


def test_an_app_is_an_opaque_origin_without_network() -> None:
    answer = headers.for_app("http", HostName("127.0.0.1", 8420), "bafy")
    said = policy(answer)
    assert "allow-scripts" in said["sandbox"]
    assert "allow-same-origin" not in said["sandbox"]
    assert said["default-src"] == said["connect-src"] == said["form-action"] == ["'none'"]
    assert said["script-src"][0] == "http://127.0.0.1:8420/app/bafy/"
    assert "'unsafe-inline'" not in said["script-src"]
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_the_gateway_is_for_saving_not_for_showing() -> None:
    answer = headers.for_gateway("a.bin", headers.RAW_TYPE, '"etag"') | headers.OWN
    assert policy(answer)["sandbox"] == []
    assert answer["Content-Disposition"].startswith("attachment")
    assert "Access-Control-Allow-Origin" not in answer
