"""Where the last whole paragraph of a growing Markdown text ends: what follows changes nothing of what is before.

Code, mathematics, lists, quotes and tables are whole paragraphs, and a heading is one with what follows it.
"""

from __future__ import annotations

from glmbot.delivery.blocks import Place, is_heading, step

__all__ = ["Paragraphs"]

_CODE = ("fence", "math")


class Paragraphs:
    """Reads each line once, as long as the text only grows."""

    def __init__(self) -> None:
        self._read = ""
        self._place = Place()
        self._end = 0
        self._under_heading = False

    def end(self, text: str) -> int:
        """How many characters of `text` are whole paragraphs whatever follows; the last one never is."""
        if not text.startswith(self._read):
            self.__init__()
        at = len(self._read)
        while (newline := text.find("\n", at)) >= 0:
            self._take(text[at:newline], at)
            at = newline + 1
        self._read = text[:at]
        # Of a line that is still written only a letter tells what it will be: words, of their own after a blank.
        begins = text[at : at + 1].isalpha() and self._place.block.kind == "blank"
        return at if begins and not self._under_heading else self._end

    def _take(self, line: str, at: int) -> None:
        before = self._place
        self._place, _, new = step(before, line)
        if not line.strip() or before.block.kind in _CODE:
            return
        underlines = before.block.kind == "" and not line.strip().strip("-=")
        follows = before.block.kind == "blank" or (new and not underlines)
        indented = line.startswith(("    ", "\t"))
        # What is within a list or a quote goes on with it.
        inside = before.containers and self._place.containers
        if follows and not inside and not indented and not self._under_heading:
            self._end = at
        self._under_heading = not self._place.containers and is_heading(line)
