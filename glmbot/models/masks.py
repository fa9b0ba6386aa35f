"""The attention mask of a padded batch, for running our models outside the shared engine."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["padded_mask"]


def padded_mask(
    attention_mask: Tensor | None, *, batch: int, new: int, past: int, prefix: int, context_end: Tensor | None
) -> Tensor:
    """Which key each new token may see.

    attention_mask: int [batch, past + new], 0 where a token is padding (at either side), or None; `prefix`
    keys in front are seen by all. context_end: int64 [batch], the column before which everything is seen in
    both directions, or None. Returns bool [batch, 1, new, prefix + past + new].
    """
    device = attention_mask.device if attention_mask is not None else None
    if context_end is not None:
        device = context_end.device
    column = torch.arange(past + new, device=device)
    row = torch.arange(past, past + new, device=device)
    seen = (column <= row[:, None]).expand(batch, new, past + new)
    if context_end is not None:
        seen = seen | (column < context_end[:, None, None])
    if attention_mask is not None:
        # A padding token still sees itself, lest its softmax has nothing to sum over.
        seen = (seen & attention_mask[:, None, -past - new :].bool()) | (column == row[:, None])
    ahead = torch.ones(batch, new, prefix, dtype=torch.bool, device=device)
    return torch.cat((ahead, seen), dim=2)[:, None]
