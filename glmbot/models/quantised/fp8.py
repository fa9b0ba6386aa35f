"""Weights of 8-bit floats with a scale for the whole tensor, for each row, or for each block."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from glmbot.models.weight_files import StoredTensor
from glmbot.quantization.formats import Groups

__all__ = ["FP8", "ScaledTensor"]

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


@dataclass(frozen=True, slots=True)
class ScaledTensor:
    weight: StoredTensor
    scale: StoredTensor
    block: tuple[int, int] | None
    """Rows and columns that share a scale, where the configuration says it."""
    bits: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return *self.weight.files, *self.scale.files

    def read(self) -> Tensor:
        """Float32 [rows, columns]. Raises ValueError for scales that do not fit."""
        weight, scale = self.weight.read(), self.scale.read().float()
        if weight.dtype not in FP8 or weight.dim() != 2:
            raise ValueError(f"is {weight.dtype} {list(weight.shape)} beside a scale")
        if not bool(torch.isfinite(scale).all()):
            raise ValueError("its scales hold NaN or infinity")
        rows, columns = weight.shape
        if scale.numel() == 1:
            return weight.float() * scale.reshape(())
        if scale.shape in ((rows,), (rows, 1)):
            return weight.float() * scale.reshape(rows, 1)
        high, wide = self.block or (0, 0)
        if not high or scale.shape != (-(-rows // high), -(-columns // wide)):
            raise ValueError(
                f"has {list(weight.shape)} weights and {list(scale.shape)} scales in blocks of {high} × {wide}"
            )
        # A block may be larger than the weight.
        high, wide = min(high, rows), min(wide, columns)
        spread = scale.repeat_interleave(high, 0)[:rows].repeat_interleave(wide, 1)[:, :columns]
        return weight.float() * spread

    def groups(self) -> Groups | None:
        return None

    def release(self) -> None:
        self.weight.release()
        self.scale.release()
