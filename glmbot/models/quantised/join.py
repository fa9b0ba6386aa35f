"""What others quantised, put together to weights again: which methods are read, and which of their tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from glmbot.errors import ModelFileError
from glmbot.models.checkpoint import Checkpoint
from glmbot.models.quantised.fp8 import ScaledTensor
from glmbot.models.quantised.packed import AWQ_PARTS, GPTQ_PARTS, PackedTensor, awq, gptq
from glmbot.models.weight_files import StoredTensor

__all__ = ["join_quantised", "quantised_by", "said_under", "unread"]

_SCALES = ("weight_scale_inv", "weight_scale")
# Of activations, which are not quantised here.
_UNUSED = ("input_scale", "activation_scale", "input_scale_ub", "k_scale", "v_scale", "output_scale")
_LARGEST_BLOCK = 1 << 16

Fields = Mapping[str, Any]


def quantised_by(fields: Fields) -> Fields:
    """The quantization_config that a config.json holds, or nothing."""
    return next(said_under("quantization_config", fields), {})


def said_under(key: str, fields: Fields) -> Iterator[Fields]:
    """What a config.json has under a key, of the whole model and of the text model within."""
    for part in (fields, fields.get("text_config")):
        found: Any = cast(dict[str, Any], part).get(key) if isinstance(part, dict) else None
        if isinstance(found, dict) and found:
            yield cast(Fields, found)


def unread(said: Fields) -> str:
    """Why weights so quantised can't be read; empty where they can."""
    method = _method(said)
    if method == "gptq":
        return _wrong(said, {"bits": (4, 8), "checkpoint_format": ("gptq", "gptq_v2"), "dynamic": ({},)})
    if method == "awq":
        return _wrong(said, {"bits": (4,), "version": ("gemm",), "backend": ("autoawq",)}, lower=True)
    if method in ("fp8", "fbgemm_fp8"):
        return ""
    if method == "compressed_tensors":
        return _wrong(said, {"format": ("float-quantized", "naive-quantized")}) or _floats(said)
    if method == "modelopt":
        return _wrong(said, {"quant_algo": ("FP8",)})
    return "which is not read here"


def join_quantised(file: Path, said: Fields, checkpoint: Checkpoint) -> None:
    """Put the parts of each weight together. file: the config.json that said it. Raises ModelFileError."""
    method = _method(said)
    if not method:
        return
    if method in ("gptq", "awq"):
        _join_packed(file, said, checkpoint)
    else:
        _join_scaled(file, said, checkpoint)


def _join_packed(file: Path, said: Fields, checkpoint: Checkpoint) -> None:
    is_gptq = _method(said) == "gptq"
    names = checkpoint.names()
    made: dict[str, StoredTensor] = {}
    gone: set[str] = set()
    width = int(said.get("bits", 4))
    later = said.get("checkpoint_format") == "gptq_v2"
    for name in (each for each in names if each.endswith(".qweight")):
        stem = name.removesuffix("qweight")
        found = [part for part in (GPTQ_PARTS if is_gptq else AWQ_PARTS) if stem + part in names]
        for part in AWQ_PARTS:
            if part not in found:
                raise ModelFileError(f"{checkpoint.file_of(name)}: {stem}{part} is missing beside {name}")
        parts = {part: checkpoint.stored(stem + part) for part in found}
        made[f"{stem}weight"] = PackedTensor(
            parts, width, partial(gptq, one_more=not later) if is_gptq else awq
        )
        gone |= {stem + part for part in found}
    if not made:
        raise ModelFileError(f"{file}: the weights are said to be quantised, and there is no tensor .qweight")
    checkpoint.replace(gone, made)


def _join_scaled(file: Path, said: Fields, checkpoint: Checkpoint) -> None:
    names = checkpoint.names()
    block = _block(said)
    made: dict[str, StoredTensor] = {}
    gone = {name for name in names if name.endswith(tuple(f".{unused}" for unused in _UNUSED))}
    for name in names:
        for ending in _SCALES:
            if name.endswith(f".{ending}") and (weight := name.removesuffix(ending) + "weight") in names:
                made[weight] = ScaledTensor(checkpoint.stored(weight), checkpoint.stored(name), block)
                gone |= {name, weight}
    if not made:
        raise ModelFileError(
            f"{file}: the weights are said to be quantised, and there is no tensor .weight_scale"
        )
    checkpoint.replace(gone, made)


def _block(said: Fields) -> tuple[int, int] | None:
    found = said.get("weight_block_size")
    if isinstance(found, Sequence) and len(cast(Sequence[Any], found)) == 2:
        high, wide = (int(size) for size in cast(Sequence[Any], found))
        if 0 < high <= _LARGEST_BLOCK and 0 < wide <= _LARGEST_BLOCK:
            return high, wide
    return None


def _method(said: Fields) -> str:
    return str(said.get("quant_method", "")).replace("-", "_").lower()


def _wrong(said: Fields, allowed: Mapping[str, tuple[Any, ...]], *, lower: bool = False) -> str:
    for key, values in allowed.items():
        found = said.get(key)
        if (
            found is not None
            and (str(found).lower() if lower and isinstance(found, str) else found) not in values
        ):
            return f"with {key} = {str(found)[:50]}, which is not read here"
    return ""


def _floats(said: Fields) -> str:
    """Of compressed-tensors: whether all groups are weights of 8-bit floats."""
    groups: Any = said.get("config_groups")
    for group in cast(dict[str, Any], groups).values() if isinstance(groups, dict) else ():
        weights: Any = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict) and (weights.get("type"), weights.get("num_bits")) != ("float", 8):
            return f"with weights of {str(weights.get('num_bits'))[:10]} bits, which is not read here"
    return ""
