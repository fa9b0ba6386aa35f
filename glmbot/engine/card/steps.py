"""Decoding steps on a card: embedding, model and drawing of a bucket as one recorded piece of work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glmbot.cuda.program import CardProgram
from glmbot.engine.card.buckets import BUCKETS, SPARE, Laid, padding
from glmbot.engine.card.drawing import CardDrawing, Kind
from glmbot.engine.card.fields import Fields, Row
from glmbot.engine.card.recording import Again, Recorder
from glmbot.engine.kv_cache import Arena
from glmbot.models.lowered import LoweredModel
from glmbot.native.program import Rows

__all__ = ["CardSteps", "Way"]

Way = Kind | None
"""How a step's tokens are drawn; None for a step whose logits are all that is wanted."""
# What is recorded before it is needed: the way of nearly all steps.
_USUAL: tuple[Way, ...] = ("likeliest", "narrow")
_MOST_RECORDING_S = 2.0


@dataclass(frozen=True, slots=True)
class _Recorded:
    again: Again
    logits: Tensor


class CardSteps:
    """One step after another; each overwrites what the one before left."""

    def __init__(
        self,
        lowered: LoweredModel[CardProgram],
        arena: Arena,
        recorder: Recorder,
        *,
        position_rows: int,
        vocabulary: int,
        device: torch.device,
        spare: int,
        embeds_on_host: bool = False,
    ) -> None:
        """spare: where the arena's entries for padding begin. embeds_on_host: the table of embeddings is not on
        the device; then every token of a step must be known here."""
        self._embeds_on_host = embeds_on_host
        self._lowered, self._arena, self._recorder = lowered, arena, recorder
        self._position_rows, self._spare = position_rows, spare
        self._fields = Fields(position_rows, device, vocabulary, pinned=recorder.pinned)
        self.drawing = CardDrawing(self._fields, vocabulary, device, pinned=recorder.pinned)
        self._every = torch.arange(SPARE, dtype=torch.int32, device=device)
        self._device = device
        self._hidden: Tensor | None = None
        self._stages: list[Tensor] = []
        self._free: list[Callable[[], None]] = [lambda: None, lambda: None]
        self._turn = 0
        self._recorded: dict[tuple[int, Way], _Recorded] = {}
        self._made: Tensor | None = None

    def prepare(self, on_progress: Callable[[], None]) -> None:
        """Record what is usual, the smallest first, as long as that doesn't take long; the rest is recorded when
        it is first needed."""
        began = time.monotonic()
        self.ready(1, None)
        for size in BUCKETS:
            for way in _USUAL:
                self.ready(size, way)
                on_progress()
            if time.monotonic() - began > _MOST_RECORDING_S:
                return

    def continues(self, size: int, way: Way) -> bool:
        """Whether such a step can be begun while the one before it is under way."""
        return not self._embeds_on_host and (size, way) in self._recorded

    @torch.inference_mode()
    def ready(self, size: int, way: Way) -> None:
        """Record a step where it is not yet. No other may be under way: its numbers would be overwritten."""
        if (size, way) in self._recorded:
            return
        self._send(padding(size, self._position_rows, self._spare), ())
        self._made = None
        again = self._recorder.record(lambda: self._compute(size, way))
        if self._made is None:
            # Nothing was run while it was recorded.
            again()
        if self._made is None:
            raise RuntimeError("a recorded step left no logits")
        self._recorded[size, way] = _Recorded(again, self._made)
        self._recorder.passed()()

    @torch.inference_mode()
    def run(self, laid: Laid, rows: Sequence[Row], way: Way) -> Tensor:
        """Returns at once. The logits float32 [somebody's rows, vocabulary]; the tokens are in `drawing`."""
        recorded = self._recorded[laid.bucket, way]
        self._send(laid, rows)
        recorded.again()
        return recorded.logits[: laid.rows]

    def _send(self, laid: Laid, rows: Sequence[Row]) -> None:
        self._turn = (self._turn + 1) % len(self._free)
        # The copy before the last one must have been made before what it was made from is overwritten.
        self._free[self._turn]()
        self._fields.send(laid, rows, self.drawing.spare_slot)
        if self._embeds_on_host:
            self._embed(laid)
        self._free[self._turn] = self._recorder.passed()

    def _embed(self, laid: Laid) -> None:
        hidden = self._lowered.embed(torch.tensor(list(laid.tokens)), torch.tensor(laid.positions))
        if self._hidden is None:
            shape = (SPARE, hidden.shape[-1])
            self._hidden = torch.zeros(shape, dtype=hidden.dtype, device=self._device)
            pinned = self._recorder.pinned
            self._stages = [torch.zeros(shape, dtype=hidden.dtype, pin_memory=pinned) for _ in self._free]
        size = laid.bucket
        stage = self._stages[self._turn][:size]
        stage.copy_(hidden)
        self._hidden[:size].copy_(stage, non_blocking=True)

    def _compute(self, size: int, way: Way) -> None:
        """What is recorded."""
        fields, lowered = self._fields, self._lowered
        positions = fields.positions[:, :size].long()
        hidden = lowered.embed(self._tokens(size), positions) if self._hidden is None else self._hidden[:size]
        rotation = None if lowered.rotation is None else lowered.rotation(positions)
        places, bases, counts = (fields[name][:size] for name in ("place", "base", "count"))
        rows = Rows(hidden, places, bases, counts, self._every[:size], rotation)
        self._made = lowered.program.run(rows, self._arena.keys, self._arena.values)
        if way is not None:
            self.drawing.draw(way, self._made)

    def _tokens(self, size: int) -> Tensor:
        """Known to the host, or drawn by the step before."""
        fields = self._fields
        before = self.drawing.next.index_select(0, fields["source"][:size])
        return torch.where(fields["known"][:size] != 0, fields["token"][:size].long(), before)
