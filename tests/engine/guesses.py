"""Guesses of prompt look-up, as a test wants them: none, and then often right ones."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from glmbot.engine.lookup import PromptLookup

__all__ = ["Guesses"]


class Guesses:
    """First none are made, and what is said is remembered. From `begin` on it is guessed, every other time with a
    token of it that is wrong."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._said: list[list[int]] = []
        self._dice = random.Random(1)

        def nothing(_: PromptLookup, tokens: Sequence[int], most: int) -> tuple[int, ...]:
            self._said.append(list(tokens))
            return ()

        monkeypatch.setattr(PromptLookup, "guess", nothing)

    def begin(self) -> None:
        def often_right(_: PromptLookup, tokens: Sequence[int], most: int) -> tuple[int, ...]:
            known = next((each for each in reversed(self._said) if each[: len(tokens)] == list(tokens)), [])
            guess = known[len(tokens) : len(tokens) + min(most, 3)]
            if guess and self._dice.random() < 0.5:
                guess[self._dice.randrange(len(guess))] = self._dice.randrange(400)
            return tuple(guess)

        self._monkeypatch.setattr(PromptLookup, "guess", often_right)
