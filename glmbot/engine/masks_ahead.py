"""The masks of a step, computed while the model computes the step itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor

from glmbot.engine.scheduler import Chunk

__all__ = ["Masks", "MasksAhead"]

Masks = Sequence[Sequence[Tensor | None]]


class MasksAhead:
    def __init__(self) -> None:
        # One thread: what a failed step has begun is done before the next one begins on the same matchers.
        self._thread = ThreadPoolExecutor(1, "masks")

    def begin(self, drawing: Sequence[Chunk]) -> Callable[[], Masks]:
        """What waits for them: of each chunk those of its next token and of that after each of its guesses."""
        if all(chunk.sequence.matcher is None for chunk in drawing):
            return lambda: [[None] * (1 + len(chunk.guessed)) for chunk in drawing]
        return self._thread.submit(_masks, drawing).result

    def close(self) -> None:
        self._thread.shutdown(wait=False)


def _masks(drawing: Sequence[Chunk]) -> Masks:
    return [
        [None] * (1 + len(chunk.guessed)) if matcher is None else matcher.masks(chunk.guessed)
        for chunk in drawing
        for matcher in [chunk.sequence.matcher]
    ]
