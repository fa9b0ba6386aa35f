"""GLM-130B, written from its published facts.

Zeng et al. 2023, arXiv:2210.02414. Module and parameter names are those of the published checkpoint.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import Cache

from glmbot.models.causal_lm import GlmCausalLM, attend
from glmbot.models.glm130b.configuration import GLM130BConfig
from glmbot.models.positions import MaskPositions
from glmbot.models.prefix import PrefixedTransformer

__all__ = ["GLM130BForCausalLM", "alpha"]

_ROTARY_BASE = 10000.0

_Rotation = tuple[Tensor, Tensor]


def alpha(layers: int) -> float:
    """DeepNorm's factor of the residual (Wang et al. 2022, arXiv:2203.00555), of a decoder so deep."""
    return (2 * layers) ** 0.5


class GLM130BForCausalLM(GlmCausalLM):
    config_class = GLM130BConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    _no_split_modules: ClassVar[list[str]] = ["GLM130BBlock"]  # pyright: ignore[reportIncompatibleVariableOverride]
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"rotary_emb\.inv_freq"]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: GLM130BConfig) -> None:
        super().__init__(config)
        self.transformer = GLM130BTransformer(config)
        self.position_scheme = MaskPositions(
            config.sop_token_id,
            (config.mask_token_id, config.smask_token_id, config.gmask_token_id),
            counting=config.gmask_token_id,
        )
        self.post_init()

    def logits(self, hidden: Tensor) -> Tensor:
        transformer = cast(GLM130BTransformer, self.transformer)
        return nn.functional.linear(hidden, transformer.word_embeddings.weight)


class GLM130BTransformer(PrefixedTransformer):
    def __init__(self, config: GLM130BConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(GLM130BBlock(config, index) for index in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.layer_count = config.num_layers
        self.prefix_length = 0
        self._config = config
        self.register_buffer("inv_freq", _frequencies(config), persistent=False)

    def init_buffers(self) -> None:
        self.get_buffer("inv_freq").copy_(_frequencies(self._config))

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        mask: Tensor | None,
        cache: Cache | None,
        **kwargs: Any,
    ) -> Tensor:
        hidden: Tensor = self.word_embeddings(input_ids)
        cosines, sines = self.rotation(position_ids)
        # [batch, 1, tokens, head_dim / 2], beside all heads.
        rotation = cosines[:, None].to(hidden.dtype), sines[:, None].to(hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, rotation=rotation, mask=mask, cache=cache, **kwargs)
        return self.final_layernorm(hidden)

    def rotation(self, position_ids: Tensor) -> _Rotation:
        """position_ids: int64 […]. Returns cosines and sines float32 […, head_dim / 2].

        The published run rounds the angle itself to float16, which turns distant tokens by up to a radian: it is
        part of what the weights were trained with, and no mere rounding.
        """
        angles = position_ids[..., None] * self.get_buffer("inv_freq")
        if self._config.rotary_table == "float32":
            return angles.cos(), angles.sin()
        angles = angles.half().float()
        return angles.cos().half().float(), angles.sin().half().float()


def _frequencies(config: GLM130BConfig) -> Tensor:
    half = config.head_dim // 2
    exponents = torch.arange(half, dtype=torch.float32) / half
    # The published frequencies were rounded to float16.
    return (_ROTARY_BASE**-exponents).half().float()


class GLM130BBlock(nn.Module):
    def __init__(self, config: GLM130BConfig, index: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.attention = GLM130BAttention(config, index)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.mlp = GLM130BMLP(config)
        self._alpha = alpha(config.num_layers)

    def forward(self, hidden: Tensor, **kwargs: Any) -> Tensor:
        # The residual is the normalised input: the next block's first norm closes this block (post-LN).
        normed = self.input_layernorm(hidden)
        hidden = normed * self._alpha + self.attention(normed, **kwargs)
        normed = self.post_attention_layernorm(hidden)
        return normed * self._alpha + self.mlp(normed)


class GLM130BAttention(nn.Module):
    def __init__(self, config: GLM130BConfig, index: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = index
        self.is_causal = False
        self.head_dim = config.head_dim
        width = config.num_attention_heads * config.head_dim
        self.query_key_value = nn.Linear(config.hidden_size, 3 * width)
        self.dense = nn.Linear(width, config.hidden_size)

    def forward(
        self,
        hidden: Tensor,
        *,
        rotation: _Rotation,
        mask: Tensor | None,
        cache: Cache | None,
        **kwargs: Any,
    ) -> Tensor:
        # Query, key and value are beside each other inside each head.
        mixed = self.query_key_value(hidden).unflatten(-1, (-1, 3 * self.head_dim)).transpose(1, 2)
        query, key, value = mixed.split(self.head_dim, dim=-1)
        query, key = _rotate(query, rotation), _rotate(key, rotation)
        return self.dense(attend(self, query, key, value, mask, cache, **kwargs))


class GLM130BMLP(nn.Module):
    """GeGLU (Shazeer 2020, arXiv:2002.05202): the second half is the gated one."""

    def __init__(self, config: GLM130BConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 2 * config.inner_hidden_size)
        self.dense_4h_to_h = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        plain, gated = self.dense_h_to_4h(hidden).chunk(2, dim=-1)
        return self.dense_4h_to_h(plain * nn.functional.gelu(gated))


def _rotate(x: Tensor, rotation: _Rotation) -> Tensor:
    """x: [batch, heads, tokens, head_dim], its first half against its second."""
    cos, sin = rotation
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)
