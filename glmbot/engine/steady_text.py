"""What may be shown of a growing answer: every text that was shown is the beginning of all later ones.

A chat format's post-processing may change the end of a text when more follows (a placeholder that is not whole
yet, punctuation that becomes full-width before a Chinese character). That end is held back, here and nowhere else.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["AsWritten", "SteadyText"]


class _Format(Protocol):
    """See `glmbot.models.base.ChatFormat`."""

    def finish_text(self, text: str) -> str: ...

    def settled(self, text: str) -> int: ...


class AsWritten:
    """No post-processing."""

    def finish_text(self, text: str) -> str:
        return text

    def settled(self, text: str) -> int:
        return len(text)


class SteadyText:
    def __init__(self, chat_format: _Format, begun: str = "") -> None:
        """begun: the beginning of an answer that goes on; it was shown already, so it stays as it was shown."""
        self._format = chat_format
        self._begun = begun
        self._first = chat_format.finish_text(begun)
        # An end of it that would change with what follows is kept apart from that.
        self._apart = chat_format.settled(begun) < len(begun)

    def grown(self, raw: str) -> str:
        """raw: the whole unprocessed answer so far, `begun` included, which later ones begin with."""
        return self._shown(raw, ended=False)

    def ended(self, raw: str) -> str:
        """raw: the whole unprocessed answer."""
        return self._shown(raw, ended=True)

    def _shown(self, raw: str, *, ended: bool) -> str:
        start = len(self._begun) if self._apart else 0
        rest = raw[start:]
        if not ended:
            rest = rest[: self._format.settled(rest)]
        if start + len(rest) <= len(self._begun):
            return self._first
        text = self._format.finish_text(rest)
        if not self._apart:
            return text
        space = rest[: len(rest) - len(rest.lstrip())]
        return self._first + space + text if text else self._first
