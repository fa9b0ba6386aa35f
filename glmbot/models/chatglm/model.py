"""ChatGLM-6B (v1), written from its published facts.

GLM: Du et al. 2022, arXiv:2103.10360. Module and parameter names are those of the published checkpoints.
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

from glmbot.models.chatglm.configuration import ChatGLMConfig
from glmbot.models.masks import padded_mask
from glmbot.models.positions import BlockPositions
from glmbot.models.prefix import PrefixedTransformer, PrefixEncoder

__all__ = ["ChatGLMForCausalLM"]

# sqrt(2 · 28): the published block is never told how many layers there are, so this holds at every depth.
_ALPHA = 56**0.5
_ROTARY_BASE = 10000.0

_Rotation = tuple[Tensor, Tensor]


class ChatGLMForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = ChatGLMConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    base_model_prefix = "transformer"
    _no_split_modules: ClassVar[list[str]] = ["ChatGLMBlock"]  # pyright: ignore[reportIncompatibleVariableOverride]
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"rotary_emb\.inv_freq"]  # pyright: ignore[reportIncompatibleVariableOverride]
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.transformer = ChatGLMTransformer(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.position_scheme = BlockPositions(
            cast(int, config.bos_token_id), (config.gmask_token_id, config.mask_token_id)
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Transformers makes modules without memory first, and asks here for what no checkpoint holds."""
        super()._init_weights(module)
        if isinstance(module, ChatGLMTransformer):
            module.get_buffer("inv_freq").copy_(_frequencies(cast(ChatGLMConfig, self.config)))

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
        """input_ids: int64 [batch, tokens]; position_ids: int64 [batch, 2, tokens].

        attention_mask: int [batch, past + tokens], 0 for padding at either side. `layout` in kwargs takes its
        place in the shared engine. Returns logits [batch, kept tokens, vocabulary].
        Raises ValueError when a step after the first comes without position_ids.
        """
        batch, new = input_ids.shape
        mask: Tensor | None = None
        if "layout" not in kwargs:
            if use_cache is None:
                use_cache = bool(self.config.use_cache)
            if use_cache and past_key_values is None:
                past_key_values = DynamicCache()
            prefix = self.transformer.prefix_length
            past = self.transformer.seed(past_key_values, batch) if past_key_values is not None else 0
            if past_key_values is None and prefix:
                past_key_values = DynamicCache()
                self.transformer.seed(past_key_values, batch)
            if past == 0:
                position_ids, context_end = self._first_step(input_ids, attention_mask, position_ids)
            else:
                context_end = None
            mask = padded_mask(
                attention_mask, batch=batch, new=new, past=past, prefix=prefix, context_end=context_end
            )
        if position_ids is None:
            raise ValueError("after the first step ChatGLM needs position_ids [batch, 2, tokens]")
        hidden = self.transformer(input_ids, position_ids, mask, past_key_values, **kwargs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, kept])
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
        """What `generate` passes on: the tokens that are not cached yet, with positions out of all of them."""
        positions, _ = self._first_step(input_ids, attention_mask, None)
        past = self.transformer.text_length(past_key_values)
        return {
            "input_ids": input_ids[:, past:],
            "position_ids": positions[:, :, past:],
            "past_key_values": past_key_values,
            "attention_mask": attention_mask,
            "use_cache": kwargs.get("use_cache"),
            "logits_to_keep": kwargs.get("logits_to_keep", 1),
        }

    def _first_step(
        self, input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Positions [batch, 2, tokens], unless given, and the column where each row's context ends [batch]."""
        batch, new = input_ids.shape
        made = torch.zeros(batch, 2, new, dtype=torch.int64)
        ends: list[int] = []
        for row, tokens in enumerate(input_ids.tolist()):
            real = list(range(new))
            if attention_mask is not None:
                real = cast(list[int], attention_mask[row].nonzero()[:, 0].tolist())
            prompt = [tokens[column] for column in real]
            made[row][:, real] = torch.tensor(self.position_scheme.positions(prompt, 0, len(prompt)))
            ends.append((real[0] if real else 0) + self.position_scheme.context_length(prompt))
        device = input_ids.device
        if position_ids is None:
            position_ids = made.to(device)
        return position_ids, torch.tensor(ends, device=device)


class ChatGLMTransformer(PrefixedTransformer):
    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(ChatGLMBlock(config, index) for index in range(config.num_layers))
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
        self.register_buffer("inv_freq", _frequencies(config), persistent=False)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        mask: Tensor | None,
        past_key_values: Cache | None,
        **kwargs: Any,
    ) -> Tensor:
        hidden: Tensor = self.word_embeddings(input_ids)
        rotation = self._rotation(position_ids, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, rotation=rotation, mask=mask, past_key_values=past_key_values, **kwargs)
        return self.final_layernorm(hidden)

    def _rotation(self, position_ids: Tensor, dtype: torch.dtype) -> _Rotation:
        """position_ids: [batch, 2, tokens]. Returns cosines and sines [batch, 1, tokens, 2, head_dim / 4]."""
        angles = position_ids.transpose(1, 2)[:, None, :, :, None] * self.get_buffer("inv_freq")
        return angles.cos().to(dtype), angles.sin().to(dtype)


def _frequencies(config: ChatGLMConfig) -> Tensor:
    quarter = config.head_dim // 4
    exponents = torch.arange(quarter, dtype=torch.float32) / quarter
    # The published frequencies were rounded to float16.
    return (_ROTARY_BASE**-exponents).half().float()


class ChatGLMBlock(nn.Module):
    def __init__(self, config: ChatGLMConfig, index: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.attention = ChatGLMAttention(config, index)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.mlp = ChatGLMMLP(config)

    def forward(self, hidden: Tensor, **kwargs: Any) -> Tensor:
        normed = self.input_layernorm(hidden)
        # The residual is the normalised input, scaled (DeepNorm's alpha, Wang et al. 2022, arXiv:2203.00555).
        hidden = normed * _ALPHA + self.attention(normed, **kwargs)
        normed = self.post_attention_layernorm(hidden)
        return normed * _ALPHA + self.mlp(normed)


class ChatGLMAttention(nn.Module):
    def __init__(self, config: ChatGLMConfig, index: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = index
        self.is_causal = False
        self.heads = config.num_attention_heads
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden: Tensor,
        *,
        rotation: _Rotation,
        mask: Tensor | None,
        past_key_values: Cache | None,
        **kwargs: Any,
    ) -> Tensor:
        batch, tokens, width = hidden.shape
        head_dim = width // self.heads
        # Query, key and value are beside each other inside each head.
        mixed = self.query_key_value(hidden).view(batch, tokens, self.heads, 3 * head_dim).transpose(1, 2)
        query, key, value = mixed.split(head_dim, dim=-1)
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
        out, _ = attend(self, query, key, value, mask, scaling=head_dim**-0.5, dropout=0.0, **kwargs)
        return self.dense(out.reshape(batch, tokens, width))


class ChatGLMMLP(nn.Module):
    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.inner_hidden_size)
        self.dense_4h_to_h = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.dense_4h_to_h(nn.functional.gelu(self.dense_h_to_4h(hidden), approximate="tanh"))


def _rotate(x: Tensor, rotation: _Rotation) -> Tensor:
    """x: [batch, heads, tokens, head_dim]: two halves, for the two rows of positions, and in each half its
    first half against its second."""
    cos, sin = rotation
    low, high = x.unflatten(-1, (2, 2, -1)).unbind(-2)
    return torch.stack((low * cos - high * sin, high * cos + low * sin), dim=-2).flatten(-3)
