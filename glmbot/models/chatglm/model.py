"""ChatGLM-6B (v1), written from its published facts.

GLM: Du et al. 2022, arXiv:2103.10360. Module and parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import Cache

from glmbot.models.causal_lm import GlmCausalLM
from glmbot.models.chatglm.configuration import ChatGLMConfig
from glmbot.models.deep_norm import DeepNormBlock, Rotation
from glmbot.models.positions import BlockPositions
from glmbot.models.prefix import PrefixedTransformer, PrefixEncoder

__all__ = ["ALPHA", "ChatGLMForCausalLM"]

# sqrt(2 · 28): the published block is never told how many layers there are, so this holds at every depth.
ALPHA = 56**0.5
_ROTARY_BASE = 10000.0


class ChatGLMForCausalLM(GlmCausalLM):
    config_class = ChatGLMConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    _no_split_modules: ClassVar[list[str]] = ["DeepNormBlock"]  # pyright: ignore[reportIncompatibleVariableOverride]
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"rotary_emb\.inv_freq"]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.transformer = ChatGLMTransformer(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.position_scheme = BlockPositions(
            cast(int, config.bos_token_id), (config.gmask_token_id, config.mask_token_id)
        )
        self.post_init()

    def logits(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)


class ChatGLMTransformer(PrefixedTransformer):
    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            DeepNormBlock(config, index, rotate=_rotate, mlp=ChatGLMMLP(config), alpha=ALPHA)
            for index in range(config.num_layers)
        )
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.layer_count = config.num_layers
        self.prefix_length = config.pre_seq_len or 0
        if self.prefix_length:
            self.prefix_encoder = PrefixEncoder(
                length=self.prefix_length,
                layers=config.num_layers,
                kv_heads=config.num_attention_heads,
                head_dim=config.head_dim,
                projection=(config.hidden_size, config.hidden_size) if config.prefix_projection else None,
            )
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
        rotation = self._rotation(position_ids, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, rotation=rotation, mask=mask, cache=cache, **kwargs)
        return self.final_layernorm(hidden)

    def _rotation(self, position_ids: Tensor, dtype: torch.dtype) -> Rotation:
        """position_ids: [batch, 2, tokens]. Returns cosines and sines [batch, 1, tokens, 2, head_dim / 4]."""
        angles = position_ids.transpose(1, 2)[:, None, :, :, None] * self.get_buffer("inv_freq")
        return angles.cos().to(dtype), angles.sin().to(dtype)


def _frequencies(config: ChatGLMConfig) -> Tensor:
    quarter = config.head_dim // 4
    exponents = torch.arange(quarter, dtype=torch.float32) / quarter
    # The published frequencies were rounded to float16.
    return (_ROTARY_BASE**-exponents).half().float()


class ChatGLMMLP(nn.Module):
    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.inner_hidden_size)
        self.dense_4h_to_h = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.dense_4h_to_h(nn.functional.gelu(self.dense_h_to_4h(hidden), approximate="tanh"))


def _rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """x: [batch, heads, tokens, head_dim]: two halves, for the two rows of positions, and in each half its
    first half against its second."""
    cos, sin = rotation
    low, high = x.unflatten(-1, (2, 2, -1)).unbind(-2)
    return torch.stack((low * cos - high * sin, high * cos + low * sin), dim=-2).flatten(-3)
