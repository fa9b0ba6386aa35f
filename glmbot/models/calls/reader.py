"""Calls, taken out of an answer while it grows. Pure text, no model.

What can't be read as a call of a tool that was offered is words, and stays in the text as it was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from glmbot.models.calls.syntax import CallSyntax, Region, Tools, WrittenCall

__all__ = ["MOST_CALLS", "CallReader", "call_id"]

MOST_CALLS = 32
"""Of one answer; what follows is words."""
# Openings of one answer that began no call; each reads on to the end. What follows more of them is words.
_MOST_FAILED = 64
_ID_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 9


class CallReader:
    """One growing text, read once. The text and the calls that were handed out are the beginning of what is handed
    out later."""

    def __init__(
        self, syntaxes: Sequence[CallSyntax], tools: Tools, *, known: int = 0, most: int = MOST_CALLS
    ) -> None:
        """known: so many of the first characters are words. most: calls that are read."""
        self._syntaxes = syntaxes
        self._tools = tools
        self._most = most
        self._known = known
        self._at = known
        """All before is decided."""
        self._from = 0
        self._words: list[str] = []
        self._whole: list[WrittenCall] = []
        self._region: Region | None = None
        self._opened = 0
        self._failed = 0

    @property
    def full(self) -> bool:
        """No more calls are read."""
        return len(self._whole) >= self._most

    def read(self, text: str) -> tuple[str, Sequence[WrittenCall]]:
        """text: all of the answer so far, which begins with what was read before. Returns words and calls."""
        return self._read(text, ended=False)

    def end(self, text: str) -> tuple[str, Sequence[WrittenCall]]:
        """text: the whole answer."""
        return self._read(text, ended=True)

    def _read(self, text: str, *, ended: bool) -> tuple[str, Sequence[WrittenCall]]:
        growing = self._advance(text, ended=ended)
        upto = len(text) if ended and self._region is None else self._at
        words = "".join([*self._words, text[self._from : upto]])
        if self._whole or growing:
            # The lines around calls are nobody's words.
            before = self._words[0] if self._words else text[: self._opened]
            words = words[: self._known] + words[self._known :].rstrip()
            words = words if before.strip() else words.lstrip()
        elif not ended:
            words = words[: self._known] + words[self._known :].rstrip()
        return words, [*self._whole, *growing]

    def _advance(self, text: str, *, ended: bool) -> Sequence[WrittenCall]:
        """Decide as much as can be decided. Returns calls that are not whole yet."""
        while self._at < len(text) or self._region is not None:
            if self._region is None and not self._open(text, ended=ended):
                return ()
            if self._region is None:
                return ()
            seen = self._region.read(text, ended=ended)
            if seen.failed:
                # Its first character is a word, and what follows may still be a call.
                self._region = None
                self._failed += 1
                self._at = self._opened + 1
                continue
            if seen.end is None and not ended:
                return [] if self.full else list(seen.calls)[: self._most - len(self._whole)]
            self._words.append(text[self._from : self._opened])
            self._whole += [call for call in seen.calls if call.whole][: self._most - len(self._whole)]
            self._region = None
            self._at = self._from = len(text) if seen.end is None else seen.end
        return ()

    def _open(self, text: str, *, ended: bool) -> bool:
        """Go to the next opening, or to the end. Whether there is one."""
        if self.full or self._failed > _MOST_FAILED or not self._tools:
            self._at = len(text)
            return False
        found = [
            (opening.at, number, opening)
            for number, syntax in enumerate(self._syntaxes)
            if (opening := syntax.opening(text, self._at, self._tools)) is not None
        ]
        if not found:
            self._at = len(text)
            return False
        at, number, opening = min(found, key=lambda each: each[:2])
        self._at = at
        if opening.end is None:
            if ended:
                self._at = len(text)
            return False
        self._opened = at
        self._region = self._syntaxes[number].region(opening.end, self._tools)
        return True


def call_id(seed: int, number: int) -> str:
    """The same for the same call of the same answer. Nine letters and digits, which is all that Mistral's
    templates take."""
    digest = int.from_bytes(hashlib.sha256(json.dumps([seed, number]).encode()).digest()[:16], "big")
    letters = ""
    for _ in range(_ID_LENGTH):
        digest, rest = divmod(digest, len(_ID_LETTERS))
        letters += _ID_LETTERS[rest]
    return letters
