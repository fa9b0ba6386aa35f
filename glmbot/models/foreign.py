"""Folders and files that people point us at and that hold something else than weights as they are published.

Each is refused by its name, with what to do, before a library trips over it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from glmbot.errors import ModelFileError
from glmbot.models.family import read_json
from glmbot.models.quantised.join import said_under, unread

__all__ = [
    "refuse_foreign_folder",
    "refuse_foreign_tensors",
    "refuse_foreign_weights",
    "refuse_tiktoken",
    "unfit",
    "unlike_heads",
]

_QUANTISERS = {
    "aqlm": "AQLM", "awq": "AWQ", "bitnet": "BitNet", "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors", "eetq": "EETQ", "fbgemm_fp8": "FBGEMM (FP8)",
    "fp8": "FP8 with scales", "gptq": "GPTQ", "higgs": "HIGGS", "hqq": "HQQ",
    "modelopt": "NVIDIA's Model Optimizer", "mxfp4": "MXFP4", "quanto": "Quanto", "quark": "Quark",
    "spqr": "SpQR", "torchao": "torchao", "vptq": "VPTQ",
}  # fmt: skip
# Tensors that only quantised weights have beside them, by the end of their names.
_TRACES = {
    ".qweight": "GPTQ or AWQ", ".weight_scale_inv": "FP8 with scales", ".weight_packed": "compressed-tensors",
    ".absmax": "bitsandbytes", ".weight_scale_2": "NVIDIA's Model Optimizer", "_blocks": "MXFP4",
}  # fmt: skip
_INSTEAD = (
    'take the release in float16 or bfloat16, and let [model] precision = "int4" or "int8" quantise it while it is'
    " loaded"
)
_UNFIT = (
    "the shared engine can't run it: choose another model, or let a server that knows it run it"
    " ([remote] servers)"
)


def unfit(name: str, reason: str) -> ModelFileError:
    """For a model that is whole, and that can't be computed beside others."""
    return ModelFileError(f"{name}: {reason}; {_UNFIT}")


def unlike_heads(kinds: Set[tuple[int, int]]) -> str:
    """Why a model can't be served whose layers have these heads of keys and values: how many, and their size."""
    sizes = " and ".join(f"{heads} × {size}" for heads, size in sorted(kinds))
    return f"its layers have heads of different sizes ({sizes})"


def refuse_foreign_folder(folder: Path) -> None:
    """Raises ModelFileError. A folder that is not there is somebody else's business."""
    if folder.is_file():
        raise ModelFileError(
            f"{folder}: a file; [model] path names the folder that the model's files are in, or a GGUF file"
        )
    if not folder.is_dir():
        return
    files = {file.name for file in folder.iterdir()}
    weights = any(
        name.endswith((".safetensors", ".bin")) and not name.startswith("adapter_") for name in files
    )
    if "adapter_config.json" in files:
        _refuse_adapter(folder, beside_weights=weights and "config.json" in files)


def refuse_foreign_weights(file: Path, fields: Mapping[str, Any]) -> None:
    """What config.json says of others' quantisation that is not read here. Raises ModelFileError."""
    for said in said_under("quantization_config", fields):
        if reason := unread(said):
            method = str(said.get("quant_method", "somebody else's program"))[:50]
            name = _QUANTISERS.get(method.replace("_", "-"), _QUANTISERS.get(method, method))
            raise ModelFileError(f"{file}: the weights are quantised by {name}, {reason}; {_INSTEAD}")
    if any("bits" in said for said in said_under("quantization", fields)):
        raise ModelFileError(f"{file}: the weights are quantised for MLX, which is not read here; {_INSTEAD}")


def refuse_foreign_tensors(folder: Path, names: Set[str]) -> None:
    """What the tensors' names say of it where config.json is silent. Raises ModelFileError."""
    for ending, name in _TRACES.items():
        if (found := next((each for each in sorted(names) if each.endswith(ending)), None)) is not None:
            raise ModelFileError(
                f"{folder}: the tensor {found} says that the weights are quantised by {name}, which is not read"
                f" here; {_INSTEAD}"
            )


def refuse_tiktoken(file: Path) -> None:
    """Words in base64 where a SentencePiece model is expected. Raises ModelFileError."""
    with file.open("rb") as opened:
        line = opened.readline(400)
    if re.fullmatch(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n", line):
        raise ModelFileError(
            f"{file}: a tiktoken vocabulary, which is read for glm-4-9b-chat alone; take the model's release for"
            " Transformers, with a tokenizer.json"
        )


def _refuse_adapter(folder: Path, *, beside_weights: bool) -> None:
    fields = read_json(folder / "adapter_config.json")
    base = str(fields.get("base_model_name_or_path") or "its base model")[:200]
    kind = str(fields.get("peft_type") or "LoRA")[:20]
    if beside_weights:
        raise ModelFileError(
            f"{folder}: has a {kind} adapter beside the weights; move adapter_config.json and adapter_model.* into"
            " a folder of their own, and name that in [model] adapters to answer with it"
        )
    raise ModelFileError(
        f"{folder}: a {kind} adapter and no model; let [model] path name the folder of {base}, and [model]"
        " adapters this one"
    )
