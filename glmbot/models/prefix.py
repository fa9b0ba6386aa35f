"""P-Tuning v2: learned keys and values in front of every layer's own (Liu et al. 2022, arXiv:2110.07602).

Published checkpoints call this part `prefix_encoder`. Its keys stand outside the rotary positions, so the
positions of the text do not change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from transformers import Cache

__all__ = ["PrefixEncoder", "PrefixedTransformer"]


class PrefixEncoder(nn.Module):
    """`length` virtual tokens; `width` is layers · 2 · kv_heads · head_dim.

    With projection an embedding of `embedded` goes through two linears, `hidden` wide between them.
    """

    def __init__(
        self, *, length: int, layers: int, kv_heads: int, head_dim: int, projection: tuple[int, int] | None
    ) -> None:
        super().__init__()
        self._shape = (length, 2 * layers, kv_heads, head_dim)
        width = 2 * layers * kv_heads * head_dim
        embedded, hidden = projection or (width, width)
        self.embedding = nn.Embedding(length, embedded)
        if projection is not None:
            self.trans = nn.Sequential(nn.Linear(embedded, hidden), nn.Tanh(), nn.Linear(hidden, width))

    def keys_and_values(self) -> Tensor:
        """float [2 · layers, kv_heads, length, head_dim]: layer 0's keys, its values, layer 1's keys, …"""
        prefix: Tensor = self.embedding.weight
        if hasattr(self, "trans"):
            prefix = cast(Callable[[Tensor], Tensor], self.trans)(prefix)
        return prefix.view(self._shape).permute(1, 2, 0, 3)

    @torch.no_grad()
    def of_layer(self, layer: int, batch: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer for a batch: each [batch, kv_heads, length, head_dim]."""
        both = self.keys_and_values()[2 * layer : 2 * layer + 2]
        keys, values = both[:, None].expand(-1, batch, -1, -1, -1)
        return keys, values


class PrefixedTransformer(nn.Module):
    """A transformer whose KV cache may begin with a prefix."""

    prefix_encoder: PrefixEncoder
    prefix_length: int
    """0 without P-Tuning; `prefix_encoder` is there only otherwise."""
    layer_count: int

    def init_buffers(self) -> None:
        """Give the buffers, which no checkpoint holds, their values."""
        raise NotImplementedError

    def seed(self, cache: Cache, batch: int) -> int:
        """Put the prefix into an empty cache. Returns how many tokens of text are in it."""
        if self.prefix_length and cache.get_seq_length() == 0:
            for layer in range(self.layer_count):
                cache.update(*self.prefix_encoder.of_layer(layer, batch), layer)
        return self.text_length(cache)

    def text_length(self, cache: Cache | None) -> int:
        return max(0, cache.get_seq_length() - self.prefix_length) if cache is not None else 0
