"""Scores of tokens as programs read them: with texts, and without the likely tokens that may not be said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from glmbot.completions import TokenScore
from glmbot.engine.score import Grown, Score
from glmbot.engine.texts import TextEngine

__all__ = ["Finds", "Spelling", "sayable", "spelled_prompt"]

Finds = Callable[[str], bool]
"""Whether something may not be said that stands in this text."""

# Tokens before another whose texts may be the beginning of a word that it ends.
_BEFORE = 16
# Others have their turn between so many tokens of a long prompt.
_AT_ONCE = 64


class Spelling:
    """Of one answer that grows: what was spelled once is not spelled again."""

    def __init__(self, engine: TextEngine, finds: Finds | None) -> None:
        """finds: None where nobody looks."""
        self._engine = engine
        self._finds = finds
        self._spelled: list[TokenScore] = []

    def of(self, scores: Sequence[Score]) -> Sequence[TokenScore]:
        """scores: all so far."""
        if len(scores) < len(self._spelled):
            # A stop text is not said; what was handed out before stands.
            self._spelled = self._spelled[: len(scores)]
        for score in _spelled(self._engine, scores[len(self._spelled) :]):
            self._spelled.append(_sayable(score, self._spelled, self._finds))
        return Grown(self._spelled, len(scores))


def _spelled(engine: TextEngine, scores: Sequence[Score]) -> list[TokenScore]:
    return [
        TokenScore(
            score.token,
            engine.piece(score.token),
            score.logprob,
            tuple(TokenScore(token, engine.piece(token), logprob) for token, logprob in score.top),
            score.start,
        )
        for score in scores
    ]


def spelled_prompt(engine: TextEngine, scores: Sequence[Score]) -> list[TokenScore]:
    """For any thread: it takes its time."""
    starts = engine.starts([score.token for score in scores])
    return [
        replace(score, start=start) for score, start in zip(_spelled(engine, scores), starts, strict=True)
    ]


async def sayable(scores: Sequence[TokenScore], finds: Finds | None) -> Sequence[TokenScore]:
    """The same without what `finds` finds among the likely tokens."""
    if finds is None:
        return scores
    found: list[TokenScore] = []
    for number, score in enumerate(scores):
        found.append(_sayable(score, found, finds))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


def _sayable(score: TokenScore, before: Sequence[TokenScore], finds: Finds | None) -> TokenScore:
    """What was not said is looked at where it could have been: a token may be the end of a word."""
    if finds is None or not score.top:
        return score
    said = "".join(each.text for each in before[-_BEFORE:])
    if not finds("\n".join(f"{said}{each.text}" for each in score.top)):
        return score
    return replace(score, top=tuple(each for each in score.top if not finds(f"{said}{each.text}")))
