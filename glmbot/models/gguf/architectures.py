"""What GGUF's metadata say of a model, in the words of Transformers' configurations.

A key that changes what a model computes, and that is not known here, is refused rather than passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gguf import MODEL_ARCH

from glmbot.errors import ModelFileError
from glmbot.models.family import refuse_monsters
from glmbot.models.gguf.header import GgufFile, Value

__all__ = ["ARCHITECTURES", "Architecture", "architecture_of", "read_fields"]

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Architecture:
    """One of llama.cpp's, and the class of Transformers that computes the same."""

    model_type: str
    names: MODEL_ARCH
    """Whose names of tensors."""
    turned: bool = False
    """Whether rows of queries and keys were put in llama.cpp's order of rotary positions."""
    lifted: bool = False
    """Whether weights of norms were stored with the 1 that Transformers adds."""
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What every model of the kind has, and its configuration class has otherwise."""
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    """Besides `_KEYS`."""
    finish: Callable[[GgufFile, Fields], None] | None = None


_KEYS = {
    "context_length": "max_position_embeddings", "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps", "attention.key_length": "head_dim",
}  # fmt: skip
_NEEDED = ("block_count", "embedding_length", "attention.head_count", "attention.layer_norm_rms_epsilon")
# Read elsewhere, or said twice.
_READ = ("rope.freq_base", "rope.dimension_count", "attention.value_length", "vocab_size", "expert_count",
         "expert_used_count", "expert_feed_forward_length", "rope.scaling.type", "rope.scaling.factor",
         "rope.scaling.original_context_length", "rope.scaling.finetuned", "attention.causal",
         "tensor_data_layout", "use_parallel_residual")  # fmt: skip


def _biases(file: GgufFile, fields: Fields) -> None:
    fields["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    fields["mlp_bias"] = "blk.0.ffn_up.bias" in file.tensors


def _experts(file: GgufFile, fields: Fields) -> None:
    arch = file.architecture
    fields["num_experts"] = _whole(file, f"{arch}.expert_count")
    fields["num_experts_per_tok"] = _whole(file, f"{arch}.expert_used_count")
    fields["moe_intermediate_size"] = _whole(file, f"{arch}.expert_feed_forward_length")


def _glm4(file: GgufFile, fields: Fields) -> None:
    fields["attention_bias"] = "blk.0.attn_q.bias" in file.tensors or "blk.0.attn_qkv.bias" in file.tensors


def _gemma3(file: GgufFile, fields: Fields) -> None:
    # Neither is in the file: every sixth layer sees the whole text, and the others turn by a base of their own.
    layers = int(fields["num_hidden_layers"])
    fields["layer_types"] = [
        "full_attention" if number % 6 == 5 else "sliding_attention" for number in range(layers)
    ]
    theta = float(fields.pop("rope_theta", 1e6))
    whole: Fields = {"rope_type": "default", "rope_theta": theta}
    scaling = fields.pop("rope_scaling", None)
    if scaling is not None:
        whole = scaling | {"rope_theta": theta}
    fields["rope_parameters"] = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": whole,
    }
    # 27B has another divisor of its queries, and llama.cpp knows it by its layers.
    heads, hidden = int(fields["num_attention_heads"]), int(fields["hidden_size"])
    fields["query_pre_attn_scalar"] = hidden // heads if layers == 62 else int(fields["head_dim"])


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture("llama", MODEL_ARCH.LLAMA, turned=True, finish=_biases),
    "qwen2": Architecture("qwen2", MODEL_ARCH.QWEN2),
    "qwen3": Architecture("qwen3", MODEL_ARCH.QWEN3),
    "qwen3moe": Architecture(
        "qwen3_moe", MODEL_ARCH.QWEN3MOE, fixed={"norm_topk_prob": True}, finish=_experts
    ),
    "glm4": Architecture("glm4", MODEL_ARCH.GLM4, finish=_glm4),
    "chatglm": Architecture("glm", MODEL_ARCH.CHATGLM, finish=_glm4),
    "gemma3": Architecture(
        "gemma3_text",
        MODEL_ARCH.GEMMA3,
        lifted=True,
        keys={"attention.sliding_window": "sliding_window"},
        finish=_gemma3,
    ),
}


def architecture_of(file: GgufFile) -> Architecture:
    """Raises ModelFileError."""
    found = ARCHITECTURES.get(file.architecture)
    if found is None:
        raise ModelFileError(
            f"{file.path}: the architecture {file.architecture[:50]!r} is not read from GGUF files"
            f" ({', '.join(sorted(ARCHITECTURES))} are); take the same model as a folder of safetensors files, or"
            " let a server that reads it run it ([remote] servers)"
        )
    return found


def read_fields(file: GgufFile) -> Fields:
    """What config.json would hold. Raises ModelFileError for what is missing, or is not known here."""
    kind = architecture_of(file)
    arch = file.architecture
    said = {
        key.removeprefix(f"{arch}."): value
        for key, value in file.metadata.items()
        if key.startswith(f"{arch}.")
    }
    keys = {**_KEYS, **kind.keys}
    for key, value in said.items():
        if key not in keys and key not in _READ and not _idle(value):
            raise ModelFileError(
                f"{file.path}: {arch}.{key[:80]} is {str(value)[:80]}, which is not known here and may change what"
                " the model says; take the same model as a folder of safetensors files"
            )
    for key in _NEEDED:
        if key not in said:
            raise ModelFileError(f"{file.path}: {arch}.{key} is missing; the file is no whole model")
    fields: Fields = {ours: _plain(file, f"{arch}.{key}") for key, ours in keys.items() if key in said}
    # What follows makes something of each layer.
    refuse_monsters(file.path, fields)
    if said.get("expert_count") and kind.finish is not _experts:
        raise ModelFileError(
            f"{file.path}: a mixture of {said['expert_count']} experts of the architecture {arch!r}, which is not"
            " read from GGUF files; take the same model as a folder of safetensors files"
        )
    fields |= {"model_type": kind.model_type, **kind.fixed}
    fields["vocab_size"] = _vocabulary(file)
    fields["tie_word_embeddings"] = "output.weight" not in file.tensors
    fields.setdefault("head_dim", int(fields["hidden_size"]) // max(1, int(fields["num_attention_heads"])))
    for ours, key in (("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")):
        fields[ours] = file.metadata.get(f"tokenizer.ggml.{key}_token_id")
    _rotary(file, said, fields)
    if kind.finish is not None:
        kind.finish(file, fields)
    return fields


def _rotary(file: GgufFile, said: Mapping[str, Value], fields: Fields) -> None:
    arch, head = file.architecture, int(fields["head_dim"])
    if (value := said.get("attention.value_length", head)) != head:
        raise ModelFileError(f"{file.path}: {arch}.attention.value_length is {value}, and key_length {head}")
    turned = said.get("rope.dimension_count", head)
    if isinstance(turned, int) and turned != head:
        fields["partial_rotary_factor"] = turned / head
    if "rope.freq_base" in said:
        fields["rope_theta"] = said["rope.freq_base"]
    scaling, factor = said.get("rope.scaling.type", "none"), said.get("rope.scaling.factor", 1.0)
    if scaling == "none" or factor in (0, 0.0):
        return
    fields["rope_scaling"] = {"rope_type": scaling, "factor": factor}
    if scaling == "yarn":
        whole = said.get("rope.scaling.original_context_length", fields.get("max_position_embeddings"))
        fields["rope_scaling"] = {**fields["rope_scaling"], "original_max_position_embeddings": whole}
    elif scaling != "linear":
        raise ModelFileError(
            f"{file.path}: {arch}.rope.scaling.type is {str(scaling)[:50]!r}, and linear and yarn are read;"
            " take the same model as a folder of safetensors files"
        )


def _idle(value: Value) -> bool:
    """A number that changes nothing."""
    return isinstance(value, int | float) and value == 0


def _plain(file: GgufFile, key: str) -> int | float:
    """A number that is the same in all layers."""
    value = file.metadata[key]
    if isinstance(value, list) and len(set(value)) == 1:
        (value,) = set(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelFileError(
            f"{file.path}: {key} is {str(value)[:80]}; layers of different sizes can't be served: choose another"
            " model"
        )
    return value


def _whole(file: GgufFile, key: str) -> int:
    value = file.metadata.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelFileError(f"{file.path}: {key} is {str(value)[:80]}, and must be a whole number above 0")
    return value


def _vocabulary(file: GgufFile) -> int:
    place = file.tensors.get("token_embd.weight")
    if place is None or len(place.shape) != 2:
        raise ModelFileError(
            f"{file.path}: the tensor token_embd.weight is missing; the file is no whole model"
        )
    return place.shape[0]
