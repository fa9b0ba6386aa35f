"""Scores of tokens as programs read them: with texts."""

from __future__ import annotations

from collections.abc import Sequence

from glmbot.completions import TokenScore
from glmbot.engine.score import Score
from glmbot.engine.texts import TextEngine

__all__ = ["Spelling", "spelled"]


class Spelling:
    """Of one answer that grows: what was spelled once is not spelled again."""

    def __init__(self, engine: TextEngine) -> None:
        self._engine = engine
        self._spelled: list[TokenScore] = []

    def of(self, scores: Sequence[Score]) -> tuple[TokenScore, ...]:
        """scores: all so far."""
        del self._spelled[len(scores) :]
        self._spelled += spelled(self._engine, scores[len(self._spelled) :])
        return tuple(self._spelled)


def spelled(engine: TextEngine, scores: Sequence[Score]) -> tuple[TokenScore, ...]:
    return tuple(
        TokenScore(
            score.token,
            engine.piece(score.token),
            score.logprob,
            tuple(TokenScore(token, engine.piece(token), logprob) for token, logprob in score.top),
        )
        for score in scores
    )
