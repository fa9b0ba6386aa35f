"""GLM (GLM-10B): a transformer that fills blanks, written from its published facts.

Du et al. 2022, arXiv:2103.10360, and https://github.com/THUDM/GLM. Module and parameter names are those of the
published checkpoints.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import Cache

from glmbot.models.causal_lm import GlmCausalLM, attend
from glmbot.models.glm.configuration import BlankInfillingConfig
from glmbot.models.positions import BlockPositions
from glmbot.models.prefix import PrefixedTransformer

__all__ = ["GLMForBlankInfilling"]


class GLMForBlankInfilling(GlmCausalLM):
    """`position_scheme` knows no tokens until the tokenizer's are set: config.json does not hold them."""

    config_class = BlankInfillingConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    _no_split_modules: ClassVar[list[str]] = ["GLMBlock"]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: BlankInfillingConfig) -> None:
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.transformer = GLMTransformer(config)
        self.position_scheme = BlockPositions(start_token=-1, mask_tokens=())
        self.post_init()

    def hidden_states(
        self, input_ids: Tensor, position_ids: Tensor, mask: Tensor | None, cache: Cache | None, **kwargs: Any
    ) -> Tensor:
        return self.transformer(self.word_embeddings(input_ids), position_ids, mask, cache, **kwargs)

    def logits(self, hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, self.word_embeddings.weight)


class GLMTransformer(PrefixedTransformer):
    def __init__(self, config: BlankInfillingConfig) -> None:
        super().__init__()
        # Position 0 of a block is the context, so each table has one row more than there are positions.
        rows = config.max_sequence_length + 1
        self.position_embeddings = nn.Embedding(rows, config.hidden_size)
        self.block_position_embeddings = nn.Embedding(rows, config.hidden_size)
        self.layers = nn.ModuleList(GLMBlock(config, index) for index in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.layer_count = config.num_layers
        self.prefix_length = 0

    def init_buffers(self) -> None:
        pass

    def forward(
        self,
        hidden: Tensor,
        position_ids: Tensor,
        mask: Tensor | None,
        cache: Cache | None,
        **kwargs: Any,
    ) -> Tensor:
        """hidden: [batch, tokens, hidden size]; position_ids: int64 [batch, 2, tokens]."""
        hidden = hidden + self.position_embeddings(position_ids[:, 0])
        hidden = hidden + self.block_position_embeddings(position_ids[:, 1])
        for layer in self.layers:
            hidden = layer(hidden, mask=mask, cache=cache, **kwargs)
        return self.final_layernorm(hidden)


class GLMBlock(nn.Module):
    def __init__(self, config: BlankInfillingConfig, index: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.attention = GLMAttention(config, index)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.mlp = GLMMLP(config)

    def forward(self, hidden: Tensor, **kwargs: Any) -> Tensor:
        hidden = hidden + self.attention(self.input_layernorm(hidden), **kwargs)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class GLMAttention(nn.Module):
    def __init__(self, config: BlankInfillingConfig, index: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = index
        self.is_causal = False
        self.head_dim = config.head_dim
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, *, mask: Tensor | None, cache: Cache | None, **kwargs: Any) -> Tensor:
        # All queries, then all keys, then all values; a process may have some of the heads.
        mixed = self.query_key_value(hidden).unflatten(-1, (3, -1, self.head_dim))
        query, key, value = (part.transpose(1, 2) for part in mixed.unbind(2))
        return self.dense(attend(self, query, key, value, mask, cache, **kwargs))


class GLMMLP(nn.Module):
    def __init__(self, config: BlankInfillingConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 4 * config.hidden_size)
        self.dense_4h_to_h = nn.Linear(4 * config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.dense_4h_to_h(nn.functional.gelu(self.dense_h_to_4h(hidden), approximate="tanh"))
