"""The published weight-only formats of the ChatGLM family: int8, and int4 with two columns in a byte.

Per output row, symmetric: scale = max|w| / (2^(bits-1) - 1) in float16, q = round(w / scale), everything
computed in float16, so that the result equals the published checkpoints bit for bit. int4 keeps the even
column in the high nibble and is sign-extended on reading (quantization.py of the published ChatGLM-6B).

Models that were not published so get int4 in groups: 32 columns share a scale and a minimum, both float16, and
w = scale · q + minimum with q from 0 to 15. It is as exact as llama.cpp's Q4_1. What others quantised in groups is
taken as it is, code for code, in groups of whole multiples of 32 columns and of 4 or 8 bits, or of 16 columns, 8
bits and with zero in their middle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = [
    "GROUP",
    "Groups",
    "dequantize",
    "dequantize_groups",
    "pack_nibbles",
    "quantize_groups",
    "quantize_rows",
    "unpack_nibbles",
]

GROUP = 32
"""Columns that share a scale and a minimum in the grouped int4 format."""


@dataclass(frozen=True, slots=True)
class Groups:
    """w = scale · code + minimum."""

    codes: Tensor
    """uint8 [rows, columns], below 2 to the power of `bits`."""
    scale: Tensor
    """float16 [rows, groups]."""
    minimum: Tensor
    """float16 [rows, groups]."""
    bits: int
    activation_run: int = GROUP
    """Columns of activations that share a scale where a product rounds these to whole numbers, too."""

    def fits(self) -> bool:
        """Whether kernels read it: groups of whole multiples of 32 columns, or `halves`."""
        columns, groups = self.codes.shape[1], self.scale.shape[1]
        return (columns % groups == 0 and columns // groups % GROUP == 0) or self.halves()

    def halves(self) -> bool:
        """Whether its groups are of 16 columns, and have zero in the middle."""
        columns, groups = self.codes.shape[1], self.scale.shape[1]
        halves = self.bits == 8 and columns % GROUP == 0 and columns == groups * (GROUP // 2)
        return halves and torch.equal(self.minimum, -128 * self.scale)

    def finite(self) -> bool:
        return bool((torch.isfinite(self.scale) & torch.isfinite(self.minimum)).all())

    def to(self, device: torch.device) -> Groups:
        return replace(
            self, codes=self.codes.to(device), scale=self.scale.to(device), minimum=self.minimum.to(device)
        )

    def rows(self, order: Tensor) -> Groups:
        """The rows in another order. order: int64 [rows]."""
        return replace(self, codes=self.codes[order], scale=self.scale[order], minimum=self.minimum[order])


def quantize_rows(weight: Tensor, bits: int, runs: int = 1) -> tuple[Tensor, Tensor]:
    """weight: float [rows, columns]. Returns int8 [rows, columns] and float16 scales [rows], or [rows, runs] where
    that many equal runs of columns are scaled each by itself (GLM-130B's model-parallel ranks).

    A row whose scale is zero in float16 gets scale 1, so that nothing is divided by zero.
    Raises ValueError when a weight is NaN, infinite, or too large for float16, and for columns that can't be cut.
    """
    if runs > 1:
        if weight.shape[1] % runs:
            raise ValueError(f"{weight.shape[1]} columns can't be cut into {runs} runs")
        quantized, scale = quantize_rows(weight.reshape(-1, weight.shape[1] // runs), bits)
        return quantized.reshape(weight.shape), scale.view(-1, runs)
    weight = weight.to(torch.float16)
    low, high = weight.aminmax(dim=1)
    extreme = torch.maximum(high, -low)
    if not bool(torch.isfinite(extreme).all()):
        raise ValueError("weights hold NaN or infinity (in float16)")
    largest = 2 ** (bits - 1) - 1
    scale = extreme / largest
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (weight / scale[:, None]).round_().clamp_(-largest, largest).to(torch.int8), scale


def dequantize(quantized: Tensor, scale: Tensor) -> Tensor:
    """int8 [rows, columns] and float16 [rows], or [rows, runs]. Returns float16 [rows, columns], multiplied in
    float16."""
    if scale.dim() == 1:
        return quantized.to(torch.float16, copy=True).mul_(scale[:, None])
    runs = quantized.unflatten(1, (scale.shape[1], -1)).to(torch.float16, copy=True)
    return runs.mul_(scale[:, :, None]).flatten(1)


def pack_nibbles(quantized: Tensor) -> Tensor:
    """int8 [rows, columns] of values from -8 to 7 to int8 [rows, columns / 2].

    Raises ValueError for an odd number of columns.
    """
    if quantized.shape[1] % 2:
        raise ValueError(f"{quantized.shape[1]} columns can't be packed in pairs")
    return (quantized[:, 0::2] << 4) | (quantized[:, 1::2] & 0x0F)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """int8 [rows, columns / 2] to int8 [rows, columns]."""
    rows, half = packed.shape
    # The shift right of a signed byte carries its sign along.
    return torch.stack((packed >> 4, (packed << 4) >> 4), dim=2).reshape(rows, 2 * half)


def quantize_groups(weight: Tensor, bits: int = 4) -> Groups:
    """weight: float [rows, columns].

    Raises ValueError when columns are no multiple of 32, or a weight is NaN, infinite, or too large for float16.
    """
    if weight.shape[1] % GROUP:
        raise ValueError(f"{weight.shape[1]} columns are no whole groups of {GROUP}")
    groups = weight.float().unflatten(1, (-1, GROUP))
    low, high = groups.amin(-1), groups.amax(-1)
    largest = 2**bits - 1
    minimum, scale = low.to(torch.float16), ((high - low) / largest).to(torch.float16)
    if not bool((torch.isfinite(minimum) & torch.isfinite(high.to(torch.float16))).all()):
        raise ValueError("weights hold NaN or infinity (in float16)")
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    codes = ((groups - minimum.float()[..., None]) / scale.float()[..., None]).round_().clamp_(0, largest)
    return Groups(codes.to(torch.uint8).flatten(1), scale, minimum, bits)


def dequantize_groups(groups: Groups) -> Tensor:
    """Float32 [rows, columns]."""
    codes = groups.codes.unflatten(1, (groups.scale.shape[1], -1)).float()
    return (codes * groups.scale.float()[..., None] + groups.minimum.float()[..., None]).flatten(1)
