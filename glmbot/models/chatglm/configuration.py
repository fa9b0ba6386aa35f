"""ChatGLM-6B's configuration under its published names."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from glmbot.models.chatglm2.configuration import ChatGLM2Config

__all__ = ["ChatGLMConfig"]

# Where the first revision's vocabulary, whose configuration lacks the mask ids, has them.
_FIRST_VOCABULARY = 150528
_FIRST_MASKS = (150000, 150001)
_FINAL_MASKS = (130000, 130001)


class ChatGLMConfig(PreTrainedConfig):
    """All three generations are published with model_type "chatglm": `from_dict` gives the right class."""

    model_type = "chatglm"
    keys_to_ignore_at_inference = ("cache",)
    attribute_map = {  # noqa: RUF012 - the base class has it so
        "num_hidden_layers": "num_layers",
        "max_position_embeddings": "max_sequence_length",
        "intermediate_size": "inner_hidden_size",
    }

    def __init__(
        self,
        vocab_size: int = 130528,
        hidden_size: int = 4096,
        num_layers: int = 28,
        num_attention_heads: int = 32,
        inner_hidden_size: int = 16384,
        max_sequence_length: int = 2048,
        layernorm_epsilon: float = 1e-5,
        position_encoding_2d: bool = True,
        bos_token_id: int = 130004,
        eos_token_id: int = 130005,
        pad_token_id: int = 3,
        mask_token_id: int | None = None,
        gmask_token_id: int | None = None,
        pre_seq_len: int | None = None,
        prefix_projection: bool = False,
        use_cache: bool = True,
        tie_word_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        """Raises ValueError for a variant that was never published."""
        if not position_encoding_2d:
            raise ValueError("position_encoding_2d is false; ChatGLM-6B's positions are two-dimensional")
        masks = _FIRST_MASKS if vocab_size == _FIRST_VOCABULARY else _FINAL_MASKS
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_attention_heads = num_attention_heads
        self.head_dim = hidden_size // num_attention_heads
        self.inner_hidden_size = inner_hidden_size
        self.max_sequence_length = max_sequence_length
        self.layernorm_epsilon = layernorm_epsilon
        self.position_encoding_2d = position_encoding_2d
        self.mask_token_id = masks[0] if mask_token_id is None else mask_token_id
        self.gmask_token_id = masks[1] if gmask_token_id is None else gmask_token_id
        self.pre_seq_len = pre_seq_len
        self.prefix_projection = prefix_projection
        self.use_cache = use_cache
        kwargs.pop("head_dim", None)
        base: Any = super()
        base.__init__(
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
            tie_word_embeddings=tie_word_embeddings,
            **kwargs,
        )

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        if cls is ChatGLMConfig and "padded_vocab_size" in config_dict:
            return ChatGLM2Config.from_dict(config_dict, **kwargs)
        return super().from_dict(config_dict, **kwargs)
