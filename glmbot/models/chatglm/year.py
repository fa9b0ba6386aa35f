"""The placeholder that ChatGLM's generations write for the year of their training, and what is shown for it."""

from __future__ import annotations

__all__ = ["filled", "open_end"]

_PLACEHOLDER, _YEAR = "[[训练时间]]", "2023年"


def filled(text: str) -> str:
    return text.replace(_PLACEHOLDER, _YEAR)


def open_end(text: str) -> int:
    """How many characters at the end may yet become the placeholder."""
    return next((n for n in range(len(_PLACEHOLDER) - 1, 0, -1) if text.endswith(_PLACEHOLDER[:n])), 0)
