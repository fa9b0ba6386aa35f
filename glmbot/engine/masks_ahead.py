"""The masks of a step, computed while the model computes the step itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from glmbot.engine.sampling import Mask
from glmbot.engine.scheduler import Chunk

__all__ = ["Masks", "MasksAhead"]

Masks = Sequence[Sequence[Mask | None]]


class MasksAhead:
    def __init__(self) -> None:
        # One thread: what a failed step has begun is done before the next one begins on the same matchers.
        self._thread = ThreadPoolExecutor(1, "masks")

    def begin(self, drawing: Sequence[Chunk]) -> Callable[[], Masks]:
        """What waits for them: of each chunk those of its next token and of that after each of its guesses."""
        known = [_known(chunk) for chunk in drawing]
        whole = [each for each in known if each is not None]
        if len(whole) == len(drawing):
            return lambda: whole
        return self._thread.submit(_masks, drawing).result

    def close(self) -> None:
        self._thread.shutdown(wait=False)


def _known(chunk: Chunk) -> Sequence[Mask | None] | None:
    matcher = chunk.sequence.matcher
    return [None] * (1 + len(chunk.guessed)) if matcher is None else matcher.known(chunk.guessed)


def _masks(drawing: Sequence[Chunk]) -> Masks:
    return [
        [None] * (1 + len(chunk.guessed)) if matcher is None else matcher.masks(chunk.guessed)
        for chunk in drawing
        for matcher in [chunk.sequence.matcher]
    ]
