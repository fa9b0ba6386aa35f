"""What no value may be, whatever it is for."""

from __future__ import annotations

import re
from typing import Any, cast

__all__ = ["unfit"]

_LONGEST_TEXT = 1 << 16
_MOST_ENTRIES = 10_000
_DEEPEST = 8
# Paths and addresses hold none of these; prompts have lines.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")


def unfit(value: Any, depth: int = 0) -> str:
    """What is wrong with a value whatever it is for: too long, too deep, no text. "" for most."""
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            return f"has {len(value)} characters, and at most {_LONGEST_TEXT} are taken"
        return "holds control characters" if _CONTROL.search(value) else ""
    if isinstance(value, dict | list):
        entries = list(
            cast(dict[str, Any], value).values() if isinstance(value, dict) else cast(list[Any], value)
        )
        if len(entries) > _MOST_ENTRIES:
            return f"has {len(entries)} entries, and at most {_MOST_ENTRIES} are taken"
        if depth >= _DEEPEST:
            return "is too deep"
        return next(filter(None, (unfit(entry, depth + 1) for entry in entries)), "")
    if isinstance(value, int | float) and not abs(value) < 2**63:
        return "is no number that anything here could be"
    return ""
