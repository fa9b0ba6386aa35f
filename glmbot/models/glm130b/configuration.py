"""GLM-130B's configuration, under the names of its published code (SwissArmyTransformer)."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

__all__ = ["ROTARY_TABLES", "GLM130BConfig"]

ROTARY_TABLES = ("float16", "float32")
"""How angles, cosines and sines are rounded: as in the published float16 run, or not at all."""


class GLM130BConfig(PreTrainedConfig):
    """Without arguments it is the published model's; that comes without a config.json."""

    model_type = "glm130b"
    keys_to_ignore_at_inference = ("cache",)
    attribute_map = {  # noqa: RUF012 - the base class has it so
        "num_hidden_layers": "num_layers",
        "max_position_embeddings": "max_sequence_length",
        "intermediate_size": "inner_hidden_size",
    }

    def __init__(
        self,
        vocab_size: int = 150528,
        hidden_size: int = 12288,
        num_layers: int = 70,
        num_attention_heads: int = 96,
        inner_hidden_size: int = 32768,
        max_sequence_length: int = 2048,
        layernorm_epsilon: float = 1e-5,
        layernorm_order: str = "post",
        rotary_table: str = "float16",
        mask_token_id: int = 150000,
        gmask_token_id: int = 150001,
        smask_token_id: int = 150002,
        sop_token_id: int = 150004,
        eop_token_id: int = 150005,
        eos_token_id: int = 20002,
        pad_token_id: int = 0,
        use_cache: bool = True,
        **kwargs: Any,
    ) -> None:
        """Raises ValueError for a variant that was never published."""
        if layernorm_order != "post":
            raise ValueError(f"layernorm_order is {layernorm_order!r}; GLM-130B's norms are post")
        if rotary_table not in ROTARY_TABLES:
            raise ValueError(f"rotary_table is {rotary_table!r}; it can be {' or '.join(ROTARY_TABLES)}")
        if hidden_size % num_attention_heads or hidden_size // num_attention_heads % 2:
            raise ValueError(
                f"hidden_size {hidden_size} is no even number for each of {num_attention_heads} heads"
            )
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_attention_heads = num_attention_heads
        self.head_dim = hidden_size // num_attention_heads
        self.inner_hidden_size = inner_hidden_size
        self.max_sequence_length = max_sequence_length
        self.layernorm_epsilon = layernorm_epsilon
        self.layernorm_order = layernorm_order
        self.rotary_table = rotary_table
        self.mask_token_id = mask_token_id
        self.gmask_token_id = gmask_token_id
        self.smask_token_id = smask_token_id
        self.sop_token_id = sop_token_id
        self.eop_token_id = eop_token_id
        self.use_cache = use_cache
        for name in ("head_dim", "tie_word_embeddings", "bos_token_id"):
            kwargs.pop(name, None)
        base: Any = super()
        # The output head is the word embeddings.
        base.__init__(
            tie_word_embeddings=True,
            bos_token_id=sop_token_id,
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
            **kwargs,
        )
