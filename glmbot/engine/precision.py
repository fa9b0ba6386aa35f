"""Filling a module with a checkpoint's weights at a precision, one parameter at a time.

The same walk serves loading and switching: each linear layer's old weights are dropped as its new ones are
made, so a switch needs the larger of the two precisions and one layer more, never both copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from glmbot.engine.base import Precision
from glmbot.errors import ModelFileError, PrecisionError
from glmbot.models.checkpoint import Checkpoint
from glmbot.quantization.linear import Int8Linear

__all__ = ["activation_dtype", "available_precisions", "default_precision", "fill", "weight_bytes"]

_DTYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}


def available_precisions(device: torch.device) -> tuple[Precision, ...]:
    if device.type == "cpu":
        return (Precision.FP32, Precision.BF16, Precision.INT8)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return (Precision.FP16, Precision.BF16, Precision.INT8)
    return (Precision.FP16, Precision.INT8)


def default_precision(device: torch.device) -> Precision:
    return Precision.BF16 if device.type == "cpu" else Precision.FP16


def activation_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of hidden states and KV cache. torch's CPU int8 product is fast with bfloat16 only."""
    if precision is Precision.INT8:
        return torch.bfloat16 if device.type == "cpu" else torch.float16
    return _DTYPES[precision]


def weight_bytes(module: nn.Module) -> int:
    """Bytes of all parameters and buffers, shared ones counted once."""
    tensors: dict[int, Tensor] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device.type != "meta":
            tensors[tensor.data_ptr()] = tensor
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())


def fill(
    module: nn.Module,
    checkpoint: Checkpoint,
    precision: Precision,
    device: torch.device,
    on_progress: Callable[[float], None] | None = None,
) -> None:
    """Give every parameter of `module` its value at `precision` on `device`, whatever it held before.

    The output head and the embeddings stay float. on_progress gets the share done, 0 to 1.
    Raises ModelFileError naming file and tensor, PrecisionError when the device can't compute so.
    """
    if precision not in available_precisions(device):
        known = ", ".join(available_precisions(device))
        raise PrecisionError(f"{precision} is not available on {device.type}; choose one of {known}")
    # Always with copy=True below: a memory-mapped file must not be the live weights.
    dtype = activation_dtype(precision, device)
    names = checkpoint.names()
    owners = list(_owners(module))
    missing: list[str] = []
    for done, (prefix, owner) in enumerate(owners):
        if isinstance(owner, (nn.Linear, Int8Linear)):
            _fill_linear(module, prefix, owner, checkpoint, precision, dtype, device, missing)
        else:
            for name, old in list(owner.named_parameters(recurse=False)):
                full = f"{prefix}.{name}" if prefix else name
                if full in names:
                    _set(owner, name, _read(checkpoint, full, old.shape).to(device, dtype, copy=True))
                else:
                    missing.append(full)
        if on_progress is not None:
            on_progress((done + 1) / len(owners))
    _tie(module, missing)
    for name, buffer in module.named_buffers():
        if buffer.device != device:
            owner_name, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner_name), leaf, buffer.to(device))


def _owners(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for prefix, owner in module.named_modules():
        if isinstance(owner, Int8Linear) or any(True for _ in owner.parameters(recurse=False)):
            yield prefix, owner


def _fill_linear(
    module: nn.Module,
    prefix: str,
    owner: nn.Linear | Int8Linear,
    checkpoint: Checkpoint,
    precision: Precision,
    dtype: torch.dtype,
    device: torch.device,
    missing: list[str],
) -> None:
    if f"{prefix}.weight" not in checkpoint.names():
        missing.append(f"{prefix}.weight")
        return
    shape = torch.Size((owner.out_features, owner.in_features))
    weight = _read(checkpoint, f"{prefix}.weight", shape)
    has_bias = owner.bias is not None  # pyright: ignore[reportUnnecessaryComparison]
    bias = _read(checkpoint, f"{prefix}.bias", shape[:1]).to(device, dtype, copy=True) if has_bias else None
    # The head is a linear of the top level or of no block; quantising it costs accuracy for little memory.
    if precision is Precision.INT8 and ".layers." in f".{prefix}.":
        try:
            replacement: nn.Module = Int8Linear(weight.to(device), bias, dtype)
        except ValueError as error:
            raise ModelFileError(
                f"{checkpoint.file_of(f'{prefix}.weight')}: {prefix}.weight: {error}"
            ) from error
    else:
        with torch.device("meta"):
            replacement = nn.Linear(owner.in_features, owner.out_features, bias=has_bias)
        _set(replacement, "weight", weight.to(device, dtype, copy=True))
        if bias is not None:
            _set(replacement, "bias", bias)
    parent, _, leaf = prefix.rpartition(".")
    setattr(module.get_submodule(parent), leaf, replacement.eval())


def _read(checkpoint: Checkpoint, name: str, shape: torch.Size) -> Tensor:
    tensor = checkpoint.read(name)
    if tensor.shape != shape:
        raise ModelFileError(
            f"{checkpoint.file_of(name)}: tensor {name} has shape {list(tensor.shape)}, "
            f"the model needs {list(shape)}"
        )
    return tensor


def _set(owner: nn.Module, name: str, value: Tensor) -> None:
    owner.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _tie(module: nn.Module, missing: list[str]) -> None:
    tied: Any = module
    if missing:
        tied.tie_weights()
    still = [name for name in missing if module.get_parameter(name).device.type == "meta"]
    if still:
        raise ModelFileError(
            f"the weights lack {len(still)} tensors that the model needs, the first being {still[0]}"
        )
