"""Tokens to text while they arrive: no half characters, no lost spaces, stop texts withheld until certain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from glmbot.engine.stop_texts import StopTexts

__all__ = ["Detokenizer"]

_REPLACEMENT = "\ufffd"
# A UTF-8 character is at most four bytes, so at most four byte tokens; a longer wait for one means bad bytes.
_LONGEST_CHARACTER_TOKENS = 4
# Tokens without any text (control tokens) are forgotten when there are so many, so that a token costs the same
# however many of them came before it.
_MOST_SILENT = 32


class Detokenizer:
    """Incremental decoding of one answer.

    Each new token is decoded together with the tokens of the last emitted piece, because many tokenizers
    put the space of a word into its first token or drop it at the start of a text.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        stop: Sequence[str] = (),
        begun: Sequence[int] = (),
        before: Sequence[int] = (),
    ) -> None:
        """begun: tokens of an answer that goes on; its text comes first, and no stop text is looked for in it.
        before: of one that is not begun, tokens whose text it goes on from."""
        self._decode = decode
        self._stop = StopTexts(stop)
        self._tokens: list[int] = list(begun or before)
        self._context_start = 0
        self._emitted_to = len(self._tokens)
        # Of the text from `_context_start` on, so many characters were appended, and none since that token.
        self._given: int | None = None
        self._grew_at = len(self._tokens)
        self._text = decode(begun) if begun else ""
        self._begun = len(self._text)

    @property
    def text(self) -> str:
        """What may be shown now: certain to be a prefix of the final text."""
        if self._stop.found is not None:
            return self._text[: self._begun + self._stop.found]
        return self._text[: len(self._text) - self._stop.pending]

    @property
    def length(self) -> int:
        """Characters that there are so far, with those that may not be shown yet."""
        return len(self._text)

    @property
    def stopped(self) -> bool:
        """A stop text has appeared; `text` ends before it."""
        return self._stop.found is not None

    def push(self, token: int) -> None:
        self._tokens.append(token)
        now = self._decode(self._tokens[self._context_start :])
        given = self._already_given()
        # A token may end one character and begin another.
        whole = now.rstrip(_REPLACEMENT)
        unfinished = len(whole) < len(now)
        if unfinished and len(whole) > given:
            self._append(whole[given:])
            self._given = given = len(whole)
            self._grew_at = len(self._tokens) - 1
        if unfinished and len(self._tokens) - self._grew_at <= _LONGEST_CHARACTER_TOKENS:
            return
        if len(now) == given:
            self._grew_at = len(self._tokens)
            if len(self._tokens) - self._emitted_to > _MOST_SILENT:
                del self._tokens[self._emitted_to :]
                self._grew_at = len(self._tokens)
            return
        self._append(now[given:])
        # Bytes that were given up must not join the next character's.
        self._context_start = len(self._tokens) if unfinished else self._emitted_to
        self._emitted_to = self._grew_at = len(self._tokens)
        self._given = None

    def finish(self) -> str:
        """The final text: bytes that never became a character are shown as U+FFFD, nothing is withheld."""
        if not self.stopped:
            self._append(self._decode(self._tokens[self._context_start :])[self._already_given() :])
            self._context_start = self._emitted_to = self._grew_at = len(self._tokens)
            self._given = None
        return self.text if self.stopped else self._text

    def _already_given(self) -> int:
        if self._given is None:
            self._given = len(self._decode(self._tokens[self._context_start : self._emitted_to]))
        return self._given

    def _append(self, piece: str) -> None:
        self._text += piece
        self._stop.read(piece)
