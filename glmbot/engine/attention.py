"""Attention of a step whose tokens belong to many sequences, over the arena, for Transformers' models.

A step's tokens are laid end to end as one row [1, tokens], so every linear layer runs once for all of them
and nothing is padded. Only attention knows where one sequence ends: the model calls `attend` through
Transformers' attention interface, and `StepLayout` says which tokens are whose.
https://huggingface.co/docs/transformers/attention_interface
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from glmbot.engine.kv_cache import Arena
from glmbot.engine.mask_kinds import Window, window_of

__all__ = ["ATTENTION_NAME", "Segment", "StepLayout", "register_attention"]

ATTENTION_NAME = "glmbot_arena"
# What models hand on beside, which the layout says already or which concerns only what is returned.
_WITHOUT_EFFECT = frozenset({
    "cache_position", "cu_seq_lens_k", "cu_seq_lens_q", "dropout", "is_causal", "logits_to_keep", "max_length_k",
    "max_length_q", "num_items_in_batch", "output_attentions", "output_hidden_states", "output_router_logits",
    "past_key_values", "position_embeddings", "position_ids", "return_dict", "use_cache",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Segment:
    """The tokens of one sequence in a step: `length` new ones after `cached` entries at `start` in the arena."""

    first: int
    length: int
    start: int
    cached: int
    causal: bool = True


@dataclass(frozen=True, slots=True)
class StepLayout:
    arena: Arena
    segments: tuple[Segment, ...]
    places: Tensor
    """int64 [tokens]: where each new token's key and value go in the arena."""


def register_attention() -> None:
    """Make ATTENTION_NAME known to Transformers. Models see no mask, or its window: the layout takes its place."""
    AttentionInterface.register(ATTENTION_NAME, attend)
    AttentionMaskInterface.register(ATTENTION_NAME, window_of)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | Window | None,
    *,
    layout: StepLayout | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """query: [1, heads, tokens, head_dim]; key, value: [1, kv_heads, tokens, head_dim].

    Returns [1, tokens, heads, head_dim] and no weights. Raises NotImplementedError for an argument that would
    change the result and is not known here.
    """
    window: Window | None = None
    if sliding_window is not None:
        window = Window(sliding_window, chunked=False)
    if isinstance(attention_mask, Window):
        window, attention_mask = attention_mask, None
    _refuse_unknown(attention_mask, others)
    if layout is None:
        raise NotImplementedError("its layers do not hand on whose tokens are whose")
    layer = int(module.layer_idx)  # pyright: ignore[reportArgumentType]
    arena = layout.arena
    arena.write(layer, layout.places, key[0], value[0])
    heads, tokens, _head_dim = query.shape[1:]
    out = query.new_empty(1, tokens, heads, value.shape[-1])
    for segment in layout.segments:
        end = segment.start + segment.cached + segment.length
        keys = arena.keys[layer][:, segment.start : end]
        values = arena.values[layer][:, segment.start : end]
        new = slice(segment.first, segment.first + segment.length)
        mixed = _attend_one(query[0, :, new], keys, values, segment, scaling, window, softcap)
        out[0, new] = mixed.transpose(0, 1)
    return out, None


def _refuse_unknown(mask: Tensor | None, others: Mapping[str, Any]) -> None:
    unknown = [name for name, value in others.items() if name not in _WITHOUT_EFFECT and value is not None]
    if mask is not None:
        unknown.append("attention_mask")
    if others.get("dropout"):
        unknown.append("dropout")
    if unknown:
        raise NotImplementedError(
            f"its attention takes {', '.join(sorted(unknown))}, which glmbot's does not know"
        )


def _attend_one(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    segment: Segment,
    scaling: float | None,
    window: Window | None,
    softcap: float | None,
) -> Tensor:
    """query: [heads, length, head_dim]; keys, values: [kv_heads, cached + length, head_dim]."""
    heads, length, head_dim = query.shape
    total = keys.shape[1]
    if window is not None and total <= window.size:
        window = None
    if length == 1 and not softcap:
        if window is not None:
            first = (total - 1) // window.size * window.size if window.chunked else total - window.size
            keys, values = keys[:, first:], values[:, first:]
        # The query heads of one group become rows of one product over their shared keys.
        grouped = query.reshape(1, keys.shape[0], heads // keys.shape[0], head_dim)
        mixed = nn.functional.scaled_dot_product_attention(grouped, keys[None], values[None], scale=scaling)
        return mixed.reshape(heads, 1, -1)
    mask: Tensor | None = None
    whole = segment.cached == 0 and segment.causal
    if segment.causal and (not whole or window or softcap):
        row = torch.arange(segment.cached, total, device=query.device)[:, None]
        column = torch.arange(total, device=query.device)[None, :]
        mask = column <= row
        if window is not None:
            size = window.size
            mask &= column // size == row // size if window.chunked else column > row - size
    if softcap:
        return _attend_capped(query, keys, values, mask, scaling, softcap)
    mixed = nn.functional.scaled_dot_product_attention(
        query[None],
        keys[None],
        values[None],
        attn_mask=mask,
        is_causal=segment.causal and mask is None,
        scale=scaling,
        enable_gqa=heads != keys.shape[0],
    )
    return mixed[0]


def _attend_capped(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float | None, softcap: float
) -> Tensor:
    """Scores squeezed by tanh before the softmax, as Gemma 2 has them (arXiv:2408.00118, section 2)."""
    group = query.shape[0] // keys.shape[0]
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    scores = query @ keys.repeat_interleave(group, 0).transpose(1, 2) * scale
    scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
    return weights @ values.repeat_interleave(group, 0)
