"""The blank that people write for a model to fill: three or more underscores."""

from __future__ import annotations

import re

__all__ = ["around_blank"]

_BLANK = re.compile("_{3,}|＿{3,}")


def around_blank(question: str) -> tuple[str, str] | None:
    """What stands before the first blank, without the spaces at its end, and what stands behind it; None without
    a blank."""
    blank = _BLANK.search(question)
    return None if blank is None else (question[: blank.start()].rstrip(), question[blank.end() :])
