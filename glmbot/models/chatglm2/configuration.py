"""ChatGLM2-6B's and ChatGLM3-6B's configuration under its published names."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

__all__ = ["ChatGLM2Config"]


class ChatGLM2Config(PreTrainedConfig):
    """Published with model_type "chatglm", as ChatGLM-6B is; `ChatGLMConfig.from_dict` tells them apart."""

    model_type = "chatglm"
    keys_to_ignore_at_inference = ("cache",)
    attribute_map = {  # noqa: RUF012 - the base class has it so
        "num_hidden_layers": "num_layers",
        "vocab_size": "padded_vocab_size",
        "max_position_embeddings": "seq_length",
        "intermediate_size": "ffn_hidden_size",
        "head_dim": "kv_channels",
    }

    def __init__(
        self,
        padded_vocab_size: int = 65024,
        hidden_size: int = 4096,
        num_layers: int = 28,
        num_attention_heads: int = 32,
        kv_channels: int = 128,
        ffn_hidden_size: int = 13696,
        seq_length: int = 2048,
        multi_query_attention: bool = True,
        multi_query_group_num: int = 2,
        add_qkv_bias: bool = True,
        add_bias_linear: bool = False,
        rmsnorm: bool = True,
        post_layer_norm: bool = True,
        apply_residual_connection_post_layernorm: bool = False,
        layernorm_epsilon: float = 1e-5,
        rope_ratio: float = 1.0,
        eos_token_id: int | list[int] = 2,
        pad_token_id: int = 0,
        chat_format: str = "chatglm3",
        pre_seq_len: int | None = None,
        prefix_projection: bool = False,
        use_cache: bool = True,
        tie_word_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        self.padded_vocab_size = padded_vocab_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = multi_query_group_num if multi_query_attention else num_attention_heads
        self.kv_channels = kv_channels
        self.ffn_hidden_size = ffn_hidden_size
        self.seq_length = seq_length
        self.multi_query_attention = multi_query_attention
        self.multi_query_group_num = multi_query_group_num
        self.add_qkv_bias = add_qkv_bias
        self.add_bias_linear = add_bias_linear
        self.rmsnorm = rmsnorm
        self.post_layer_norm = post_layer_norm
        self.apply_residual_connection_post_layernorm = apply_residual_connection_post_layernorm
        self.layernorm_epsilon = layernorm_epsilon
        self.rope_ratio = rope_ratio
        # No published file says it: the family does, once it knows the generation.
        self.chat_format = chat_format
        self.pre_seq_len = pre_seq_len
        self.prefix_projection = prefix_projection
        self.use_cache = use_cache
        kwargs.pop("num_key_value_heads", None)
        base: Any = super()
        base.__init__(
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
            tie_word_embeddings=tie_word_embeddings,
            **kwargs,
        )
