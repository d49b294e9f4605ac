"""A join URL as a QR code in the terminal, for the camera of a telephone."""

from __future__ import annotations

import io

import segno


def terminal_qr(text: str) -> str:
    """The code as lines of half-block characters, dark on light."""
    drawn = io.StringIO()
    segno.make_qr(text, error="l").terminal(drawn, compact=True, border=2)
    return drawn.getvalue()
