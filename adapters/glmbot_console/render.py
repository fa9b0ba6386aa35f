"""What is new in a snapshot, for a terminal that only ever appends."""

from __future__ import annotations

__all__ = ["growth"]


def growth(shown: str, text: str) -> str:
    """What to print after `shown` so that `text` stands there; a changed beginning is printed anew."""
    if text.startswith(shown):
        return text[len(shown) :]
    return f"\n{text}"
