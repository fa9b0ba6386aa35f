"""What is new in a snapshot, for a terminal that only ever appends."""

from __future__ import annotations

import re

from rich.cells import cell_len

__all__ = ["Lines", "growth", "printable"]

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Signs of East Asian scripts and pictures, between any two of which a line may end, and what begins none.
_WIDE = (
    "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff60"
    "\U0001f300-\U0001faff\U00020000-\U0003fffd"
)
_CLOSING = "、。，．：；？！）］｝」』】》〉〕”’…—"
_UNIT = re.compile(rf"\n|[^\S\n]*(?:[{_WIDE}]|[^\s{_WIDE}]+)[{_CLOSING}]*|[^\S\n]+")
_FENCES = ("```", "~~~")


def growth(shown: str, text: str) -> str:
    """What to print after `shown` so that `text` stands there; a changed beginning is printed anew."""
    if text.startswith(shown):
        return text[len(shown) :]
    return f"\n{text}"


def printable(text: str) -> str:
    """Without control characters: a model must not be able to send escape sequences to a terminal."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


class Lines:
    """Breaks the lines of a growing text at spaces, where a terminal breaks them within words. What stands in
    fences keeps its lines, to be copied."""

    def __init__(self) -> None:
        self._held = ""
        self._column = 0
        self._begun = self._fenced = self._cut = False

    def add(self, piece: str, width: int) -> str:
        """What may be printed now: a word waits for its end, unless no line has room for it."""
        units = _UNIT.findall(self._held + piece)
        waits = bool(units) and units[-1] != "\n" and cell_len(units[-1].lstrip()) < width
        self._held = units.pop() if waits else ""
        said = "".join([self._placed(unit, width) for unit in units])
        if units and not waits and units[-1] != "\n":
            self._cut = True
        return said

    def rest(self, width: int) -> str:
        held, self._held = self._held, ""
        return "".join([self._placed(unit, width) for unit in _UNIT.findall(held)])

    def _placed(self, unit: str, width: int) -> str:
        goes_on, self._cut = self._cut, False
        if unit == "\n":
            self._column, self._begun = 0, False
            return unit
        word = unit.lstrip()
        if not self._begun and word.startswith(_FENCES):
            self._fenced = not self._fenced
        self._begun = self._begun or bool(word)
        after = self._column + cell_len(unit)
        if after > width and self._column and not self._fenced and not (goes_on and unit == word):
            if not word:
                return ""
            unit, after = f"\n{word}", cell_len(word)
        # What is longer than a line has been broken by the terminal.
        self._column = (after - 1) % width + 1 if after else 0
        return unit
