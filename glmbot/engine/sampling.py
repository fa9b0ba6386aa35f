"""Drawing the next token of every sequence of a batch at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

import numpy as np
import torch
from torch import Tensor

from glmbot.engine.base import Sampling

__all__ = ["WIDTHS", "Draw", "Mask", "nucleus", "sample"]

WIDTHS = (256, 4096)
"""Sorting a whole vocabulary costs more than the model's own step; most nuclei lie within the first of these many
tokens, and nearly all within the second."""
# Below this a draw is the likeliest token anyway, and the quotient could leave float32.
_GREEDY_BELOW = 1e-5
_Change = tuple[Collection[int], Iterable[float]]
"""Tokens of a row, and a number for each."""


@dataclass(frozen=True, slots=True)
class Mask:
    """What may be drawn, by the ids (int64) of the fewer: those that are allowed, or those that are not.

    To look at whole rows of a vocabulary takes longer than all else that a form asks.
    """

    ids: Tensor
    allowed: bool


@dataclass(frozen=True, slots=True)
class Draw:
    """One row's part: its settings, the tokens that a repetition penalty falls on, a number in [0, 1), and how
    often the answer has `said` each token, for the presence and frequency penalties. mask: None allows whatever
    there is.
    """

    sampling: Sampling
    seen: Collection[int]
    uniform: float
    said: Mapping[int, int] = field(default_factory=dict[int, int])
    mask: Mask | None = None

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is drawn."""
        return self.sampling.temperature < _GREEDY_BELOW

    @property
    def penalised(self) -> bool:
        """Whether a repetition penalty falls on it."""
        return self.sampling.repetition_penalty != 1.0

    @property
    def free(self) -> bool:
        """Whether nothing but a repetition penalty changes what the model says."""
        sampling = self.sampling
        biased = sampling.logit_bias or sampling.presence_penalty or sampling.frequency_penalty
        return self.mask is None and not biased


