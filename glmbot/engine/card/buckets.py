"""A step of decoding laid out for buffers of a fixed size, so that one captured graph serves every step of that
size. Pure numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glmbot.engine.step import Step

__all__ = ["BUCKETS", "SPARE", "Laid", "bucket_of", "lay_out", "padding"]

BUCKETS = (1, 2, 4, 8, 16, 32)
SPARE = BUCKETS[-1]
"""Entries of the arena that belong to no sequence: each row of padding has one of its own to write and to read."""


@dataclass(frozen=True, slots=True)
class Laid:
    """Of each row of a bucket: `rows` of them are somebody's, and the rest is padding."""

    rows: int
    tokens: Sequence[int]
    positions: Sequence[Sequence[int]]
    places: Sequence[int]
    bases: Sequence[int]
    counts: Sequence[int]

    @property
    def bucket(self) -> int:
        return len(self.tokens)


def bucket_of(rows: int) -> int | None:
    """None for no rows, or more than the largest bucket has."""
    return next((size for size in BUCKETS if 0 < rows <= size), None)


def lay_out(step: Step, spare: int) -> Laid | None:
    """None for a step that is none of decoding: rows from which nothing is drawn, or too many. spare: where the
    arena's spare entries begin."""
    rows = len(step.tokens)
    size = bucket_of(rows)
    if size is None or step.drawing != list(range(rows)):
        return None
    pads = size - rows
    entries = range(spare, spare + pads)
    return Laid(
        rows,
        tokens=[*step.tokens, *[0] * pads],
        positions=[[*row, *[0] * pads] for row in step.positions],
        places=[*step.places, *entries],
        bases=[*step.bases(), *entries],
        # A row of padding sees itself alone.
        counts=[*step.counts(), *[1] * pads],
    )


def padding(size: int, position_rows: int, spare: int) -> Laid:
    """A bucket that is nobody's: what a graph is captured with."""
    entries = range(spare, spare + size)
    return Laid(
        0,
        tokens=[0] * size,
        positions=[[0] * size for _ in range(position_rows)],
        places=entries,
        bases=entries,
        counts=[1] * size,
    )
