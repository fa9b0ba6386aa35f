"""What people are shown of a call: a title, and arguments that can't pretend to be anything else. Pure."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

from glmbot.host import Tool

__all__ = ["plain", "shown_arguments", "title_of"]

_LONGEST_TITLE = 60
# Letters that nobody sees, or that turn what follows around; and ends of lines.
_HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})


def title_of(tool: Tool, language: str) -> str:
    return plain(tool.title.get(language) or tool.title.get("en") or tool.name, _LONGEST_TITLE)


def shown_arguments(arguments: Mapping[str, Any], most: int) -> str:
    """On one line, as JSON. What does not fit is counted."""
    return plain(json.dumps(arguments, ensure_ascii=False), most)


def plain(text: str, most: int) -> str:
    """On one line, without letters that hide something. What is cut out of the middle is counted there."""
    clean = "".join("�" if unicodedata.category(letter) in _HIDDEN else letter for letter in text[: 2 * most])
    left = len(text) - most
    if left <= 0:
        return clean
    gap = f" … {left} … "
    end = unicodedata.normalize("NFC", text[-most // 4 :])
    end = "".join("�" if unicodedata.category(letter) in _HIDDEN else letter for letter in end)
    return f"{clean[: most - len(end) - len(gap)]}{gap}{end}"
