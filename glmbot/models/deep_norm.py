"""The block of ChatGLM-6B and GLM-130B: DeepNorm, and heads that each hold their query, key and value.

Wang et al. 2022, arXiv:2203.00555. Module names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import Cache

from glmbot.models.causal_lm import attend

__all__ = ["DeepNormBlock", "Rotation"]

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines."""


class _Config(Protocol):
    hidden_size: int
    num_attention_heads: int
    head_dim: int
    layernorm_epsilon: float


class DeepNormBlock(nn.Module):
    """The residual is the normalised input, scaled: the next block's first norm closes this block (post-LN)."""

    def __init__(
        self,
        config: _Config,
        index: int,
        *,
        rotate: Callable[[Tensor, Rotation], Tensor],
        mlp: nn.Module,
        alpha: float,
    ) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.attention = _Attention(config, index, rotate)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.mlp = mlp
        self._alpha = alpha

    def forward(self, hidden: Tensor, **kwargs: Any) -> Tensor:
        normed = self.input_layernorm(hidden)
        hidden = normed * self._alpha + self.attention(normed, **kwargs)
        normed = self.post_attention_layernorm(hidden)
        return normed * self._alpha + self.mlp(normed)


class _Attention(nn.Module):
    def __init__(self, config: _Config, index: int, rotate: Callable[[Tensor, Rotation], Tensor]) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = index
        self.is_causal = False
        self.head_dim = config.head_dim
        self._rotate = rotate
        width = config.num_attention_heads * config.head_dim
        self.query_key_value = nn.Linear(config.hidden_size, 3 * width)
        self.dense = nn.Linear(width, config.hidden_size)

    def forward(
        self, hidden: Tensor, *, rotation: Rotation, mask: Tensor | None, cache: Cache | None, **kwargs: Any
    ) -> Tensor:
        # Query, key and value are beside each other inside each head; a process may have some of the heads.
        mixed = self.query_key_value(hidden).unflatten(-1, (-1, 3 * self.head_dim)).transpose(1, 2)
        query, key, value = mixed.split(self.head_dim, dim=-1)
        query, key = self._rotate(query, rotation), self._rotate(key, rotation)
        return self.dense(attend(self, query, key, value, mask, cache, **kwargs))
