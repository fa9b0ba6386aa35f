"""ChatGLM2-6B and ChatGLM3-6B, written from their published facts.

Module and parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import Cache

from glmbot.models.causal_lm import GlmCausalLM, attend
from glmbot.models.chatglm2.configuration import ChatGLM2Config
from glmbot.models.positions import CausalPositions
from glmbot.models.prefix import PrefixedTransformer, PrefixEncoder

__all__ = ["ChatGLM2ForCausalLM"]

_ROTARY_BASE = 10000.0

_Rotation = tuple[Tensor, Tensor]


class ChatGLM2ForCausalLM(GlmCausalLM):
    config_class = ChatGLM2Config  # pyright: ignore[reportIncompatibleVariableOverride]
    _no_split_modules: ClassVar[list[str]] = ["ChatGLM2Block"]  # pyright: ignore[reportIncompatibleVariableOverride]
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"rotary_pos_emb\.inv_freq"]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__(config)
        self.transformer = ChatGLM2Transformer(config)
        self.position_scheme = CausalPositions()
        self.post_init()

    def logits(self, hidden: Tensor) -> Tensor:
        return cast(ChatGLM2Transformer, self.transformer).output_layer(hidden)


class ChatGLM2Transformer(PrefixedTransformer):
    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__()
        self.embedding = ChatGLM2Embedding(config)
        self.encoder = ChatGLM2Encoder(config)
        self.output_layer = nn.Linear(config.hidden_size, config.padded_vocab_size, bias=False)
        self.layer_count = config.num_layers
        self.prefix_length = config.pre_seq_len or 0
        if self.prefix_length:
            width = 2 * config.num_layers * config.num_key_value_heads * config.kv_channels
            self.prefix_encoder = PrefixEncoder(
                length=self.prefix_length,
                layers=config.num_layers,
                kv_heads=config.num_key_value_heads,
                head_dim=config.kv_channels,
                projection=(width, config.hidden_size) if config.prefix_projection else None,
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
        hidden = self.embedding(input_ids)
        angles = position_ids[:, None, :, None] * self.get_buffer("inv_freq")
        rotation = angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)
        return self.encoder(hidden, rotation=rotation, mask=mask, cache=cache, **kwargs)


def _frequencies(config: ChatGLM2Config) -> Tensor:
    half = config.kv_channels // 2
    exponents = torch.arange(0, half, 2, dtype=torch.float32) / half
    if config.chat_format == "chatglm2":
        # ChatGLM2-6B-32K divides positions by the ratio; later releases multiply the base by it.
        return _ROTARY_BASE**-exponents / config.rope_ratio
    return (_ROTARY_BASE * config.rope_ratio) ** -exponents


class ChatGLM2Embedding(nn.Module):
    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.padded_vocab_size, config.hidden_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.word_embeddings(input_ids)


class ChatGLM2Encoder(nn.Module):
    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ChatGLM2Block(config, index) for index in range(config.num_layers))
        if config.post_layer_norm:
            self.final_layernorm = _norm(config)

    def forward(self, hidden: Tensor, **kwargs: Any) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden, **kwargs)
        return self.final_layernorm(hidden) if hasattr(self, "final_layernorm") else hidden


class ChatGLM2Block(nn.Module):
    def __init__(self, config: ChatGLM2Config, index: int) -> None:
        super().__init__()
        self._residual_normed = config.apply_residual_connection_post_layernorm
        self.input_layernorm = _norm(config)
        self.self_attention = ChatGLM2Attention(config, index)
        self.post_attention_layernorm = _norm(config)
        self.mlp = ChatGLM2MLP(config)

    def forward(self, hidden: Tensor, **kwargs: Any) -> Tensor:
        normed = self.input_layernorm(hidden)
        hidden = (normed if self._residual_normed else hidden) + self.self_attention(normed, **kwargs)
        normed = self.post_attention_layernorm(hidden)
        return (normed if self._residual_normed else hidden) + self.mlp(normed)


class ChatGLM2Attention(nn.Module):
    def __init__(self, config: ChatGLM2Config, index: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = index
        self.is_causal = False
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.num_key_value_groups = self.heads // self.kv_heads
        self.head_dim = config.kv_channels
        width = self.heads * self.head_dim
        self.query_key_value = nn.Linear(
            config.hidden_size,
            width + 2 * self.kv_heads * self.head_dim,
            bias=config.add_bias_linear or config.add_qkv_bias,
        )
        self.dense = nn.Linear(width, config.hidden_size, bias=config.add_bias_linear)

    def forward(
        self,
        hidden: Tensor,
        *,
        rotation: _Rotation,
        mask: Tensor | None,
        cache: Cache | None,
        **kwargs: Any,
    ) -> Tensor:
        query, key, value = self._split(self.query_key_value(hidden))
        query, key = _rotate(query, rotation), _rotate(key, rotation)
        return self.dense(attend(self, query, key, value, mask, cache, **kwargs))

    def _split(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[batch, tokens, all] to [batch, heads, tokens, head_dim] each. With groups the three parts follow
        each other; without, they are beside each other inside each head."""
        if not self.config.multi_query_attention:
            mixed = mixed.unflatten(-1, (-1, 3 * self.head_dim)).transpose(1, 2)
            query, key, value = mixed.split(self.head_dim, dim=-1)
            return query, key, value
        mixed = mixed.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        # A process may have some of the heads, and as many of each kind less.
        kv_heads = max(1, mixed.shape[1] * self.kv_heads // (self.heads + 2 * self.kv_heads))
        query, key, value = mixed.split((mixed.shape[1] - 2 * kv_heads, kv_heads, kv_heads), dim=1)
        return query, key, value


class ChatGLM2MLP(nn.Module):
    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__()
        bias = config.add_bias_linear
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 2 * config.ffn_hidden_size, bias=bias)
        self.dense_4h_to_h = nn.Linear(config.ffn_hidden_size, config.hidden_size, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        # SwiGLU (Shazeer 2020, arXiv:2002.05202), both halves in one product.
        gate, up = self.dense_h_to_4h(hidden).chunk(2, dim=-1)
        return self.dense_4h_to_h(nn.functional.silu(gate) * up)


def _norm(config: ChatGLM2Config) -> nn.Module:
    kind = nn.RMSNorm if config.rmsnorm else nn.LayerNorm
    return kind(config.hidden_size, eps=config.layernorm_epsilon)


def _rotate(x: Tensor, rotation: _Rotation) -> Tensor:
    """x: [batch, heads, tokens, head_dim]: the first half turns, in neighbouring pairs; the rest passes."""
    cos, sin = rotation
    turning, passing = x.chunk(2, dim=-1)
    even, odd = turning.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
    return torch.cat((turned, passing), dim=-1)
