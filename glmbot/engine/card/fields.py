"""The numbers of one step, sent to the card in one copy, in memory whose address never changes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from glmbot.engine.card.buckets import SPARE, Laid
from glmbot.engine.sampling import Draw

__all__ = ["Fields", "Row"]

_OFF = float("-inf")
# Two steps may be under way, and what one of them is still copied from must not be written.
_STAGES = 2
_INTEGERS = ("token", "known", "source", "place", "base", "count", "slot", "top_k", "greedy")
_FLOATS = ("temperature", "top_p", "min_p", "penalty", "uniform")


@dataclass(frozen=True, slots=True)
class Row:
    """What a row draws by. source: the row of the step before whose token it continues, where this is not known
    here yet. slot: where its tokens are marked for the repetition penalty."""

    draw: Draw
    slot: int
    source: int | None = None


class Fields:
    """One table int32 [fields, rows] on the card; floats are there by their bits."""

    def __init__(
        self, position_rows: int, device: torch.device, vocabulary: int, *, pinned: bool = False
    ) -> None:
        """pinned: a copy from pinned memory is faster on this device, and waited for by nobody."""
        self._vocabulary = vocabulary
        positions = tuple(f"position{row}" for row in range(position_rows))
        self._names = {name: at for at, name in enumerate((*_INTEGERS, *_FLOATS, *positions))}
        shape = (len(self._names), SPARE)
        self._table = torch.zeros(shape, dtype=torch.int32, device=device)
        self._stages = [torch.zeros(shape, dtype=torch.int32, pin_memory=pinned) for _ in range(_STAGES)]
        self._turn = 0
        first = self._names["position0"]
        self._positions = self._table[first : first + position_rows]

    def __getitem__(self, name: str) -> Tensor:
        """int32, or float32 for what is a float, of all rows."""
        row = self._table[self._names[name]]
        return row.view(torch.float32) if name in _FLOATS else row

    @property
    def positions(self) -> Tensor:
        """int32 [position rows, rows]."""
        return self._positions

    def send(self, laid: Laid, rows: Sequence[Row], spare_slot: int) -> None:
        """rows: of those that draw; padding draws the likeliest, for nobody."""
        self._turn = (self._turn + 1) % _STAGES
        stage = self._stages[self._turn]
        stage.copy_(torch.tensor(self._lines(laid, rows, spare_slot), dtype=torch.int32))
        self._table.copy_(stage, non_blocking=True)

    def _lines(self, laid: Laid, rows: Sequence[Row], spare_slot: int) -> list[list[int]]:
        none = SPARE - len(rows)
        draws = [row.draw.sampling for row in rows]
        likeliest = [row.draw.greedy for row in rows]
        columns: dict[str, Sequence[int] | Sequence[float]] = {
            "token": laid.tokens,
            "known": [int(row.source is None) for row in rows] + [1] * none,
            "source": [row.source or 0 for row in rows],
            "place": laid.places,
            "base": laid.bases,
            "count": laid.counts,
            "slot": [row.slot for row in rows] + [spare_slot] * none,
            "top_k": [min(each.top_k or self._vocabulary, self._vocabulary) for each in draws] + [1] * none,
            "greedy": [int(each) for each in likeliest] + [1] * none,
            # A greedy row's scores are looked at as they are.
            "temperature": [
                1.0 if cold else each.temperature for cold, each in zip(likeliest, draws, strict=True)
            ]
            + [1.0] * none,
            "top_p": [each.top_p for each in draws] + [1.0] * none,
            "min_p": [_logarithm(each.min_p) for each in draws] + [_OFF] * none,
            "penalty": [each.repetition_penalty for each in draws] + [1.0] * none,
            "uniform": [row.draw.uniform for row in rows],
        }
        for number, line in enumerate(laid.positions):
            columns[f"position{number}"] = line
        return [self._line(name, columns[name]) for name in self._names]

    @staticmethod
    def _line(name: str, values: Sequence[int] | Sequence[float]) -> list[int]:
        filled = [*values, *[0] * (SPARE - len(values))]
        if name not in _FLOATS:
            return [int(each) for each in filled]
        return list(struct.unpack(f"{SPARE}i", struct.pack(f"{SPARE}f", *filled)))


@lru_cache(maxsize=64)
def _logarithm(number: float) -> float:
    return float(torch.tensor(number, dtype=torch.float32).log())
