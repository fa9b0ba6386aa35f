"""Products with packed weights on the CPU, by torch's own int8 and int4 operators.

Both operators are fast with bfloat16 activations only. With the rows of a decode step reading the packed
weights is most of the work and they win; with more rows (a prompt) the weights are widened once and the
ordinary product, which has the processor's matrix units, does the work.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from glmbot.quantization.linear import QuantizedLinear

__all__ = ["PackedInt4Linear", "PackedInt8Linear", "fits_packed"]

_PACKED_ROWS = 32
_GROUP = 32
# Of torch's int4 layout: rows come in blocks, each a byte matrix [columns, block / 2] (half the rows of the
# block in the low nibbles, half in the high ones). The block depends on the processor's vector width.
_BLOCKS = (64, 32, 16)
_ZERO_POINT = 8
_ROWS_AT_ONCE = 16
_TILE_ELEMENTS = 1 << 22


def fits_packed(bits: int, out_features: int, in_features: int, dtype: torch.dtype) -> bool:
    """Whether this file's layers can hold such a weight, for activations of `dtype`."""
    # Both operators read whole vectors; the int8 one, past the end of an odd-sized matrix.
    if dtype != torch.bfloat16 or in_features % _GROUP or out_features % _ROWS_AT_ONCE:
        return False
    return bits == 8 or (_block() != 0 and out_features % _block() == 0)


class PackedInt8Linear(QuantizedLinear):
    """Buffers: weight int8 [out, in], weight_scale float32 [out]."""

    def __init__(self, quantized: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__(quantized.shape[0], quantized.shape[1], 8, bias)
        self.register_buffer("weight", quantized.contiguous())
        self.register_buffer("weight_scale", scale.float())
        self.register_buffer("_ones", torch.ones(quantized.shape[0], dtype=torch.bfloat16))

    def product(self, rows: Tensor) -> Tensor:
        weight = self.get_buffer("weight")
        if rows.shape[0] <= _PACKED_ROWS:
            # The operator would round the scales to bfloat16, so it gets ones, and they are applied after.
            out = torch._weight_int8pack_mm(rows.contiguous(), weight, self.get_buffer("_ones"))  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
        else:
            parts = weight.split(_tile(self.in_features))
            out = torch.cat([rows @ part.to(rows.dtype).T for part in parts], dim=1)
        return (out * self.get_buffer("weight_scale")).to(rows.dtype)


class PackedInt4Linear(QuantizedLinear):
    """Buffers: weight uint8 in torch's layout [out, in / 2], weight_scale float32 [out]."""

    def __init__(self, quantized: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__(quantized.shape[0], quantized.shape[1], 4, bias)
        self.register_buffer("weight", _pack(quantized))
        self.register_buffer("weight_scale", scale.float())
        self.register_buffer("_units", _units(*quantized.shape))

    def product(self, rows: Tensor) -> Tensor:
        weight = self.get_buffer("weight")
        if rows.shape[0] <= _PACKED_ROWS:
            out = _packed_product(rows, weight, self.get_buffer("_units"))
        else:
            # A tile is of whole blocks, so it is a matrix in the same layout.
            parts = weight.split(_tile(self.in_features) // _block() * _block() or _block())
            out = torch.cat([_widened_product(rows, part, _block()) for part in parts], dim=1)
        return (out * self.get_buffer("weight_scale")).to(rows.dtype)


def _pack(quantized: Tensor) -> Tensor:
    return torch._convert_weight_to_int4pack_for_cpu(quantized.to(torch.int32) + _ZERO_POINT, 1)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


def _units(out_features: int, in_features: int) -> Tensor:
    """Scale 1 and zero 0 for each group: the rows' own scales are applied to the product, in float32."""
    units = torch.zeros(in_features // _group(in_features), out_features, 2, dtype=torch.bfloat16)
    units[..., 0] = 1
    return units


def _group(in_features: int) -> int:
    return next(group for group in (256, 128, 64, _GROUP) if in_features % group == 0)


def _packed_product(rows: Tensor, packed: Tensor, units: Tensor) -> Tensor:
    group = rows.shape[1] // units.shape[0]
    return torch._weight_int4pack_mm_for_cpu(rows.contiguous(), packed, group, units)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


def _widened_product(rows: Tensor, packed: Tensor, block: int) -> Tensor:
    """rows: float [rows, in]; packed: of [out, in]. Returns [rows, out]."""
    columns = rows.shape[1]
    blocks = packed.numel() * 2 // columns // block
    halves = packed.view(blocks, columns, block // 2).transpose(0, 1).reshape(columns, -1)
    low, high = (
        rows @ (nibbles.view(torch.int8) - _ZERO_POINT).to(rows.dtype)
        for nibbles in (halves & 0x0F, halves >> 4)
    )
    apart = (-1, blocks, block // 2)
    return torch.stack((low.view(apart), high.view(apart)), dim=2).view(rows.shape[0], -1)


def _tile(in_features: int) -> int:
    """How many weight rows to widen at a time: what the allocator keeps at hand. A larger temporary would be
    new memory for every product, and clearing its pages would take most of the time."""
    return max(1, _TILE_ELEMENTS // in_features)


@lru_cache(maxsize=1)
def _block() -> int:
    """The rows in a block of torch's layout on this processor, or 0 when the layout is none that we know."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-8, 8, (2 * max(_BLOCKS), 2 * _GROUP), generator=generator, dtype=torch.int8)
    packed = _pack(values)
    identity = torch.eye(values.shape[1])
    for block in _BLOCKS:
        if torch.equal(_widened_product(identity, packed, block).T, values.float()):
            return block
    return 0
