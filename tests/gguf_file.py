"""Tiny models written as GGUF files, by the gguf package's writer and names of tensors written down here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from torch import Tensor
from transformers import PreTrainedTokenizerFast

KIND = GGMLQuantizationType
_PARTS = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
    "mlp.gate_up_proj": "ffn_up", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "post_self_attn_layernorm": "post_attention_norm", "post_mlp_layernorm": "post_ffw_norm",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
_GEMMA = {"post_attention_layernorm": "post_attention_norm"}


def write_gguf(
    path: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    architecture: str,
    *,
    kind: GGMLQuantizationType = KIND.F32,
    change: Callable[[dict[str, Any]], None] | None = None,
    tensors: Callable[[dict[str, Tensor]], None] | None = None,
) -> Path:
    """kind: of the matrices whose rows are whole blocks. change: of the metadata, before they are written; tensors:
    of all tensors under their names in the file."""
    said = {**_sizes(model.config, architecture), **_vocabulary(tokenizer)}
    if change is not None:
        change(said)
    named = _tensors(model, architecture)
    if tensors is not None:
        tensors(named)
    writer = GGUFWriter(path, architecture)
    for key, value in said.items():
        _add(writer, key, value)
    for name, tensor in named.items():
        values = tensor.float().contiguous().numpy()
        if kind is KIND.F32 or values.ndim < 2 or values.shape[-1] % 32:
            writer.add_tensor(name, values)
        elif kind is KIND.F16:
            writer.add_tensor(name, values.astype(np.float16))
        else:
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _sizes(config: Any, arch: str) -> dict[str, Any]:
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    said = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": float(rope["rope_theta"]),
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": int(config.head_dim * rope.get("partial_rotary_factor", 1)),
    }
    if arch == "qwen3moe":
        said |= {
            "expert_count": config.num_experts,
            "expert_used_count": config.num_experts_per_tok,
            "expert_feed_forward_length": config.moe_intermediate_size,
        }
    if arch == "gemma3":
        said["attention.sliding_window"] = config.sliding_window
    return {f"{arch}.{key}": value for key, value in said.items()}


def _vocabulary(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.all_special_ids)
    state: Any = __import__("json").loads(tokenizer.backend_tokenizer.to_str())
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in state["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [word for word, _ in words],
        "tokenizer.ggml.token_type": [3 if number in special else 1 for _, number in words],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": tokenizer.chat_template,
    }


def _tensors(model: Any, arch: str) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    config = model.config
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        tensor = tensor.detach().clone()
        layer = re.match(r"model\.layers\.(\d+)\.(.+)", name)
        prefix, rest = (f"blk.{layer[1]}.", layer[2]) if layer else ("", name)
        if rest == "mlp.experts.gate_up_proj":
            gate, up = tensor.chunk(2, dim=1)
            named |= {f"{prefix}ffn_gate_exps.weight": gate, f"{prefix}ffn_up_exps.weight": up}
            continue
        if rest == "mlp.experts.down_proj":
            named[f"{prefix}ffn_down_exps.weight"] = tensor
            continue
        stem, _, leaf = rest.rpartition(".")
        parts = _PARTS | _GEMMA if arch == "gemma3" else _PARTS
        if arch == "llama" and stem in ("self_attn.q_proj", "self_attn.k_proj"):
            heads = config.num_attention_heads if "q_proj" in stem else config.num_key_value_heads
            # As llama.cpp's converter lays them: the two halves of a head go by turns.
            tensor = tensor.unflatten(0, (heads, 2, -1)).swapaxes(1, 2).reshape(tensor.shape)
        if arch == "gemma3" and stem.endswith("norm"):
            tensor = tensor + 1
        named[f"{prefix}{parts[stem]}.{leaf}"] = tensor
    if arch == "chatglm":
        for number in range(config.num_hidden_layers):
            for leaf in ("weight", "bias"):
                parts_of = [named.pop(f"blk.{number}.attn_{part}.{leaf}") for part in "qkv"]
                named[f"blk.{number}.attn_qkv.{leaf}"] = torch.cat(parts_of)
    return named


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
