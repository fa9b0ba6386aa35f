"""Which kernel family holds a quantised weight, by device, dtype and shape."""

from __future__ import annotations

import torch
from torch import Tensor

from glmbot.quantization.cpm import CpmLinear, is_old_card, kernels
from glmbot.quantization.cpu import PackedInt4Linear, PackedInt8Linear, fits_packed
from glmbot.quantization.linear import QuantizedLinear, WidenedLinear

__all__ = ["quantized_linear"]


def quantized_linear(
    quantized: Tensor, scale: Tensor, bits: int, bias: Tensor | None, dtype: torch.dtype
) -> QuantizedLinear:
    """quantized: int8 [out, in]; scale: float16 [out]; dtype: of the activations to come."""
    device = quantized.device
    if device.type == "cpu" and fits_packed(bits, quantized.shape[0], quantized.shape[1], dtype):
        packed = PackedInt4Linear if bits == 4 else PackedInt8Linear
        return packed(quantized, scale, bias)
    if is_old_card(device) and kernels() is not None:
        return CpmLinear(quantized, scale, bits, bias)
    return WidenedLinear(quantized, scale, bits, bias)
