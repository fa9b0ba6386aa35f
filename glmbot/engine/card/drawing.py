"""Drawing the tokens of a whole step on the card, with nothing read by the host before they are drawn.

The rule is `sampling.sample`'s, and so are the numbers that decide: the same seed says the same tokens, except
where two sums of floats differ in their last bits. What can't be drawn here is said to be so; the host draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from glmbot.engine.card.buckets import SPARE
from glmbot.engine.card.fields import Fields
from glmbot.engine.sampling import WIDTHS, Draw, nucleus

__all__ = ["UNDRAWN", "CardDrawing", "Kind", "drawable", "kind_of"]

Kind = Literal["likeliest", "narrow", "wide"]
UNDRAWN = -2
"""In place of a token whose row needs more than the likeliest tokens that are looked at here."""
# With a nucleus of more weight than this it is likely wider than the first width.
_WIDE_ABOVE = 0.95


def drawable(draw: Draw) -> bool:
    """Whether the card knows all that a draw is to respect. A penalty falls on what the card has marked."""
    return draw.free and draw.sampling.logprobs is None


def kind_of(draws: Sequence[Draw], wide: bool = False) -> Kind:
    """The least work that serves them all. wide: one of them was undrawn before."""
    if all(draw.greedy for draw in draws):
        return "likeliest"
    for sampling in (draw.sampling for draw in draws if not draw.greedy):
        open_ended = not 0 < sampling.top_k <= WIDTHS[0] and not sampling.min_p
        wide = wide or (open_ended and sampling.top_p > _WIDE_ABOVE)
    return "wide" if wide else "narrow"


class CardDrawing:
    """`draw` reads and writes only memory that it has from the beginning; what is as large as a vocabulary is
    never allocated anew."""

    def __init__(
        self, fields: Fields, vocabulary: int, device: torch.device, *, pinned: bool = False
    ) -> None:
        """pinned: as `Fields` has it."""
        self._pinned = pinned
        self._fields = fields
        self._vocabulary = vocabulary
        self.spare_slot = SPARE
        self.seen = torch.zeros(SPARE + 1, vocabulary, dtype=torch.bool, device=device)
        self.drawn = torch.zeros(SPARE, dtype=torch.int64, device=device)
        """Token ids; -1 where logits hold NaN or +infinity, or UNDRAWN."""
        self.next = torch.zeros(SPARE, dtype=torch.int64, device=device)
        """The same, with 0 for what is no token: what the next step may read."""
        self._scores = torch.empty(SPARE, vocabulary, device=device)
        self._other = torch.empty(SPARE, vocabulary, device=device)
        self._flags = torch.empty(SPARE, vocabulary, dtype=torch.bool, device=device)

    def mark(self, slot: int, tokens: Sequence[int], *, anew: bool) -> None:
        """Before a step: what the host knows of a sequence and the card does not."""
        if anew:
            self.seen[slot].zero_()
        if tokens:
            device = self.seen.device
            ids = torch.tensor(tokens, pin_memory=self._pinned).to(device, non_blocking=True)
            self.seen[slot].index_fill_(0, ids, True)

    def draw(self, kind: Kind, logits: Tensor) -> None:
        """logits: float32 [rows, vocabulary], left as they are."""
        rows = logits.shape[0]
        scores = self._penalised(logits)
        sound = torch.lt(torch.amax(logits, -1), float("inf"))
        best = torch.argmax(scores, -1)
        if kind != "likeliest":
            best = self._spread(kind, scores, best)
        drawn, following = self.drawn[:rows], self.next[:rows]
        drawn.copy_(torch.where(sound, best, -1))
        torch.clamp(drawn, min=0, out=following)
        slot = torch.where(drawn >= 0, self._fields["slot"][:rows].long(), self.spare_slot)
        self.seen.index_put_((slot, following), torch.ones_like(sound))

    def _penalised(self, logits: Tensor) -> Tensor:
        rows = logits.shape[0]
        penalty = self._fields["penalty"][:rows, None]
        marked, scores, other = self._flags[:rows], self._scores[:rows], self._other[:rows]
        torch.mul(logits, penalty, out=scores)
        torch.div(logits, penalty, out=other)
        torch.lt(logits, 0.0, out=marked)
        torch.where(marked, scores, other, out=scores)
        torch.index_select(self.seen, 0, self._fields["slot"][:rows], out=marked)
        return torch.where(marked, scores, logits, out=scores)

    def _spread(self, kind: Kind, scores: Tensor, best: Tensor) -> Tensor:
        fields, rows = self._fields, scores.shape[0]
        other = self._other[:rows]
        torch.div(scores, fields["temperature"][:rows, None], out=scores)
        largest = torch.amax(scores, -1, keepdim=True)
        torch.sub(scores, largest, out=other)
        mass = torch.exp(other, out=other).sum(-1).log() + largest[:, 0]
        width = WIDTHS[0] if kind == "narrow" else WIDTHS[-1]
        ids, enough = nucleus(
            scores,
            min(width, self._vocabulary),
            fields["top_p"][:rows],
            fields["top_k"][:rows].long(),
            fields["min_p"][:rows],
            fields["uniform"][:rows],
            mass,
            open_ended=True,
        )
        cold = fields["greedy"][:rows] != 0
        return torch.where(cold, best, torch.where(enough, ids, UNDRAWN))
