"""Session descriptions of data channels, as far as the kernel looks: whose certificate, what addresses.

Promises: what passes `read` asks the browser for one data channel and no sound or picture, names one
certificate, is short, and has the browser knock at few addresses, none of them a name to be looked up or many
machines at once: a member could have others knock wherever he likes. Source: RFC 8866, RFC 8122, RFC 8839,
docs/protocols/signal.md. Does not know: the rest, which the browser reads.
"""

from __future__ import annotations

import re
from typing import Final

from promisegrid.errors import RemoteError
from promisegrid.frozen import frozen

_FINGERPRINT: Final = re.compile(r"a=fingerprint:(\S+) (\S+)", re.IGNORECASE)
_SHA256: Final = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){31}", re.IGNORECASE)
_CHANNEL: Final = re.compile(r"m=application \d{1,5} (UDP|TCP)/DTLS/SCTP webrtc-datachannel")
CANDIDATES_MAX: Final = 32
"""Addresses of one side: a machine has two for each network; each costs some ten packets."""
_CANDIDATE: Final = re.compile(r"a=candidate:\S+ \d+ \S+ \d+ (\S+) (\d{1,5}) typ .*", re.ASCII)
_ADDRESS: Final = re.compile(
    r"(?P<first>\d{1,3})(\.\d{1,3}){3}|(?!ff|::ffff:)[0-9a-f:]*:[0-9a-f:]*|[0-9a-z-]{1,63}\.local"
)
_MANY: Final = 224
"""The first number of addresses of many machines at once, and above it of none."""


@frozen
class Description:
    """A session description. fingerprint: SHA-256 of its side's certificate, 64 lower-case hex digits."""

    text: str
    fingerprint: str


def read(text: object, most: int) -> Description:
    """A description of at most that many bytes. RemoteError("bad_args") when it asks for anything else."""
    if not isinstance(text, str) or not text.isascii() or not 0 < len(text) <= most:
        raise RemoteError("bad_args", f"A description of a channel is ASCII text of at most {most} bytes.")
    lines = text.replace("\r\n", "\n").split("\n")
    if min("".join(lines), default=" ") < " ":  # a line's end, or a space, to some readers and not to others
        raise RemoteError("bad_args", "A description of a channel has lines that end in CRLF.")
    media = [line for line in lines if line.startswith("m=")]
    if len(media) != 1 or _CHANNEL.fullmatch(media[0]) is None:
        raise RemoteError("bad_args", "A description of a channel has one section, of a data channel.")
    named = {_fingerprint(line) for line in lines if line.lower().startswith("a=fingerprint")}
    if len(named) != 1:
        raise RemoteError("bad_args", "A description of a channel names one certificate, by its SHA-256.")
    candidates = [line for line in lines if line.lower().startswith("a=candidate")]
    if len(candidates) > CANDIDATES_MAX or not all(map(_is_candidate, candidates)):
        text = f"A description of a channel has {CANDIDATES_MAX} candidates at most, each with one address."
        raise RemoteError("bad_args", text)
    return Description(text, named.pop())


def own(text: str, most: int) -> Description:
    """This side's description, with as many candidates as it may have. Errors as `read`."""
    kept, lines = 0, []
    for line in text.splitlines(keepends=True):
        if line.startswith("a=candidate"):
            kept += _is_candidate(line.strip())
            if kept > CANDIDATES_MAX or not _is_candidate(line.strip()):
                continue
        lines.append(line)
    return read("".join(lines), most)


def channel(offer: Description, answer: Description) -> str:
    """The channel's name, which both ends sign in their greeting."""
    return f"webrtc {offer.fingerprint} {answer.fingerprint}"


def _is_candidate(line: str) -> bool:
    found = _CANDIDATE.fullmatch(line)
    address = None if found is None else _ADDRESS.fullmatch(found[1].lower())
    if found is None or address is None or int(found[2]) > 0xFFFF:
        return False
    return address["first"] is None or int(address["first"]) < _MANY


def _fingerprint(line: str) -> str:
    found = _FINGERPRINT.fullmatch(line)
    if found is None or found[1].lower() != "sha-256" or _SHA256.fullmatch(found[2]) is None:
        raise RemoteError("bad_args", "A description of a channel names its certificate by SHA-256.")
    return found[2].replace(":", "").lower()
