"""Engines that go on from any text, without a template, and can say which tokens it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

from glmbot.engine.base import Ability, Engine, Prepared

__all__ = ["Able", "BeginsTexts", "Pieces", "TextEngine", "texts"]


class TextEngine(Protocol):
    """What an `Engine` with `Ability.TEXTS` has besides."""

    def prepare_text(self, prompt: str | Sequence[int], room: int) -> Prepared:
        """A text, in which nothing becomes a control token, or any tokens of the model; at most `room` of them.

        Raises PromptTooLong.
        """
        ...

    def text_of(self, prepared: Prepared) -> str:
        """Of the prompt, control tokens left out."""
        ...

    def piece(self, token: int) -> str:
        """The text of a token; "" for one that has none of its own: a control token, a part of a character."""
        ...

    def starts(self, tokens: Sequence[int]) -> Sequence[int]:
        """Where each of a prompt's tokens begins in its text."""
        ...


@runtime_checkable
class Able(Protocol):
    """A `TokenEngine` that has abilities besides those of all."""

    @property
    def abilities(self) -> frozenset[Ability]: ...


@runtime_checkable
class BeginsTexts(Protocol):
    """A chat format that knows which control tokens its tokenizer puts in front of a text that stands alone."""

    @property
    def text_begins(self) -> Sequence[int]: ...


class Pieces:
    """Texts of single tokens, read behind another, since tokenizers may drop a space at the start of a text."""

    def __init__(self, engine: _Reads, before: str = "a") -> None:
        self._decode = engine.decode
        self._before = engine.encode_text(before)
        self._known: dict[int, str] = {}

    def of(self, token: int) -> str:
        """No more of them are kept than there are tokens."""
        if token not in self._known:
            self._known[token] = self._read(token)
        return self._known[token]

    def _read(self, token: int) -> str:
        before, both = self._decode(self._before), self._decode([*self._before, token])
        piece = both[len(before) :] if both.startswith(before) else ""
        return "" if "\ufffd" in piece else piece


class _Reads(Protocol):
    """See `glmbot.models.base.ChatFormat`."""

    def encode_text(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...


def texts(engine: Engine) -> TextEngine | None:
    """The engine, where it goes on from any text."""
    return cast(TextEngine, engine) if Ability.TEXTS in engine.abilities else None
