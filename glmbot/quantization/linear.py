"""Linear layers with int8 or int4 weights and float activations (weight-only quantisation)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from glmbot.quantization.formats import dequantize, pack_nibbles, unpack_nibbles

__all__ = ["QuantizedLinear", "WidenedLinear"]


class QuantizedLinear(nn.Module, ABC):
    """Stands where an nn.Linear stood. Each kernel family keeps the weights in a layout of its own."""

    def __init__(self, out_features: int, in_features: int, bits: int, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features = out_features
        self.in_features = in_features
        self.bits = bits
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., in]. Returns [..., out] in x's dtype."""
        out = self.product(x.reshape(-1, self.in_features))
        bias: Tensor | None = self._buffers["bias"]
        if bias is not None:
            out = out + bias
        return out.reshape(*x.shape[:-1], self.out_features)

    @abstractmethod
    def product(self, rows: Tensor) -> Tensor:
        """rows: float [rows, in]. Returns [rows, out], without the bias."""


class WidenedLinear(QuantizedLinear):
    """Weights as published; each product widens them first. On any device and in any dtype, and exact.

    Buffers: weight int8 [out, in] or, for 4 bits, [out, in / 2]; weight_scale float16 [out].
    """

    def __init__(self, quantized: Tensor, scale: Tensor, bits: int, bias: Tensor | None) -> None:
        """quantized: int8 [out, in]; scale: float16 [out]."""
        super().__init__(quantized.shape[0], quantized.shape[1], bits, bias)
        self.register_buffer("weight", pack_nibbles(quantized) if bits == 4 else quantized)
        self.register_buffer("weight_scale", scale)

    def product(self, rows: Tensor) -> Tensor:
        weight = self.get_buffer("weight")
        if self.bits == 4:
            weight = unpack_nibbles(weight)
        widened = dequantize(weight, self.get_buffer("weight_scale"))
        return torch.nn.functional.linear(rows, widened.to(rows.dtype))
