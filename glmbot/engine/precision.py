"""Filling a module with a checkpoint's weights at a precision, one parameter at a time.

The same walk serves loading and switching: each linear layer's old weights are dropped as its new ones are
made, so a switch needs the larger of the two precisions and one layer more, never both copies.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from glmbot.engine.base import Precision
from glmbot.engine.placement import Placement
from glmbot.engine.sizes import BITS, int4_in_groups, is_linear, is_quantised_layer, parameter_owners
from glmbot.errors import ModelFileError, PrecisionError
from glmbot.models.causal_lm import GlmCausalLM
from glmbot.models.checkpoint import Checkpoint
from glmbot.models.partition import Cut
from glmbot.models.quantised.fp8 import FP8
from glmbot.native.linear import NativeLinear
from glmbot.quantization.choice import grouped_linear, quantized_linear
from glmbot.quantization.formats import Groups, dequantize, quantize_groups, quantize_rows, unpack_nibbles
from glmbot.quantization.linear import QuantizedLinear
from glmbot.quantization.native import native_float, native_groups, native_rows

__all__ = [
    "available_precisions",
    "checkpoint_precision",
    "chosen_precision",
    "default_precision",
    "fill",
]


def available_precisions(device: torch.device) -> tuple[Precision, ...]:
    if device.type == "cpu":
        return (Precision.FP32, Precision.BF16, Precision.INT8, Precision.INT4)
    if _knows_bfloat16(device):
        return (Precision.FP16, Precision.BF16, Precision.INT8, Precision.INT4)
    return (Precision.FP16, Precision.INT8, Precision.INT4)


def _knows_bfloat16(device: torch.device) -> bool:
    """What torch's module for such devices says: torch.xpu, or torch.npu of torch_npu."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    told = getattr(getattr(torch, device.type, None), "is_bf16_supported", None)
    return told is not None and bool(told())


def default_precision(device: torch.device) -> Precision:
    return Precision.BF16 if device.type == "cpu" else Precision.FP16


def checkpoint_precision(module: nn.Module, checkpoint: Checkpoint) -> Precision | None:
    """The precision of a published quantised checkpoint, or None for float weights.

    Its weights say it themselves; the published configurations disagree on where to write it.
    """
    for prefix, owner in parameter_owners(module):
        name = f"{prefix}.weight"
        if isinstance(owner, nn.Linear) and is_quantised_layer(prefix) and _is_quantised(checkpoint, name):
            columns = checkpoint.read(name).shape[-1]
            return Precision.INT8 if columns == owner.in_features else Precision.INT4
    return stored_precision(module, checkpoint)


def chosen_precision(
    wanted: Precision | None, module: nn.Module, checkpoint: Checkpoint, device: torch.device
) -> Precision:
    """What was asked for, else that of the checkpoint, else the usual one."""
    return wanted or checkpoint_precision(module, checkpoint) or default_precision(device)


def fill(
    module: nn.Module,
    checkpoint: Checkpoint,
    precision: Precision,
    placement: Placement,
    on_progress: Callable[[float], None] | None = None,
) -> None:
    """Give every parameter of `module` its value at `precision`, whatever it held before.

    on_progress gets the share done, 0 to 1. Raises ModelFileError naming file and tensor, PrecisionError
    when the device can't compute so.
    """
    if precision not in available_precisions(placement.device):
        known = ", ".join(available_precisions(placement.device))
        raise PrecisionError(
            f"{precision} is not available on {placement.device.type}; choose one of {known}"
        )
    names = checkpoint.names()
    # By name: an old layer lives as long as anybody holds it.
    owners = [prefix for prefix, _ in parameter_owners(module)]
    stored = stored_precision(module, checkpoint) if precision is Precision.INT4 else None
    missing: list[str] = []
    for done, prefix in enumerate(owners):
        owner = module.get_submodule(prefix)
        if is_linear(owner):
            _fill_linear(module, prefix, owner, checkpoint, precision, placement, stored, missing)
        else:
            for name, old in list(owner.named_parameters(recurse=False)):
                full = f"{prefix}.{name}" if prefix else name
                if full in names:
                    shape = _whole(old.shape, placement.cut(full))
                    _set(owner, name, _float(checkpoint, full, shape, precision, placement))
                else:
                    missing.append(full)
        if on_progress is not None:
            on_progress((done + 1) / len(owners))
    _tie(module, checkpoint, missing)
    if precision in BITS and placement.activations is None and placement.device.type == "cpu":
        _quantise_head(module, checkpoint, placement)
    _fill_buffers(module, checkpoint)
    for name, buffer in module.named_buffers():
        device = placement.device_of(name)
        if buffer.device != device:
            owner_name, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner_name), leaf, buffer.to(device))


