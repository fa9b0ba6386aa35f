"""Linear layers with int8 or int4 weights and float activations (weight-only quantisation)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from glmbot.quantization.formats import Groups, dequantize, dequantize_groups, pack_nibbles, unpack_nibbles

__all__ = ["GroupedLinear", "QuantizedLinear", "WidenedLinear"]


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

    Buffers: weight int8 [out, in] or, for 4 bits, [out, in / 2]; weight_scale float16 [out] or [out, runs].
    """

    def __init__(self, quantized: Tensor, scale: Tensor, bits: int, bias: Tensor | None) -> None:
        """quantized: int8 [out, in]; scale: float16 [out], or [out, runs] of columns."""
        super().__init__(quantized.shape[0], quantized.shape[1], bits, bias)
        self.register_buffer("weight", pack_nibbles(quantized) if bits == 4 else quantized)
        self.register_buffer("weight_scale", scale)

    def product(self, rows: Tensor) -> Tensor:
        weight = self.get_buffer("weight")
        if self.bits == 4:
            weight = unpack_nibbles(weight)
        widened = dequantize(weight, self.get_buffer("weight_scale"))
        return torch.nn.functional.linear(rows, widened.to(rows.dtype))


class GroupedLinear(QuantizedLinear):
    """int4 or int8 in groups; each product widens the weights first. On any device and in any dtype.

    Buffers: weight uint8 [out, in] or, for 4 bits, [out, in / 2], the even column in the low nibble; weight_scale
    and weight_minimum float16 [out, groups].
    """

    def __init__(self, groups: Groups, bias: Tensor | None) -> None:
        codes = groups.codes
        super().__init__(codes.shape[0], codes.shape[1], groups.bits, bias)
        self.register_buffer("weight", codes[:, 0::2] | codes[:, 1::2] << 4 if groups.bits == 4 else codes)
        self.register_buffer("weight_scale", groups.scale)
        self.register_buffer("weight_minimum", groups.minimum)

    def product(self, rows: Tensor) -> Tensor:
        codes = self.get_buffer("weight")
        if self.bits == 4:
            codes = torch.stack((codes & 0x0F, codes >> 4), dim=2).flatten(1)
        widened = dequantize_groups(
            Groups(codes, self.get_buffer("weight_scale"), self.get_buffer("weight_minimum"), self.bits)
        )
        return torch.nn.functional.linear(rows, widened.to(rows.dtype))
