"""GLM's configuration under its published names (GLM-10B, GLM-10B-Chinese and their smaller sisters)."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

__all__ = ["BlankInfillingConfig", "is_blank_infilling"]


def is_blank_infilling(fields: dict[str, Any]) -> bool:
    """Whether a config.json is GLM's. It is published with model_type "glm", which Transformers has since given
    to GLM-4."""
    return fields.get("model_type") == "glm" and "block_position_encoding" in fields


class BlankInfillingConfig(PreTrainedConfig):
    model_type = "glm-blank-infilling"
    keys_to_ignore_at_inference = ("cache",)
    attribute_map = {  # noqa: RUF012 - the base class has it so
        "num_hidden_layers": "num_layers",
        "max_position_embeddings": "max_sequence_length",
    }

    def __init__(
        self,
        vocab_size: int = 50304,
        hidden_size: int = 4096,
        num_layers: int = 48,
        num_attention_heads: int = 64,
        max_sequence_length: int = 1024,
        layernorm_epsilon: float = 1e-5,
        block_position_encoding: bool = True,
        relative_encoding: bool = False,
        spell_length: int | None = None,
        use_cache: bool = True,
        **kwargs: Any,
    ) -> None:
        """Raises ValueError for the variants of the paper's ablations."""
        if not block_position_encoding or relative_encoding or spell_length is not None:
            raise ValueError(
                "only GLM with block_position_encoding, without relative_encoding and spell_length, is supported"
            )
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_attention_heads = num_attention_heads
        self.head_dim = hidden_size // num_attention_heads
        self.max_sequence_length = max_sequence_length
        self.layernorm_epsilon = layernorm_epsilon
        self.block_position_encoding = block_position_encoding
        self.use_cache = use_cache
        for name in ("model_type", "head_dim", "tie_word_embeddings"):
            kwargs.pop(name, None)
        base: Any = super()
        # The output head is the word embeddings.
        base.__init__(tie_word_embeddings=True, **kwargs)