def _fill_buffers(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Buffers that belong to the weights, such as the correction of a router's scores. Raises ModelFileError."""
    names = checkpoint.names()
    kept = module.state_dict().keys() & names
    for name, buffer in list(module.named_buffers()):
        if name not in kept:
            continue
        prefix, _, leaf = name.rpartition(".")
        owner = module.get_submodule(prefix)
        if is_linear(owner):
            # Its weight in a form of ours.
            continue
        setattr(owner, leaf, _shaped(checkpoint, name, buffer.shape).to(buffer.dtype, copy=True))
        checkpoint.release(name)


def _fill_linear(
    module: nn.Module,
    prefix: str,
    owner: nn.Linear | QuantizedLinear | NativeLinear,
    checkpoint: Checkpoint,
    precision: Precision,
    placement: Placement,
    stored: Precision | None,
    missing: list[str],
) -> None:
    name = f"{prefix}.weight"
    if name not in checkpoint.names():
        # The weight of another layer, or none.
        missing.append(name)
        _without_weight(module, prefix, owner, checkpoint, precision, placement)
        return
    shape = _whole(torch.Size((owner.out_features, owner.in_features)), placement.cut(name))
    has_bias = owner.bias is not None  # pyright: ignore[reportUnnecessaryComparison]
    bias = _float(checkpoint, f"{prefix}.bias", shape[:1], precision, placement) if has_bias else None
    native = placement.activations is None
    inner = is_quantised_layer(prefix)
    replacement: nn.Module | None = None
    if precision in BITS and inner:
        replacement = _quantised_layer(module, name, shape, bias, checkpoint, precision, placement, stored)
    else:
        weight = _float(checkpoint, name, shape, precision, placement)
        if native and inner:
            replacement = native_float(weight, bias)
        if replacement is None:
            with torch.device("meta"):
                replacement = nn.Linear(owner.in_features, weight.shape[0], bias=has_bias)
            _set(replacement, "weight", weight)
            if bias is not None:
                _set(replacement, "bias", bias)
    _replace(module, prefix, replacement)


def _without_weight(
    module: nn.Module,
    prefix: str,
    owner: nn.Linear | QuantizedLinear | NativeLinear,
    checkpoint: Checkpoint,
    precision: Precision,
    placement: Placement,
) -> None:
    """A linear layer whose weight is still to come, with the bias that is its own."""
    has_bias = owner.bias is not None  # pyright: ignore[reportUnnecessaryComparison]
    if isinstance(owner, NativeLinear):
        with torch.device("meta"):
            _replace(module, prefix, nn.Linear(owner.in_features, owner.out_features, bias=has_bias))
    if has_bias and (name := f"{prefix}.bias") in checkpoint.names():
        shape = torch.Size((owner.out_features,))
        _set(module.get_submodule(prefix), "bias", _float(checkpoint, name, shape, precision, placement))


def _replace(module: nn.Module, prefix: str, replacement: nn.Module) -> None:
    parent, _, leaf = prefix.rpartition(".")
    setattr(module.get_submodule(parent), leaf, replacement.eval())


def _quantise_head(module: nn.Module, checkpoint: Checkpoint, placement: Placement) -> None:
    """On the CPU, whose memory is the limit, the output head of a quantised model is int8: a step reads all of
    it. ChatGLM's published formats leave it float."""
    owner: Any = module
    if isinstance(module, GlmCausalLM):
        return
    head = owner.get_output_embeddings()
    prefix = next((name for name, part in module.named_modules() if part is head), None)
    if prefix is None or not isinstance(head, nn.Linear) or "bias" in head.state_dict():
        return
    stored = _codes_of_head(module, head, checkpoint, [prefix, *_tables(module)], placement)
    native = native_groups(stored, None) if stored is not None else None
    if native is None:
        native = native_rows(*quantize_rows(head.weight, 8), 8, None)
    if native is not None:
        _replace(module, prefix, native)


def _tables(module: nn.Module) -> list[str]:
    return [name for name, part in module.named_modules() if isinstance(part, nn.Embedding)]


def _codes_of_head(
    module: nn.Module, head: nn.Linear, checkpoint: Checkpoint, names: list[str], placement: Placement
) -> Groups | None:
    """What others quantised the output head in, or the table of embeddings that it is."""
    for name in (f"{each}.weight" for each in names if module.get_parameter(f"{each}.weight") is head.weight):
        if name in checkpoint.names() and checkpoint.bits(name) is not None:
            found = checkpoint.groups(name)
            if found is not None and found.fits():
                held = _groups(found, placement.cut(name))
                if held.codes.shape == head.weight.shape:
                    return replace(held, bits=8)
    return None


def _quantised_layer(
    module: nn.Module,
    name: str,
    shape: torch.Size,
    bias: Tensor | None,
    checkpoint: Checkpoint,
    precision: Precision,
    placement: Placement,
    stored: Precision | None,
) -> nn.Module:
    device, native = placement.device_of(name), placement.activations is None
    if (codes := _codes(module, name, shape, checkpoint, precision, stored)) is not None:
        checkpoint.release(name)
        return grouped_linear(_groups(codes, placement.cut(name)).to(device), bias, native=native)
    grouped = precision is Precision.INT4 and int4_in_groups(module, shape[1])
    if grouped and not _is_quantised(checkpoint, name):
        weight = _rows(_read(checkpoint, name, shape), placement.cut(name)).to(device)
        with _naming(checkpoint, name):
            groups = quantize_groups(weight)
        checkpoint.release(name)
        return grouped_linear(groups, bias, native=native)
    quantized, scale = _quantized(checkpoint, name, shape, BITS[precision], placement)
    return quantized_linear(
        quantized, scale, BITS[precision], bias, placement.dtype(precision), native=native
    )


def _codes(
    module: nn.Module,
    name: str,
    shape: torch.Size,
    checkpoint: Checkpoint,
    precision: Precision,
    stored: Precision | None,
) -> Groups | None:
    """What others quantised, code for code, where it is to have so many bits. A file whose weights are `stored` in
    4 bits keeps some tensors finer, and so do we."""
    bits = checkpoint.bits(name)
    if bits is None or isinstance(module, GlmCausalLM):
        return None
    if precision is Precision.INT4 and bits > 4 and stored is not Precision.INT4:
        return None
    groups = checkpoint.groups(name)
    if groups is None or not groups.fits():
        return None
    if groups.codes.shape != shape:
        where = f"{checkpoint.file_of(name)}: tensor {name}"
        raise ModelFileError(f"{where} has shape {list(groups.codes.shape)}, the model needs {list(shape)}")
    return groups if precision is Precision.INT4 else replace(groups, bits=8)


def stored_precision(module: nn.Module, checkpoint: Checkpoint) -> Precision | None:
    """Of most of the weights that others quantised in the layers; None where most are floats."""
    weights: dict[int | None, int] = {}
    names = checkpoint.names()
    for prefix, owner in parameter_owners(module):
        if is_linear(owner) and is_quantised_layer(prefix) and (name := f"{prefix}.weight") in names:
            bits = checkpoint.bits(name)
            weights[bits] = weights.get(bits, 0) + owner.in_features * owner.out_features
    most = max(weights, key=lambda bits: weights[bits], default=None)
    return None if most is None else Precision.INT4 if most == 4 else Precision.INT8


@contextmanager
def _naming(checkpoint: Checkpoint, name: str) -> Generator[None]:
    try:
        yield
    except ValueError as error:
        raise ModelFileError(f"{checkpoint.file_of(name)}: tensor {name}: {error}") from error


def _float(
    checkpoint: Checkpoint, name: str, shape: torch.Size, precision: Precision, placement: Placement
) -> Tensor:
    """The tensor as a live float one. A copy always: a memory-mapped file must not be the live weights."""
    device, dtype = placement.device_of(name), placement.dtype(precision)
    if _is_quantised(checkpoint, name):
        quantized, scale, _ = _read_quantized(checkpoint, name, shape, placement.cut(name))
        made = dequantize(quantized.to(device), scale.to(device)).to(dtype)
    else:
        made = _rows(_read(checkpoint, name, shape), placement.cut(name)).to(device, dtype, copy=True)
    checkpoint.release(name)
    return made


def _quantized(
    checkpoint: Checkpoint, name: str, shape: torch.Size, bits: int, placement: Placement
) -> tuple[Tensor, Tensor]:
    """int8 [rows, columns] and float16 [rows], or [rows, runs], of the rows that are here, on their device."""
    device, cut = placement.device_of(name), placement.cut(name)
    if _is_quantised(checkpoint, name):
        quantized, scale, stored_bits = _read_quantized(checkpoint, name, shape, cut)
        if stored_bits == bits:
            made = quantized.to(device, copy=True), scale.to(device, copy=True)
            checkpoint.release(name)
            return made
        weight = dequantize(quantized.to(device), scale.to(device))
    else:
        weight = _rows(_read(checkpoint, name, shape), cut).to(device)
    with _naming(checkpoint, name):
        made = quantize_rows(weight, bits, checkpoint.scaled_apart(name))
    checkpoint.release(name)
    return made


def _is_quantised(checkpoint: Checkpoint, name: str) -> bool:
    return f"{name}_scale" in checkpoint.names()


def _read_quantized(
    checkpoint: Checkpoint, name: str, shape: torch.Size, cut: Cut | None
) -> tuple[Tensor, Tensor, int]:
    """A published quantised weight: int8 [rows, columns], float16 [rows] or [rows, runs], and its bits."""
    rows, columns = shape
    packed = columns % 2 == 0 and checkpoint.read(name).shape[-1] == columns // 2
    weight = _read(checkpoint, name, torch.Size((rows, columns // 2)) if packed else shape, torch.int8)
    runs = checkpoint.scaled_apart(name)
    scales = shape[:1] if runs == 1 else torch.Size((rows, runs))
    scale = _read(checkpoint, f"{name}_scale", scales).to(torch.float16)
    if not bool(torch.isfinite(scale).all()):
        file = checkpoint.file_of(f"{name}_scale")
        raise ModelFileError(f"{file}: tensor {name}_scale holds NaN or infinity")
    weight, scale = _rows(weight, cut), _rows(scale, cut)
    return (unpack_nibbles(weight), scale, 4) if packed else (weight, scale, 8)


def _whole(shape: torch.Size, cut: Cut | None) -> torch.Size:
    """Of a tensor as the checkpoint holds it, whose rows may have been cut before."""
    return shape if cut is None else torch.Size((cut.rows, *shape[1:]))


def _groups(groups: Groups, cut: Cut | None) -> Groups:
    if cut is None:
        return groups
    return replace(
        groups, codes=cut.of(groups.codes), scale=cut.of(groups.scale), minimum=cut.of(groups.minimum)
    )


def _rows(tensor: Tensor, cut: Cut | None) -> Tensor:
    return tensor if cut is None else cut.of(tensor)


def _read(checkpoint: Checkpoint, name: str, shape: torch.Size, dtype: torch.dtype | None = None) -> Tensor:
    tensor = _shaped(checkpoint, name, shape)
    where = f"{checkpoint.file_of(name)}: tensor {name}"
    if dtype is not None and tensor.dtype != dtype:
        raise ModelFileError(f"{where} is {tensor.dtype}, {dtype} is needed")
    if dtype is None and tensor.dtype in FP8:
        raise ModelFileError(f"{where} is {tensor.dtype} and has no scale; it can't be weights")
    if dtype is None and not tensor.is_floating_point():
        raise ModelFileError(f"{where} is {tensor.dtype} and has no {name}_scale; it can't be weights")
    return tensor


def _shaped(checkpoint: Checkpoint, name: str, shape: torch.Size) -> Tensor:
    tensor = checkpoint.read(name)
    if tensor.shape != shape:
        where = f"{checkpoint.file_of(name)}: tensor {name}"
        raise ModelFileError(f"{where} has shape {list(tensor.shape)}, the model needs {list(shape)}")
    return tensor


def _set(owner: nn.Module, name: str, value: Tensor) -> None:
    owner.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _tie(module: nn.Module, checkpoint: Checkpoint, missing: list[str]) -> None:
    tied: Any = module
    if missing:
        tied.tie_weights()
    still = [name for name in missing if module.get_parameter(name).device.type == "meta"]
    if still:
        raise ModelFileError(
            f"{checkpoint.folder}: the weights lack {len(still)} tensors that the model needs,"
            f" the first being {still[0]}"
        )
