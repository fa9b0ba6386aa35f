"""How weights lie in memory for kernels.cpp: in blocks of 16 output rows."""

from __future__ import annotations

import ctypes
from enum import IntEnum

import torch
from torch import Tensor

from glmbot.native.large_pages import on_large_pages

__all__ = [
    "BLOCK",
    "Weight",
    "WeightKind",
    "pack_bytes",
    "pack_floats",
    "pack_nibbles_of_rows",
    "pack_scales",
]

_LANES = 16
BLOCK = 32
"""Columns that share one scale of the quantised activations."""


class WeightKind(IntEnum):
    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2
    INT4 = 3
    ROWS_BFLOAT16 = 4
    ROWS_FLOAT32 = 5


class Weight(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int32), ("rows", ctypes.c_int32), ("columns", ctypes.c_int32),
        ("groups", ctypes.c_int32), ("data", ctypes.c_void_p), ("scale", ctypes.c_void_p),
        ("minimum", ctypes.c_void_p), ("bias", ctypes.c_void_p),
    )  # fmt: skip


def pack_floats(weight: Tensor) -> Tensor:
    """[rows, columns] float32 or bfloat16 to [rows / 16, columns, 16], or [rows / 16, columns / 2, 16, 2]."""
    blocks = _in_blocks(weight)
    if weight.dtype == torch.float32:
        return on_large_pages(blocks.permute(0, 2, 1))
    return on_large_pages(blocks.unflatten(2, (-1, 2)).permute(0, 2, 1, 3))


def pack_bytes(codes: Tensor) -> Tensor:
    """uint8 [rows, columns] to [rows / 16, columns / 4, 16, 4]."""
    return on_large_pages(_in_blocks(codes).unflatten(2, (-1, 4)).permute(0, 2, 1, 3))


def pack_nibbles_of_rows(codes: Tensor) -> Tensor:
    """uint8 [rows, columns] of values below 16 to [rows / 16, columns / 8, 16, 4]: of 8 neighbouring columns the
    first four in the low nibbles."""
    eight = _in_blocks(codes).unflatten(2, (-1, 2, 4))
    return on_large_pages((eight[:, :, :, 0] | eight[:, :, :, 1] << 4).permute(0, 2, 1, 3))


def pack_scales(scale: Tensor) -> Tensor:
    """float16 [rows, groups] to [rows / 16, groups, 16]."""
    return on_large_pages(_in_blocks(scale).permute(0, 2, 1))


def _in_blocks(tensor: Tensor) -> Tensor:
    """[rows, n] to [rows / 16, 16, n], filled up with zeros."""
    missing = -tensor.shape[0] % _LANES
    if missing:
        tensor = torch.cat((tensor, tensor.new_zeros(missing, tensor.shape[1])))
    return tensor.unflatten(0, (-1, _LANES))
