"""What every HTTP response of a node says to the browser that reads it.

Promises: the page's own policy is strict; content named by CID never runs in the page's origin; only the
names this node serves are taken as `Host` and `Origin`. Knows no sockets and no files.
(Source: DESIGN.md section 6; CSP Level 3; Fetch Metadata.)
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Final

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,252}[a-z0-9])?\.?")
_DEFAULT_PORT: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

RAW_TYPE: Final = "application/vnd.ipld.raw"
CAR_TYPE: Final = "application/vnd.ipld.car"
RECORD_TYPE: Final = "application/vnd.ipfs.ipns-record"

IMMUTABLE: Final = "public, max-age=31536000, immutable"
REVALIDATE: Final = "no-cache"
CONTENT_VARIES: Final = "Accept, Sec-Fetch-Dest, Sec-Fetch-Site"
"""What an answer by CID depends on besides its URL."""
NO_POWERS: Final = (
    "accelerometer=(), autoplay=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(),"
    " magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=()"
)


@dataclass(frozen=True, slots=True)
class HostName:
    """A `Host` header taken apart: a lower-case name (IPv6 in brackets) and a port, None for the default."""

    name: str
    port: int | None

    def __str__(self) -> str:
        return self.name if self.port is None else f"{self.name}:{self.port}"


def read_host(text: str, scheme: str = "http") -> HostName | None:
    """A `Host` header, or the authority of a URL of `scheme`; None when it is not one.

    The scheme's default port is left out, as a browser's `URL.host` does.
    """
    name, port = text.strip().lower(), ""
    if name.startswith("["):
        name, bracket, rest = name.partition("]")
        name += bracket
        if not bracket or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    elif ":" in name:
        name, _, port = name.rpartition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        return None
    if not _is_name(name):
        return None
    number = int(port) if port else None
    return HostName(name.rstrip("."), None if number == _DEFAULT_PORT.get(scheme) else number)


def _is_name(name: str) -> bool:
    if name.startswith("["):
        try:
            ipaddress.IPv6Address(name[1:-1])
        except ValueError:
            return False
        return True
    return _NAME.fullmatch(name) is not None


def same_origin(origin: str, host: HostName) -> bool:
    """Whether an `Origin` header names a page served under `host`; "null" (a sandboxed frame) never does.

    The scheme may be http or https: a proxy in front may have ended TLS.
    """
    scheme, mark, authority = origin.strip().partition("://")
    if not mark or scheme not in ("http", "https"):
        return False
    return read_host(authority, scheme) == host


def served_names(listen: str, extra: tuple[str, ...] = ()) -> frozenset[str]:
    """The host names that requests to a node listening on the address `listen` may carry.

    Loopback names always; beyond loopback the machine's own names and addresses too; and `extra`.
    """
    names = set(LOOPBACK_NAMES) | {name.lower().rstrip(".") for name in extra}
    if is_loopback(listen):
        return frozenset(names)
    own = {listen.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    own |= {f"{name}.local" for name in own if "." not in name}
    names |= own | set(lan_addresses())
    return frozenset(f"[{name}]" if ":" in name and not name.startswith("[") else name for name in names)


def lan_addresses() -> list[str]:
    """This machine's addresses as its network sees them, the likeliest first; no packet is sent."""
    found: list[str] = []
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue
    try:
        infos = socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        infos = []
    found += [str(info[4][0]).partition("%")[0] for info in infos]
    return list(dict.fromkeys(found))


