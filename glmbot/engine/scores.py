"""How likely tokens are, read off the logits that they are drawn from, or that precede them in a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glmbot.engine.sampling import Draw, sample
from glmbot.engine.scheduler import Chunk
from glmbot.engine.score import Score
from glmbot.errors import NumericalFault

__all__ = ["Drawn", "draw", "most_rows", "score_prompts"]

Drawn = tuple[int, Score | None]

# Bytes of the logits of one step's prompts that are scored; a prompt is computed in as many steps as that takes.
_LOGITS = 64 * 2**20
# JSON has no infinity; this is what OpenAI's service and vLLM say for it.
_NEVER = -9999.0


def most_rows(vocabulary: int) -> int:
    """Tokens of prompts that can be scored in one step."""
    return max(1, _LOGITS // (4 * vocabulary))


@torch.inference_mode()
def draw(logits: Tensor, draws: Sequence[Draw]) -> list[Drawn]:
    """See `sample`; with the scores of those that are wanted."""
    scored = [row for row, each in enumerate(draws) if each.sampling.logprobs is not None]
    # Before `sample` strikes out what a form forbids.
    own = logits[torch.tensor(scored, device=logits.device)] if scored else logits
    tokens: list[int] = sample(logits, draws).tolist()
    scores: list[Score | None] = [None] * len(draws)
    places = [place for place, row in enumerate(scored) if tokens[row] >= 0]
    if places:
        rows = [scored[place] for place in places]
        wanted = [draws[row].sampling.logprobs or 0 for row in rows]
        chosen = own if len(rows) == len(scored) else own[torch.tensor(places, device=logits.device)]
        for row, score in zip(rows, _scored(chosen, [tokens[row] for row in rows], wanted), strict=True):
            scores[row] = score
    return list(zip(tokens, scores, strict=True))


def score_prompts(chunks: Sequence[Chunk], logits: Tensor) -> tuple[dict[int, list[Score]], Tensor]:
    """The scores of each sequence's prompt as far as these chunks hold it, and the rows that are drawn from.

    logits: those of `ModelRunner.step`. Raises NumericalFault.
    """
    if not any(chunk.scores for chunk in chunks):
        return {}, logits
    found: dict[int, list[Score]] = {}
    drawn: list[int] = []
    row = 0
    for chunk in chunks:
        if chunk.scores:
            found[chunk.sequence.id] = _of_prompt(chunk, logits[row : row + chunk.length])
            drawn += [row + chunk.length - 1] if chunk.draws else []
        else:
            drawn += range(row, row + chunk.rows)
        row += chunk.rows
    return found, logits[torch.tensor(drawn, dtype=torch.int64, device=logits.device)]


def _of_prompt(chunk: Chunk, logits: Tensor) -> list[Score]:
    """Each row says how likely the token behind it is; nothing does of the first."""
    sequence = chunk.sequence
    start = sequence.computed
    behind = sequence.tokens[start + 1 : start + 1 + chunk.length]
    first = [Score(sequence.tokens[0], None)] if start == 0 else []
    most = sequence.sampling.prompt_logprobs or 0
    return [*first, *_scored(logits[: len(behind)], behind, [most] * len(behind))]


def _scored(logits: Tensor, tokens: Sequence[int], most: Sequence[int]) -> list[Score]:
    """logits: [rows, vocabulary]. most: of each row, how many of the likeliest are wanted."""
    if not tokens:
        return []
    logits = logits.float()
    total = logits.logsumexp(-1, keepdim=True)
    if not bool(torch.isfinite(total).all()):
        raise NumericalFault("the model computed NaN or infinity for this prompt")
    ids = torch.tensor([tokens], device=logits.device).T
    own: list[float] = (logits.gather(-1, ids) - total).clamp(min=_NEVER)[:, 0].tolist()
    values, likeliest = torch.topk(logits, min(max(most), logits.shape[-1]), dim=-1)
    tops: list[list[float]] = (values - total).clamp(min=_NEVER).tolist()
    names: list[list[int]] = likeliest.tolist()
    return [
        Score(token, logprob, tuple(zip(name[:count], top[:count], strict=True)))
        for token, logprob, name, top, count in zip(tokens, own, names, tops, most, strict=True)
    ]
