"""Session descriptions of data channels, as far as the kernel looks into them: whose certificate.

Promises: what passes `read` asks the browser for one data channel and no sound or picture, names one
certificate, and is short. Source: RFC 8866, RFC 8122, docs/protocols/signal.md.
Does not know: candidates and the rest, which the browser reads.
"""

from __future__ import annotations

import re
from typing import Final

from promisegrid.errors import RemoteError
from promisegrid.frozen import frozen

_FINGERPRINT: Final = re.compile(r"a=fingerprint:(\S+) (\S+)", re.IGNORECASE)
_SHA256: Final = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){31}", re.IGNORECASE)
_CHANNEL: Final = re.compile(r"m=application \d{1,5} (UDP|TCP)/DTLS/SCTP webrtc-datachannel")


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
    if "\r" in "".join(lines):  # a line's end to some readers, not to others
        raise RemoteError("bad_args", "A description of a channel has lines that end in CRLF.")
    media = [line for line in lines if line.startswith("m=")]
    if len(media) != 1 or _CHANNEL.fullmatch(media[0]) is None:
        raise RemoteError("bad_args", "A description of a channel has one section, of a data channel.")
    named = {_fingerprint(line) for line in lines if line.lower().startswith("a=fingerprint")}
    if len(named) != 1:
        raise RemoteError("bad_args", "A description of a channel names one certificate, by its SHA-256.")
    return Description(text, named.pop())


def channel(offer: Description, answer: Description) -> str:
    """The channel's name, which both ends sign in their greeting."""
    return f"webrtc {offer.fingerprint} {answer.fingerprint}"


def _fingerprint(line: str) -> str:
    found = _FINGERPRINT.fullmatch(line)
    if found is None or found[1].lower() != "sha-256" or _SHA256.fullmatch(found[2]) is None:
        raise RemoteError("bad_args", "A description of a channel names its certificate by SHA-256.")
    return found[2].replace(":", "").lower()