def is_loopback(host: str) -> bool:
    """Whether an address or name to listen on is reached from this machine only."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def always() -> dict[str, str]:
    """On every response."""
    return {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def for_page(host: HostName, gateways: tuple[str, ...] = (), frame: str = "") -> dict[str, str]:
    """For `/` and everything of the bundle: its own scripts and WebAssembly, its own node, nothing else.

    gateways: addresses that the node in a tab may ask; said of its worker's first file, whose policy counts.
    frame: the hash of the script that shows apps without a node (web/inlined.js): such a frame inherits this
    policy, so what it makes of the app's files, as `blob:`, is allowed. Only scripts make such addresses. It
    inherits too that connections are made to this node only; no other policy knows of those in advance.
    """
    own, made, media = (f" '{frame}' blob:", " blob:", "blob: data:") if frame else ("", "", "'none'")
    sockets = " ".join((f"ws://{host} wss://{host}", *(f"{url}/ipfs/" for url in gateways)))
    policy = (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval'{own}; style-src 'self'{made};"
        f" font-src 'self'{made}; img-src 'self' blob: data:; media-src {media};"
        f" connect-src 'self' {sockets}; worker-src 'self'{made}; manifest-src 'self';"
        " frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    only = {"Connection-Allowlist": f'("*://{host}/*");redirects=allow;webrtc=allow'} if frame else {}
    return (
        always()
        | only
        | {
            "Content-Security-Policy": policy,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": NO_POWERS,
        }
    )


OWN: Final = {"Cross-Origin-Resource-Policy": "same-origin"}
"""For this origin's own eyes: another site can neither read it nor find out whether it is there."""
SHARED: Final = {"Cross-Origin-Resource-Policy": "cross-origin", "Access-Control-Allow-Origin": "*"}
"""For anybody. A page in an opaque origin is anybody, so its own folder must be this."""
_SAFE_ALONE: Final = {"Cross-Origin-Opener-Policy": "same-origin", "Permissions-Policy": NO_POWERS}


def for_refusal() -> dict[str, str]:
    """For one sentence that is an answer by itself."""
    return (
        always()
        | OWN
        | {
            "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
            "Vary": CONTENT_VARIES,
        }
    )


def for_app(scheme: str, host: HostName, cid: str) -> dict[str, str]:
    """For a file of an app: an opaque origin, its own folder, and no network.

    In an opaque origin `'self'` matches nothing, so the folder is named by its URL; it answers with CORS `*`
    because module scripts of an opaque origin are fetched with `Origin: null`.
    """
    folder = f"{scheme}://{host}/app/{cid}/"
    policy = (
        "sandbox allow-scripts allow-downloads; default-src 'none';"
        f" script-src {folder} 'wasm-unsafe-eval' blob:; worker-src blob:; connect-src 'none';"
        f" style-src {folder} 'unsafe-inline'; img-src {folder} blob: data:; media-src {folder} blob: data:;"
        f" font-src {folder} data:; frame-src 'none'; object-src 'none';"
        f" frame-ancestors {scheme}://{host}; base-uri 'none'; form-action 'none'"
    )
    return (
        always()
        | SHARED
        | {
            "Content-Security-Policy": policy,
            "Permissions-Policy": NO_POWERS,
            "Connection-Allowlist": f'("{folder}*")',
            "X-DNS-Prefetch-Control": "off",
            "Vary": f"Accept-Encoding, {CONTENT_VARIES}",
        }
    )


def for_site(scheme: str, host: HostName, cid: str) -> dict[str, str]:
    """For a file below `/ipfs/<cid>/` that a browser may show: as an app, on its own, with its own folder.

    Nothing frames it, it frames nothing; it may load and fetch what lies in its folder, and scripts may be
    written into its pages, as folders made for the web have them.
    """
    folder = f"{scheme}://{host}/ipfs/{cid}/"
    policy = (
        "sandbox allow-scripts allow-downloads; default-src 'none';"
        f" script-src {folder} 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src blob:;"
        f" connect-src {folder};"
        f" style-src {folder} 'unsafe-inline'; img-src {folder} blob: data:; media-src {folder} blob: data:;"
        f" font-src {folder} data:; frame-src 'none'; object-src 'none'; frame-ancestors 'none';"
        " base-uri 'none'; form-action 'none'"
    )
    return (
        always()
        | _SAFE_ALONE
        | {
            "Content-Security-Policy": policy,
            "Connection-Allowlist": f'("{folder}*")',
            "X-DNS-Prefetch-Control": "off",
            "Vary": CONTENT_VARIES,
        }
    )


def for_list() -> dict[str, str]:
    """For a list of a folder's names, made here."""
    return (
        always()
        | _SAFE_ALONE
        | {
            "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline';"
            " frame-ancestors 'none'",
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": REVALIDATE,
            "Vary": CONTENT_VARIES,
        }
    )


def for_question() -> dict[str, str]:
    """For a question of ours in content's place: our own origin, so that the answer is not a stranger's."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
    told = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": f"{policy}; form-action 'none'",
    }
    return for_refusal() | told


def for_gateway(name: str, kind: str, etag: str) -> dict[str, str]:
    """For blocks and CARs of `/ipfs`: bytes to save and to verify, never a page to show."""
    return always() | {
        "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Type": kind,
        "Cache-Control": IMMUTABLE,
        "ETag": etag,
        "Vary": CONTENT_VARIES,
    }
