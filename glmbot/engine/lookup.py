"""Guessing the next tokens from the conversation itself (prompt look-up decoding, Saxena 2023).

Answers often repeat: a name, a line of code, what the question said. When the last few tokens stood in the
conversation before, those that followed them then are computed together with the next step, and kept as far as
they turn out to be what is drawn anyway. So answers are the same with and without it, token for token.
https://github.com/apoorvumang/prompt-lookup-decoding
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["PromptLookup"]

_KEY = 3
_MOST = 3
# A step with three guesses costs some 1.7 times one without, so it pays when one guess in four is right.
_PAYS = 0.35
_WEIGHT = 0.2
_TRY_AGAIN = 48


class PromptLookup:
    """The guesses of one sequence. Pure bookkeeping."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._luck = 0.5
        self._resting = 0

    def guess(self, tokens: Sequence[int], most: int) -> tuple[int, ...]:
        """Up to `most` tokens that may follow `tokens`, which must begin with those of the last call."""
        for end in range(max(_KEY, self._indexed + 1), len(tokens)):
            self._after[tuple(tokens[end - _KEY : end])] = end
        self._indexed = max(self._indexed, len(tokens) - 1)
        if self._luck < _PAYS:
            self._resting += 1
            if self._resting < _TRY_AGAIN:
                return ()
            self._resting, self._luck = 0, 0.5
        start = self._after.get(tuple(tokens[-_KEY:])) if len(tokens) >= _KEY else None
        return () if start is None else tuple(tokens[start : start + min(most, _MOST)])

    def judge(self, guessed: int, right: int) -> None:
        """Tell how many of the last guesses were right."""
        self._luck += _WEIGHT * (right / guessed - self._luck)
