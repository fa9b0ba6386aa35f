"""Decoding on a card, as the engine asks for it: rows of sequences in, drawn tokens out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glmbot.engine.card.buckets import SPARE, Laid, lay_out
from glmbot.engine.card.drawing import UNDRAWN, drawable, kind_of
from glmbot.engine.card.fields import Row
from glmbot.engine.card.recording import Recorder
from glmbot.engine.card.slots import Slots
from glmbot.engine.card.steps import CardSteps
from glmbot.engine.sampling import Draw, sample
from glmbot.engine.scheduler import Sequence as EngineSequence
from glmbot.engine.step import Step

__all__ = ["Begun", "CardDecoding"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A step under way: whose its rows are and what they draw by."""

    owners: Sequence[EngineSequence]
    draws: Sequence[Draw]
    logits: Tensor
    tokens: Callable[[], list[int]]
    """Waits for what was drawn: ids, -1 for a row of NaN, UNDRAWN."""


class CardDecoding:
    """Steps follow one another; at most one is begun before the one ahead of it is read."""

    def __init__(self, steps: CardSteps, recorder: Recorder, spare: int) -> None:
        """spare: as `CardSteps` has it."""
        self.steps = steps
        self._recorder, self._spare = recorder, spare
        self._slots = Slots(SPARE)
        self._wide: set[int] = set()
        self._back = [torch.zeros(SPARE, dtype=torch.int64, pin_memory=recorder.pinned) for _ in range(2)]
        self._turn = 0
        self._last: Begun | None = None

    def finish(self) -> None:
        """Wait for what is under way."""
        self._recorder.passed()()

    def logits(self, step: Step) -> Tensor | None:
        """Of a step whose tokens the host draws; None for one that is no decoding step. They are good until the
        next step."""
        laid = lay_out(step, self._spare)
        if laid is None:
            return None
        self._last = None
        self.steps.ready(laid.bucket, None)
        return self.steps.run(laid, (), None)

    def begin(
        self,
        step: Step,
        owners: Sequence[EngineSequence],
        draws: Sequence[Draw],
        after: Begun | None = None,
        sources: Sequence[int] = (),
    ) -> Begun | None:
        """owners, draws: of each row of the step. after: the step before, still under way, and `sources` of each
        row the one there whose token it continues. None where the host must draw, or must know these tokens."""
        laid = self._laid(step, owners, draws)
        if laid is None:
            return None
        kind = kind_of(draws, any(owner.id in self._wide for owner in owners))
        if after is None:
            self.steps.ready(laid.bucket, kind)
        elif after is not self._last or not self.steps.continues(laid.bucket, kind):
            return None
        logits = self.steps.run(laid, self._rows(owners, draws, sources), kind)
        self._last = Begun(owners, draws, logits, self._brought_back(len(owners)))
        return self._last

    @staticmethod
    def draw_here(begun: Begun, tokens: list[int], left: Sequence[int]) -> None:
        """What the card could not draw in a step that no other was begun after."""
        rows = begun.logits[torch.tensor(left, device=begun.logits.device)]
        found: list[int] = sample(rows, [begun.draws[row] for row in left]).tolist()
        for row, token in zip(left, found, strict=True):
            tokens[row] = token

    def undrawn(self, begun: Begun, tokens: Sequence[int]) -> list[int]:
        """Rows whose nucleus was wider than what was looked at; that of their next ones will be, too."""
        left = [row for row, token in enumerate(tokens) if token == UNDRAWN]
        ids = {owner.id for owner in begun.owners}
        self._wide = (self._wide & ids) | {begun.owners[row].id for row in left}
        for row in left:
            self.forget(begun.owners[row].id)
        return left

    def forget(self, sequence: int) -> None:
        """What the card has marked of a sequence is not what was said."""
        self._slots.forget(sequence)

    def _laid(self, step: Step, owners: Sequence[EngineSequence], draws: Sequence[Draw]) -> Laid | None:
        if not all(map(drawable, draws)):
            return None
        ids = [owner.id for owner in owners]
        # Each guess would be penalised by those before it, which nobody has said yet.
        if len(set(ids)) < len(ids) and any(draw.penalised for draw in draws):
            return None
        return lay_out(step, self._spare)

    def _rows(
        self, owners: Sequence[EngineSequence], draws: Sequence[Draw], sources: Sequence[int]
    ) -> list[Row]:
        drawing, others = self.steps.drawing, {owner.id for owner in owners}
        rows: list[Row] = []
        for number, (owner, draw) in enumerate(zip(owners, draws, strict=True)):
            slot = drawing.spare_slot
            if draw.penalised:
                unmarked = self._slots.of(owner.id, owner.tokens, others)
                if unmarked.anew or unmarked.tokens:
                    drawing.mark(unmarked.slot, unmarked.tokens, anew=unmarked.anew)
                slot = unmarked.slot
                self._slots.drew(owner.id)
            rows.append(Row(draw, slot, sources[number] if sources else None))
        return rows

    def _brought_back(self, rows: int) -> Callable[[], list[int]]:
        self._turn = (self._turn + 1) % len(self._back)
        back = self._back[self._turn]
        back.copy_(self.steps.drawing.drawn, non_blocking=True)
        passed = self._recorder.passed()

        def tokens() -> list[int]:
            passed()
            return back[:rows].tolist()

        return tokens
