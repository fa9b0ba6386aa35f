"""Computing the steps of a model thread, and drawing their tokens: on a card where it can do both, else here.

A card that decodes for the same people as before is given the next step before this one is read: its tokens are
in the card's own memory. What comes of it for an answer that has ended meanwhile is thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from glmbot.engine.answer import Answer
from glmbot.engine.base import Score
from glmbot.engine.card.decoding import Begun
from glmbot.engine.masks_ahead import Masks, MasksAhead
from glmbot.engine.runner import ModelRunner
from glmbot.engine.sampling import Draw
from glmbot.engine.scheduler import Chunk
from glmbot.engine.scores import Drawn, draw, score_prompts

__all__ = ["Computed", "Computing"]

# More people than this fill the processor without guesses.
_MOST_GUESSING = 2
Computed = tuple[Mapping[int, Sequence[Score]], Sequence[Sequence[Drawn]]]
"""The scores of prompts by their sequence, and of each chunk that draws its tokens: one after its own, and one
after each of its guesses."""


@dataclass(frozen=True, slots=True)
class _Ahead:
    begun: Begun
    computed: Mapping[int, int]
    """Of each of its sequences, how much was to be computed before it."""


class Computing:
    """Lives in the model thread."""

    def __init__(self, runner: ModelRunner, answers: Mapping[int, Answer]) -> None:
        self._runner = runner
        self._answers = answers
        self._masks = MasksAhead()
        self._ahead: _Ahead | None = None
        self._guessed = False

    def close(self) -> None:
        self._masks.close()

    def with_guesses(self, chunks: list[Chunk]) -> list[Chunk]:
        """A few people alone leave the processor time to compute what may follow."""
        self._guessed = False
        if len(chunks) > _MOST_GUESSING or not self._runner.native or not all(map(_decodes, chunks)):
            return chunks
        guesses = [self._answers[chunk.sequence.id].guess() for chunk in chunks]
        self._guessed = any(guesses)
        if self._rows_ahead(chunks) is not None:
            # Its tokens are there already; the step after it is not begun, and has guesses again.
            return chunks
        return [
            Chunk(chunk.sequence, chunk.length, guess) for chunk, guess in zip(chunks, guesses, strict=True)
        ]

    def compute(self, chunks: list[Chunk], *, undisturbed: bool = False) -> Computed:
        """undisturbed: nobody waits to take part in the next step."""
        rows, ahead = self._rows_ahead(chunks), self._ahead
        self._ahead = None
        if ahead is not None and rows is None:
            self._forget(ahead.begun)
        begun = ahead.begun if ahead is not None and rows is not None else self._begin(chunks)
        if begun is None:
            return self._by_host(chunks)
        rows = list(range(len(begun.draws))) if rows is None else rows
        try:
            if undisturbed and not self._guessed:
                self._begin_next(chunks, begun, rows)
            return {}, self._read(chunks, begun, rows)
        except BaseException:
            for each in (begun, self._ahead and self._ahead.begun):
                if each is not None:
                    self._forget(each)
            self._ahead = None
            raise

    def _rows_ahead(self, chunks: Sequence[Chunk]) -> list[int] | None:
        """Of each chunk its row in the step that was begun ahead, where that has them all."""
        ahead = self._ahead
        if ahead is None or any(
            not _decodes(chunk)
            or chunk.guessed
            or ahead.computed.get(chunk.sequence.id) != chunk.sequence.computed
            for chunk in chunks
        ):
            return None
        places = {owner.id: row for row, owner in enumerate(ahead.begun.owners)}
        return [places[chunk.sequence.id] for chunk in chunks]

    def _begin(self, chunks: Sequence[Chunk]) -> Begun | None:
        if self._runner.decoding is None or not all(_decodes(chunk) and _free(chunk) for chunk in chunks):
            return None
        draws = [
            each
            for chunk in chunks
            for each in self._answers[chunk.sequence.id].draws(
                chunk.guessed, [None] * (1 + len(chunk.guessed))
            )
        ]
        return self._runner.begin_drawing(chunks, draws)

    def _begin_next(self, chunks: Sequence[Chunk], begun: Begun, rows: Sequence[int]) -> None:
        # The last token that may be drawn is never computed: it has no entry in the cache.
        if not all(
            _free(chunk)
            and not chunk.guessed
            and chunk.sequence.drawn + 1 < chunk.sequence.sampling.max_tokens
            for chunk in chunks
        ):
            return
        draws = [self._answers[chunk.sequence.id].draw_after_next() for chunk in chunks]
        following = self._runner.begin_drawing(chunks, draws, begun, rows)
        if following is not None:
            computed = {chunk.sequence.id: chunk.sequence.computed + 1 for chunk in chunks}
            self._ahead = _Ahead(following, computed)

    def _read(self, chunks: Sequence[Chunk], begun: Begun, rows: Sequence[int]) -> Sequence[Sequence[Drawn]]:
        decoding = self._runner.decoding
        tokens = begun.tokens()
        left = [] if decoding is None else decoding.undrawn(begun, tokens)
        if left and self._ahead is not None:
            # It went on from a token that was not drawn, and has overwritten what is to be drawn from.
            for each in (self._ahead.begun, begun):
                self._forget(each)
            self._ahead = None
            return self._by_host(chunks)[1]
        if decoding is not None and left:
            decoding.draw_here(begun, tokens, left)
        found = iter([tokens[row] for row in rows])
        return [[(next(found), None) for _ in range(1 + len(chunk.guessed))] for chunk in chunks]

    def _forget(self, begun: Begun) -> None:
        """What was drawn there may not be what is said."""
        if self._runner.decoding is not None:
            for owner in begun.owners:
                self._runner.decoding.forget(owner.id)

    def _by_host(self, chunks: Sequence[Chunk]) -> Computed:
        drawing = [chunk for chunk in chunks if chunk.draws]
        masks = self._masks.begin(drawing)
        scores, logits = score_prompts(chunks, self._runner.step(list(chunks)))
        return scores, self._draw(logits, drawing, masks())

    def _draw(self, logits: torch.Tensor, drawing: Sequence[Chunk], masks: Masks) -> list[list[Drawn]]:
        if not drawing:
            return []
        draws: list[Draw] = [
            each
            for chunk, allowed in zip(drawing, masks, strict=True)
            for each in self._answers[chunk.sequence.id].draws(chunk.guessed, allowed)
        ]
        tokens = iter(draw(logits, draws))
        return [[next(tokens) for _ in range(len(chunk.guessed) + 1)] for chunk in drawing]


def _decodes(chunk: Chunk) -> bool:
    return chunk.length == 1 and chunk.draws and not chunk.scores


def _free(chunk: Chunk) -> bool:
    """Whether its answer is held to no form."""
    return chunk.sequence.matcher is None
