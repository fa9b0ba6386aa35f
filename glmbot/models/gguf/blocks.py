"""The blocks of numbers that GGUF packs weights into.

Where a block holds whole numbers under one scale for 32 columns, or for 16, they become codes of ours, number for
number. What does not fit is widened by the gguf package.
https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize
from numpy.typing import NDArray
from torch import Tensor

from glmbot.models.gguf.header import GgufFile, TensorPlace
from glmbot.quantization.formats import Groups

__all__ = ["bits_of", "groups_of", "widened"]

_FLOATS = {
    Kind.F32: torch.float32,
    Kind.F16: torch.float16,
    Kind.BF16: torch.bfloat16,
    Kind.F64: torch.float64,
}
_FOUR = 4.6
"""Bits for each weight, up to which a type is one of 4 bits: Q4_1 has 5 with its scales, and IQ4_NL 4.5."""
_Array = NDArray[Any]


def bits_of(kind: Kind) -> int | None:
    """Of which precision of ours a tensor of this type is: 4, 8, or None for floats."""
    if kind in _FLOATS:
        return None
    columns, block_bytes = GGML_QUANT_SIZES[kind]
    return 4 if 8 * block_bytes / columns <= _FOUR or kind is Kind.Q4_1 else 8


def widened(file: GgufFile, place: TensorPlace) -> Tensor:
    """The tensor as floats: of its own type where it has one, else float32. A copy always.

    Raises NotImplementedError for types that the gguf package can't unpack.
    """
    raw = file.mapped[place.start : place.start + place.bytes]
    dtype = _FLOATS.get(place.kind)
    if dtype is not None:
        return torch.from_numpy(raw.copy()).view(dtype).reshape(place.shape)
    columns, block_bytes = GGML_QUANT_SIZES[place.kind]
    rows = raw.reshape(*place.shape[:-1], place.shape[-1] // columns * block_bytes)
    return torch.from_numpy(np.ascontiguousarray(dequantize(rows, place.kind), np.float32))


def groups_of(file: GgufFile, place: TensorPlace) -> Groups | None:
    """A matrix as codes under a scale and a minimum for each 32 columns, or each 16, or None where it has no such
    form."""
    unpack = _UNPACK.get(place.kind)
    if len(place.shape) != 2 or unpack is None:
        return None
    rows, columns = place.shape
    raw = file.mapped[place.start : place.start + place.bytes]
    block_columns, block_bytes = GGML_QUANT_SIZES[place.kind]
    codes, scale, minimum = unpack(raw.reshape(-1, block_bytes))
    return Groups(
        torch.from_numpy(codes.reshape(rows, columns)),
        torch.from_numpy(scale.reshape(rows, -1)),
        torch.from_numpy(minimum.reshape(rows, -1)),
        bits=4 if bits_of(place.kind) == 4 else 8,
        # llama.cpp multiplies with activations that lie in blocks as long (Q8_0, Q8_1, Q8_K).
        activation_run=block_columns,
    )


_Unpacked = tuple[_Array, _Array, _Array]
"""Codes uint8 [blocks, columns], scales and minima float16 [blocks, groups]."""


def _half(blocks: _Array, at: int) -> _Array:
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16)


def _nibbles(packed: _Array) -> _Array:
    """The low ones of all bytes, then the high ones."""
    return np.concatenate((packed & 15, packed >> 4), axis=-1)


def _fifth(packed: _Array) -> _Array:
    """A bit for each of 32 columns."""
    return np.unpackbits(packed, axis=-1, bitorder="little") << 4


def _q4_0(blocks: _Array) -> _Unpacked:
    scale = _half(blocks, 0)
    return _nibbles(blocks[:, 2:]), scale, scale * np.float16(-8)


def _q4_1(blocks: _Array) -> _Unpacked:
    return _nibbles(blocks[:, 4:]), _half(blocks, 0), _half(blocks, 2)


def _q5_0(blocks: _Array) -> _Unpacked:
    scale = _half(blocks, 0)
    return _nibbles(blocks[:, 6:]) | _fifth(blocks[:, 2:6]), scale, scale * np.float16(-16)


def _q5_1(blocks: _Array) -> _Unpacked:
    return _nibbles(blocks[:, 8:]) | _fifth(blocks[:, 4:8]), _half(blocks, 0), _half(blocks, 2)


def _q8_0(blocks: _Array) -> _Unpacked:
    scale = _half(blocks, 0)
    return blocks[:, 2:] ^ 0x80, scale, scale * np.float16(-128)


def _factors(blocks: _Array) -> tuple[_Array, _Array]:
    """Of the 8 groups of a block of 256: a scale and a minimum, each of 6 bits under a float16."""
    packed = blocks[:, 4:16]
    low, high, last = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate((low & 63, last & 15 | low >> 6 << 4), axis=1)
    minima = np.concatenate((high & 63, last >> 4 | high >> 6 << 4), axis=1)
    whole = _half(blocks, 0).astype(np.float32), _half(blocks, 2).astype(np.float32)
    return (whole[0] * scales).astype(np.float16), (-whole[1] * minima).astype(np.float16)


def _q4_k(blocks: _Array) -> _Unpacked:
    codes = _nibbles(blocks[:, 16:].reshape(-1, 4, 32))
    return codes.reshape(len(blocks), 256), *_factors(blocks)


def _q5_k(blocks: _Array) -> _Unpacked:
    codes = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    fifth = (blocks[:, None, 16:48] >> shifts & 1) << 4
    return (codes | fifth).reshape(len(blocks), 256), *_factors(blocks)


def _q6_k(blocks: _Array) -> _Unpacked:
    """Of each 128 columns the low 4 bits are 64 bytes, and the high 2 bits 32."""
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    high = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & 3) << 4
    # They count from 32 below zero, and ours from 128.
    codes = (low | high).reshape(len(blocks), 256) + 96
    factors = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    scale = (_half(blocks, 208).astype(np.float32) * factors).astype(np.float16)
    return codes, scale, scale * np.float16(-128)


_UNPACK = {
    Kind.Q4_0: _q4_0, Kind.Q4_1: _q4_1, Kind.Q5_0: _q5_0, Kind.Q5_1: _q5_1, Kind.Q8_0: _q8_0,
    Kind.Q4_K: _q4_k, Kind.Q5_K: _q5_k, Kind.Q6_K: _q6_k,
}  # fmt: skip
