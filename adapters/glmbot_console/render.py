"""What is new in a snapshot, for a terminal that only ever appends."""

from __future__ import annotations

import re

__all__ = ["growth", "printable"]

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def growth(shown: str, text: str) -> str:
    """What to print after `shown` so that `text` stands there; a changed beginning is printed anew."""
    if text.startswith(shown):
        return text[len(shown) :]
    return f"\n{text}"


def printable(text: str) -> str:
    """Without control characters: a model must not be able to send escape sequences to a terminal."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))
