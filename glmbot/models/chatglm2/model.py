"""ChatGLM2-6B and ChatGLM3-6B, written from their published facts.

Module and parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from glmbot.models.chatglm2.configuration import ChatGLM2Config
from glmbot.models.masks import padded_mask
from glmbot.models.positions import CausalPositions
from glmbot.models.prefix import PrefixedTransformer, PrefixEncoder

__all__ = ["ChatGLM2ForCausalLM"]

_ROTARY_BASE = 10000.0

_Rotation = tuple[Tensor, Tensor]


class ChatGLM2ForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = ChatGLM2Config  # pyright: ignore[reportIncompatibleVariableOverride]
    base_model_prefix = "transformer"
    _no_split_modules: ClassVar[list[str]] = ["ChatGLM2Block"]  # pyright: ignore[reportIncompatibleVariableOverride]
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"rotary_pos_emb\.inv_freq"]  # pyright: ignore[reportIncompatibleVariableOverride]
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__(config)
        self.transformer = ChatGLM2Transformer(config)
        self.position_scheme = CausalPositions()
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Transformers makes modules without memory first, and asks here for what no checkpoint holds."""
        super()._init_weights(module)
        if isinstance(module, ChatGLM2Transformer):
            module.get_buffer("inv_freq").copy_(_frequencies(cast(ChatGLM2Config, self.config)))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """input_ids, position_ids: int64 [batch, tokens].

        attention_mask: int [batch, past + tokens], 0 for padding at either side. `layout` in kwargs takes its
        place in the shared engine. Returns logits [batch, kept tokens, vocabulary].
        """
        batch, new = input_ids.shape
        mask: Tensor | None = None
        if "layout" not in kwargs:
            if use_cache is None:
                use_cache = bool(self.config.use_cache)
            prefix = self.transformer.prefix_length
            if past_key_values is None and (use_cache or prefix):
                past_key_values = DynamicCache()
            past = self.transformer.seed(past_key_values, batch) if past_key_values is not None else 0
            if position_ids is None:
                position_ids = _positions(attention_mask, batch, past, new, input_ids.device)
            mask = padded_mask(
                attention_mask, batch=batch, new=new, past=past, prefix=prefix, context_end=None
            ).to(input_ids.device)
        if position_ids is None:
            raise ValueError("position_ids are needed in the shared engine")
        hidden = self.transformer(input_ids, position_ids, mask, past_key_values, **kwargs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.transformer.output_layer(hidden[:, kept])
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values if use_cache else None)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What `generate` passes on: the tokens that are not cached yet."""
        past = self.transformer.text_length(past_key_values)
        return {
            "input_ids": input_ids[:, past:],
            "past_key_values": past_key_values,
            "attention_mask": attention_mask,
            "use_cache": kwargs.get("use_cache"),
            "logits_to_keep": kwargs.get("logits_to_keep", 1),
        }


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
        self.register_buffer("inv_freq", _frequencies(config), persistent=False)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        mask: Tensor | None,
        past_key_values: Cache | None,
        **kwargs: Any,
    ) -> Tensor:
        hidden = self.embedding(input_ids)
        angles = position_ids[:, None, :, None] * self.get_buffer("inv_freq")
        rotation = angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)
        return self.encoder(hidden, rotation=rotation, mask=mask, past_key_values=past_key_values, **kwargs)


def _frequencies(config: ChatGLM2Config) -> Tensor:
    half = config.kv_channels // 2
    exponents = torch.arange(0, half, 2, dtype=torch.float32) / half
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
        past_key_values: Cache | None,
        **kwargs: Any,
    ) -> Tensor:
        batch, tokens, _ = hidden.shape
        query, key, value = self._split(self.query_key_value(hidden))
        query, key = _rotate(query, rotation), _rotate(key, rotation)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = cast(
            Callable[..., tuple[Tensor, Any]],
            ALL_ATTENTION_FUNCTIONS.get_interface(
                cast(str, self.config._attn_implementation),  # pyright: ignore[reportPrivateUsage]
                sdpa_attention_forward,
            ),
        )
        out, _ = attend(self, query, key, value, mask, scaling=self.head_dim**-0.5, dropout=0.0, **kwargs)
        return self.dense(out.reshape(batch, tokens, -1))

    def _split(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[batch, tokens, all] to [batch, heads, tokens, head_dim] each. With groups the three parts follow
        each other; without, they are beside each other inside each head."""
        if not self.config.multi_query_attention:
            mixed = mixed.unflatten(-1, (self.heads, 3 * self.head_dim)).transpose(1, 2)
            query, key, value = mixed.split(self.head_dim, dim=-1)
            return query, key, value
        mixed = mixed.unflatten(-1, (self.heads + 2 * self.kv_heads, self.head_dim)).transpose(1, 2)
        query, key, value = mixed.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
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


def _positions(
    attention_mask: Tensor | None, batch: int, past: int, new: int, device: torch.device
) -> Tensor:
    if attention_mask is None:
        return torch.arange(past, past + new, device=device).expand(batch, new)
    return (attention_mask.long().cumsum(1) - 1).clamp_min(0)[:, -new:]
