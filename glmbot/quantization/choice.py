"""Which kernel family holds a quantised weight, by device, dtype and shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glmbot.quantization.cpm import CpmLinear, is_old_card, kernels
from glmbot.quantization.cpu import PackedInt4Linear, PackedInt8Linear, fits_packed
from glmbot.quantization.formats import Groups
from glmbot.quantization.linear import GroupedLinear, WidenedLinear
from glmbot.quantization.native import native_groups, native_rows

__all__ = ["grouped_linear", "quantized_linear"]


def quantized_linear(
    quantized: Tensor,
    scale: Tensor,
    bits: int,
    bias: Tensor | None,
    dtype: torch.dtype,
    *,
    native: bool = True,
) -> nn.Module:
    """The published formats. quantized: int8 [out, in]; scale: float16 [out] or [out, runs]; dtype: of the
    activations to come; native: whether activations may be quantised too."""
    device = quantized.device
    if native and (layer := native_rows(quantized, scale, bits, bias)) is not None:
        return layer
    if scale.dim() > 1:
        return WidenedLinear(quantized, scale, bits, bias)
    if device.type == "cpu" and fits_packed(bits, quantized.shape[0], quantized.shape[1], dtype):
        packed = PackedInt4Linear if bits == 4 else PackedInt8Linear
        return packed(quantized, scale, bias)
    if is_old_card(device) and kernels() is not None:
        return CpmLinear(quantized, scale, bits, bias)
    return WidenedLinear(quantized, scale, bits, bias)


def grouped_linear(groups: Groups, bias: Tensor | None, *, native: bool = True) -> nn.Module:
    """int4 or int8 in groups."""
    layer = native_groups(groups, bias) if native else None
    return layer if layer is not None else GroupedLinear(groups, bias)
