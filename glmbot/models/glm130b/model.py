"""GLM-130B, written from its published facts.

Zeng et al. 2023, arXiv:2210.02414. Module and parameter names are those of the published checkpoint.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import Cache

from glmbot.models.causal_lm import GlmCausalLM
from glmbot.models.deep_norm import DeepNormBlock, Rotation
from glmbot.models.glm130b.configuration import GLM130BConfig
from glmbot.models.positions import MaskPositions
from glmbot.models.prefix import PrefixedTransformer

__all__ = ["GLM130BForCausalLM", "alpha"]

_ROTARY_BASE = 10000.0


def alpha(layers: int) -> float:
    """DeepNorm's factor of the residual (Wang et al. 2022, arXiv:2203.00555), of a decoder so deep."""
    return (2 * layers) ** 0.5


class GLM130BForCausalLM(GlmCausalLM):
    config_class = GLM130BConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    _no_split_modules: ClassVar[list[str]] = ["DeepNormBlock"]  # pyright: ignore[reportIncompatibleVariableOverride]
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
        depth = config.num_layers
        self.layers = nn.ModuleList(
            DeepNormBlock(config, index, rotate=_rotate, mlp=GLM130BMLP(config), alpha=alpha(depth))
            for index in range(depth)
        )
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

    def rotation(self, position_ids: Tensor) -> Rotation:
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


class GLM130BMLP(nn.Module):
    """GeGLU (Shazeer 2020, arXiv:2002.05202): the second half is the gated one."""

    def __init__(self, config: GLM130BConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 2 * config.inner_hidden_size)
        self.dense_4h_to_h = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        plain, gated = self.dense_h_to_4h(hidden).chunk(2, dim=-1)
        return self.dense_4h_to_h(plain * nn.functional.gelu(gated))


def _rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """x: [batch, heads, tokens, head_dim], its first half against its second."""
    cos, sin = rotation
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)