def sample(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Draw one token id per row.

    logits: [rows, vocabulary], any float dtype; rows that have a mask may be overwritten. Returns
    int64 [rows]; -1 in a row whose logits hold NaN or +infinity, so that the fault is reported for that sequence
    alone.

    First the bias, then the repetition penalty of CTRL (Keskar et al. 2019, arXiv:1909.05858), then OpenAI's
    frequency and presence penalties, in the order of vLLM (vllm/v1/sample/sampler.py). Then temperature, top-k,
    nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751), and min-p (Nguyen et al. 2024, arXiv:2407.01082), in
    the order of Transformers' generate.
    The draw inverts the cumulative distribution, so one uniform number a row decides it whatever the batch.
    """
    logits = logits.float()
    if logits.device.type == "cpu" and all(
        draw.greedy and draw.free and not draw.penalised for draw in draws
    ):
        return _likeliest(logits)
    # The largest of a row is NaN where any is.
    largest = logits.amax(-1)
    faulty = torch.isnan(largest) | (largest == float("inf"))
    logits = _said(_seen(_biased(_masked(logits, draws), draws), draws), draws)
    chosen = torch.empty(len(draws), dtype=torch.int64, device=logits.device)
    greedy = [draw.greedy for draw in draws]
    for how, want in ((_greedy, True), (_draw, False)):
        rows = [row for row, is_greedy in enumerate(greedy) if is_greedy is want]
        if len(rows) == len(draws):
            chosen = how(logits, draws)
        elif rows:
            index = torch.tensor(rows, device=logits.device)
            chosen[index] = how(logits[index], [draws[row] for row in rows])
    return torch.where(faulty, -1, chosen)


def _likeliest(logits: Tensor) -> Tensor:
    """The likeliest token of each row, or -1 as `sample` has it. To numpy a NaN is the greatest number."""
    rows = logits.numpy()
    tokens = rows.argmax(-1)
    largest = rows[np.arange(len(rows)), tokens]
    return torch.from_numpy(np.where(largest < np.inf, tokens, -1))


def _greedy(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    del draws
    if logits.device.type == "cpu":
        # In a tenth of torch's time.
        return torch.from_numpy(logits.numpy().argmax(-1))
    return logits.argmax(-1)


def _masked(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """In place."""
    for row, mask in enumerate(draw.mask for draw in draws):
        if mask is None:
            continue
        scores, ids = logits[row], mask.ids.to(logits.device)
        if mask.allowed:
            kept = scores[ids]
            scores.fill_(float("-inf")).index_copy_(0, ids, kept)
        else:
            scores.index_fill_(0, ids, float("-inf"))
    return logits


def _biased(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    changes = [
        ([token for token, _ in draw.sampling.logit_bias], [bias for _, bias in draw.sampling.logit_bias])
        for draw in draws
    ]
    return _changed(logits, changes, lambda scores, biases: scores + biases)


def _seen(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    penalties = [draw.sampling.repetition_penalty for draw in draws]
    changes = [
        (draw.seen if penalty != 1.0 else (), repeat(penalty, len(draw.seen) if penalty != 1.0 else 0))
        for draw, penalty in zip(draws, penalties, strict=True)
    ]
    return _changed(
        logits,
        changes,
        lambda scores, penalty: torch.where(scores < 0, scores * penalty, scores / penalty),
    )


def _said(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    changes: list[_Change] = []
    for draw in draws:
        presence, frequency = draw.sampling.presence_penalty, draw.sampling.frequency_penalty
        if presence or frequency:
            changes.append((draw.said, [presence + frequency * count for count in draw.said.values()]))
        else:
            changes.append(((), ()))
    return _changed(logits, changes, lambda scores, penalties: scores - penalties)


def _changed(
    logits: Tensor, changes: Sequence[_Change], change: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """For all rows at once: the tokens of each that are to change, laid end to end, are gathered, changed by their
    numbers and put back."""
    counts = [len(tokens) for tokens, _ in changes]
    if not any(counts):
        return logits
    device = logits.device
    row = torch.arange(len(changes), device=device).repeat_interleave(torch.tensor(counts, device=device))
    # Straight from what holds them: a list takes longer to make than all that comes after it.
    tokens = np.fromiter(chain.from_iterable(tokens for tokens, _ in changes), np.int64, sum(counts))
    column = torch.from_numpy(tokens).to(device)
    each = np.fromiter(chain.from_iterable(each for _, each in changes), np.float32, sum(counts))
    numbers = torch.from_numpy(each).to(device)
    return logits.index_put((row, column), change(logits[row, column], numbers))


def _draw(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    device = logits.device
    temperature = torch.tensor([draw.sampling.temperature for draw in draws], device=device)
    top_p = torch.tensor([draw.sampling.top_p for draw in draws], device=device)
    vocabulary = logits.shape[-1]
    wanted = [min(draw.sampling.top_k or vocabulary, vocabulary) for draw in draws]
    top_k = torch.tensor(wanted, device=device)
    uniform = torch.tensor([draw.uniform for draw in draws], device=device)
    # The logarithm of 0, which is off, is -infinity.
    min_p = torch.tensor([draw.sampling.min_p for draw in draws], device=device).log()

    scaled = logits / temperature[:, None]
    mass = None if max(wanted) < vocabulary else scaled.logsumexp(-1)
    chosen = torch.empty(len(draws), dtype=torch.int64, device=device)
    rows = torch.arange(len(draws), device=device)
    for width in (*WIDTHS, vocabulary):
        ids, enough = nucleus(
            scaled[rows],
            min(width, vocabulary),
            top_p[rows],
            top_k[rows],
            min_p[rows],
            uniform[rows],
            None if mass is None else mass[rows],
        )
        chosen[rows] = ids
        rows = rows[~enough]
        if not len(rows):
            break
    return chosen


def nucleus(
    scaled: Tensor,
    width: int,
    top_p: Tensor,
    top_k: Tensor,
    min_p: Tensor,
    uniform: Tensor,
    mass: Tensor | None,
    *,
    open_ended: bool = False,
) -> tuple[Tensor, Tensor]:
    """Draw among the `width` likeliest tokens. Returns ids, and of each row whether its nucleus is no wider.

    min_p: its logarithm. mass: the logarithm of all tokens' weights together; needed by the rows without top-k.
    open_ended: of a row whose nucleus is the whole vocabulary, a draw that falls among these counts too; with this
    nothing is read by the host.
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
    least = values[:, :1] + min_p[:, None]
    enough = torch.where(limited, whole, (cumulative[:, -1] >= top_p) | (values[:, -1:] < least)[:, 0])
    enough |= width == scaled.shape[-1]
    # A token stays while the mass in front of it is below top_p; the first always stays.
    # One that can't come never does, for none of the roundings above.
    possible = (values >= least) & (probabilities > 0)
    kept = (cumulative - probabilities < top_p[:, None]) & possible | (rank == 0)
    cumulative = (probabilities * kept).cumsum(-1)
    target = uniform[:, None] * cumulative[:, -1:]
    if open_ended:
        falls_here = (uniform < cumulative[:, -1]) & (top_p >= 1.0) & ~limited & (min_p == float("-inf"))
        target = torch.where(falls_here[:, None], uniform[:, None], target)
        enough |= falls_here
    drawn = torch.searchsorted(cumulative, target, right=True)
    last_kept = kept.sum(-1, keepdim=True) - 1
    return ids.gather(-1, torch.minimum(drawn, last_kept)).squeeze(-1), enough
