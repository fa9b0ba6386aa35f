"""Which layers of a model on the CPU are held as the native kernels read them, and packing them so."""

from __future__ import annotations

import torch
from torch import Tensor

from glmbot.native.library import kernels
from glmbot.native.linear import NativeLinear
from glmbot.native.weights import (
    BLOCK,
    WeightKind,
    pack_bytes,
    pack_floats,
    pack_nibbles_of_rows,
    pack_scales,
)
from glmbot.quantization.formats import Groups

__all__ = ["native_float", "native_groups", "native_rows"]

_FLOATS = {torch.float32: WeightKind.FLOAT32, torch.bfloat16: WeightKind.BFLOAT16}
_MIDDLE = {8: 128, 4: 8}


def native_float(weight: Tensor, bias: Tensor | None) -> NativeLinear | None:
    """weight: float32 or bfloat16 [out, in]. None when it can't be held so."""
    kind = _FLOATS.get(weight.dtype)
    if kind is None or not _can(kind, weight):
        return None
    rows, columns = weight.shape
    return NativeLinear(kind, rows, columns, pack_floats(weight), bias=bias)


def native_rows(quantized: Tensor, scale: Tensor, bits: int, bias: Tensor | None) -> NativeLinear | None:
    """The published formats. quantized: int8 [out, in]; scale: float16 [out], or [out, runs] of columns."""
    kind = WeightKind.INT8 if bits == 8 else WeightKind.INT4
    runs = 1 if scale.dim() == 1 else scale.shape[1]
    # Each run is of whole blocks.
    if not _can(kind, quantized) or quantized.shape[1] % (runs * BLOCK):
        return None
    rows, columns = quantized.shape
    packed = pack_scales(scale.reshape(rows, runs))
    # With several scales in a row the kernels want the low end of each run, too.
    minimum = pack_scales(-_MIDDLE[bits] * scale) if runs > 1 else None
    codes = (quantized.to(torch.int16) + _MIDDLE[bits]).to(torch.uint8)
    return NativeLinear(kind, rows, columns, _packed(codes, bits), scale=packed, minimum=minimum, bias=bias)


def _packed(codes: Tensor, bits: int) -> Tensor:
    return pack_bytes(codes) if bits == 8 else pack_nibbles_of_rows(codes)


def native_groups(groups: Groups, bias: Tensor | None) -> NativeLinear | None:
    """int4 or int8 in groups."""
    kind = WeightKind.INT8 if groups.bits == 8 else WeightKind.INT4
    if not _can(kind, groups.codes) or not groups.fits():
        return None
    rows, columns = groups.codes.shape
    return NativeLinear(
        kind,
        rows,
        columns,
        _packed(groups.codes, groups.bits),
        scale=pack_scales(groups.scale),
        minimum=None if groups.halves() else pack_scales(groups.minimum),
        bias=bias,
        activation_run=groups.activation_run,
    )


def _can(kind: WeightKind, weight: Tensor) -> bool:
    return weight.device.type == "cpu" and NativeLinear.fits(kind, weight.shape[1]) and kernels() is not None
