"""Cosines and sines of rotary positions, computed once for each position."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from glmbot.models.lowered import Rotation

__all__ = ["RotationTable"]

_FIRST = 256
# From this position on they are computed anew: a table for the longest conversations would be kept for good.
_MOST = 16384


class RotationTable:
    """For a model on the CPU whose angles are of each position alone."""

    def __init__(self, rotation: Callable[[Tensor], Rotation]) -> None:
        """rotation: positions int64 [1 or rows, n] to cosines and sines float32 [tables or rows, n, angles]."""
        self._rotation = rotation
        self._made: Rotation | None = None

    def __call__(self, positions: Tensor) -> Rotation:
        """positions: int64 [1, tokens], or [rows, tokens] where there is one table. Returns float32 [tables or
        rows, tokens, angles]."""
        needed = int(positions.max()) + 1 if positions.numel() else 0
        if needed > _MOST:
            return self._rotation(positions)
        made = self._made
        if made is None or needed > made[0].shape[1]:
            # By doubling, so that a conversation that grows seldom waits for it.
            size = _FIRST if made is None else 2 * made[0].shape[1]
            made = self._made = self._rotation(torch.arange(min(_MOST, max(needed, size)))[None])
        cosines, sines = made
        return _at(cosines, positions), _at(sines, positions)


def _at(table: Tensor, positions: Tensor) -> Tensor:
    return table.index_select(1, positions[0]) if len(positions) == 1 else table[0][positions]
