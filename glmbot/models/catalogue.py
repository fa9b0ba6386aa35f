"""The models that glmbot is made for: where their weights are published, and how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from glmbot.models.chatglm.configuration import ChatGLMConfig
from glmbot.models.chatglm2.configuration import ChatGLM2Config
from glmbot.models.glm.configuration import BlankInfillingConfig
from glmbot.models.glm130b.configuration import GLM130BConfig
from glmbot.models.registry import ModelShape, empty_module, model_shape, register_families

__all__ = ["CATALOGUE", "PublishedModel"]


@dataclass(frozen=True, slots=True)
class PublishedModel:
    repository: str
    """Its name on the Hugging Face hub."""
    made_by: str
    """Whose classes run it: ours or Transformers'."""
    config: PreTrainedConfig

    speaks: str = ""
    """For models of 0.5 to 4 billion weights, which any machine can run: the languages that they are good at."""

    def open(self) -> tuple[nn.Module, ModelShape]:
        """The model without weights, and what its KV cache needs."""
        register_families()
        module = empty_module(self.config, "sdpa", self.repository)
        if self.config.tie_word_embeddings:
            cast(PreTrainedModel, module).tie_weights()
        return module, model_shape(self.config, module)


def _glm(kind: str, **sizes: Any) -> PreTrainedConfig:
    return AutoConfig.for_model(kind, tie_word_embeddings=False, **sizes)


def _small(
    kind: str, hidden: int, layers: int, heads: int, kv_heads: int, inner: int, **more: Any
) -> PreTrainedConfig:
    return AutoConfig.for_model(
        kind,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=inner,
        tie_word_embeddings=True,
        **{"vocab_size": 151936, "max_position_embeddings": 32768, **more},
    )


_BOTH = "Chinese and English"

# Sizes as in each repository's config.json.
CATALOGUE: Sequence[PublishedModel] = (
    PublishedModel("zai-org/chatglm-6b", "glmbot", ChatGLMConfig()),
    PublishedModel("zai-org/chatglm2-6b", "glmbot", ChatGLM2Config(seq_length=32768)),
    PublishedModel("zai-org/chatglm3-6b", "glmbot", ChatGLM2Config(seq_length=8192)),
    PublishedModel("zai-org/glm-10b", "glmbot", BlankInfillingConfig()),
    PublishedModel("zai-org/glm-10b-chinese", "glmbot", BlankInfillingConfig(vocab_size=50048)),
    PublishedModel("THUDM/GLM-130B", "glmbot", GLM130BConfig()),
    PublishedModel(
        "zai-org/glm-4-9b-chat-hf",
        "transformers",
        _glm(
            "glm",
            hidden_size=4096,
            num_hidden_layers=40,
            num_attention_heads=32,
            num_key_value_heads=2,
            head_dim=128,
            intermediate_size=13696,
            vocab_size=151552,
            max_position_embeddings=131072,
            attention_bias=True,
        ),
    ),
    PublishedModel(
        "zai-org/GLM-4-9B-0414",
        "transformers",
        _glm(
            "glm4",
            hidden_size=4096,
            num_hidden_layers=40,
            num_attention_heads=32,
            num_key_value_heads=2,
            head_dim=128,
            intermediate_size=13696,
            vocab_size=151552,
            max_position_embeddings=32768,
            attention_bias=True,
        ),
    ),
    PublishedModel(
        "Qwen/Qwen2.5-0.5B-Instruct", "transformers", _small("qwen2", 896, 24, 14, 2, 4864), _BOTH
    ),
    PublishedModel(
        "Qwen/Qwen2.5-1.5B-Instruct", "transformers", _small("qwen2", 1536, 28, 12, 2, 8960), _BOTH
    ),
    PublishedModel(
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        "transformers",
        _small("llama", 2048, 24, 32, 32, 8192, vocab_size=49152),
        "English",
    ),
    PublishedModel(
        "Qwen/Qwen2.5-3B-Instruct", "transformers", _small("qwen2", 2048, 36, 16, 2, 11008), _BOTH
    ),
    PublishedModel(
        "Qwen/Qwen3-4B-Instruct-2507",
        "transformers",
        _small("qwen3", 2560, 36, 32, 8, 9728, head_dim=128),
        _BOTH,
    ),
)
