"""Drawing the next token of every sequence of a batch at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glmbot.engine.base import Sampling

__all__ = ["Draw", "sample"]

# Sorting a whole vocabulary costs more than the model's own step; most nuclei lie within the first of these many
# tokens, and nearly all within the second.
_WIDTHS = (256, 4096)
# Below this a draw is the likeliest token anyway, and the quotient could leave float32.
_GREEDY_BELOW = 1e-5


@dataclass(frozen=True, slots=True)
class Draw:
    """One row's part: its settings, the tokens that a repetition penalty falls on, and a number in [0, 1)."""

    sampling: Sampling
    seen: Collection[int]
    uniform: float


def sample(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Draw one token id per row.

    logits: [rows, vocabulary], any float dtype. Returns int64 [rows]; -1 in a row whose logits hold NaN or
    +infinity, so that the fault is reported for that sequence alone.

    Repetition penalty as in CTRL (Keskar et al. 2019, arXiv:1909.05858), then temperature, top-k, and
    nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751), in the order of Transformers' generate.
    The draw inverts the cumulative distribution, so one uniform number a row decides it whatever the batch.
    """
    logits = logits.float()
    # The largest of a row is NaN where any is.
    largest = logits.amax(-1)
    faulty = torch.isnan(largest) | (largest == float("inf"))
    logits = _penalise(logits, draws)
    chosen = torch.empty(len(draws), dtype=torch.int64, device=logits.device)
    greedy = [draw.sampling.temperature < _GREEDY_BELOW for draw in draws]
    for how, want in ((_greedy, True), (_draw, False)):
        rows = [row for row, is_greedy in enumerate(greedy) if is_greedy is want]
        if len(rows) == len(draws):
            chosen = how(logits, draws)
        elif rows:
            index = torch.tensor(rows, device=logits.device)
            chosen[index] = how(logits[index], [draws[row] for row in rows])
    return torch.where(faulty, -1, chosen)


def _greedy(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    del draws
    return logits.argmax(-1)


def _penalise(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """For all rows at once: the seen tokens of each, laid end to end, are gathered, scaled and put back."""
    rows = [row for row, draw in enumerate(draws) if draw.sampling.repetition_penalty != 1.0 and draw.seen]
    if not rows:
        return logits
    device = logits.device
    counts = torch.tensor([len(draws[row].seen) for row in rows], device=device)
    row = torch.tensor(rows, device=device).repeat_interleave(counts)
    column = torch.tensor([token for row in rows for token in draws[row].seen], device=device)
    penalties = torch.tensor([draws[row].sampling.repetition_penalty for row in rows], device=device)
    penalty = penalties.repeat_interleave(counts)
    scores = logits[row, column]
    return logits.index_put((row, column), torch.where(scores < 0, scores * penalty, scores / penalty))


def _draw(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    device = logits.device
    temperature = torch.tensor([draw.sampling.temperature for draw in draws], device=device)
    top_p = torch.tensor([draw.sampling.top_p for draw in draws], device=device)
    vocabulary = logits.shape[-1]
    wanted = [min(draw.sampling.top_k or vocabulary, vocabulary) for draw in draws]
    top_k = torch.tensor(wanted, device=device)
    uniform = torch.tensor([draw.uniform for draw in draws], device=device)

    scaled = logits / temperature[:, None]
    mass = None if max(wanted) < vocabulary else scaled.logsumexp(-1)
    chosen = torch.empty(len(draws), dtype=torch.int64, device=device)
    rows = torch.arange(len(draws), device=device)
    for width in (*_WIDTHS, vocabulary):
        ids, enough = _nucleus(
            scaled[rows],
            min(width, vocabulary),
            top_p[rows],
            top_k[rows],
            uniform[rows],
            None if mass is None else mass[rows],
        )
        chosen[rows] = ids
        rows = rows[~enough]
        if not len(rows):
            break
    return chosen


def _nucleus(
    scaled: Tensor, width: int, top_p: Tensor, top_k: Tensor, uniform: Tensor, mass: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Draw among the `width` likeliest tokens. Returns ids, and of each row whether its nucleus is no wider.

    mass: the logarithm of all tokens' weights together; needed by the rows without top-k.
    """
    values, ids = torch.topk(scaled, width, dim=-1)
    rank = torch.arange(width, device=scaled.device)
    limited = top_k < scaled.shape[-1]
    # What ties with the last of the top-k stays too.
    last = values.gather(-1, top_k.clamp(max=width)[:, None] - 1)
    whole = last[:, 0] > values[:, -1]
    values = values.masked_fill(values < last, float("-inf"))
    # Mass is counted among the top-k where there is one, and else among the whole vocabulary.
    total = values.logsumexp(-1)
    if mass is not None:
        total = torch.where(limited, total, mass)
    probabilities = torch.exp(values - total[:, None])
    cumulative = probabilities.cumsum(-1)
    enough = torch.where(limited, whole, cumulative[:, -1] >= top_p)
    enough |= width == scaled.shape[-1]
    # A token stays while the mass in front of it is below top_p; the first always stays.
    kept = (cumulative - probabilities < top_p[:, None]) | (rank == 0)
    cumulative = (probabilities * kept).cumsum(-1)
    target = uniform[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, target, right=True)
    last_kept = kept.sum(-1, keepdim=True) - 1
    return ids.gather(-1, torch.minimum(drawn, last_kept)).squeeze(-1), enough
