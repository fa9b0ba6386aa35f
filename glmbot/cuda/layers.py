"""Linear layers as products on a card read them: where their weights are, and in which form. Nothing is copied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glmbot.models.targets import NotNativeError
from glmbot.quantization.cpm import CpmLinear
from glmbot.quantization.formats import Groups, dequantize, dequantize_groups, unpack_nibbles
from glmbot.quantization.linear import GroupedLinear, WidenedLinear

__all__ = ["CardLayer", "card_layer"]

_LANE = {"float": 8, "rows8": 16, "runs8": 16, "groups8": 16, "rows4": 32, "runs4": 32, "groups4": 32}
"""Columns that one lane of a kernel reads at a time, 16 bytes of weights."""


@dataclass(frozen=True, slots=True)
class CardLayer:
    """form: as the kernels in products.cuh call it. codes: floats [out, in] or packed weights; scale, minimum:
    float16, of each row, run or group; bias: float32."""

    form: str
    out_features: int
    in_features: int
    codes: Tensor
    scale: Tensor | None
    minimum: Tensor | None
    bias: Tensor | None
    groups: int

    def widened(self) -> Tensor:
        """Float [out, in], as every device multiplies it."""
        codes, scale, minimum = self.codes, self.scale, self.minimum
        if scale is None:
            return codes
        if minimum is None:
            return dequantize(unpack_nibbles(codes) if self.form.endswith("4") else codes, scale)
        if self.form == "groups4":
            codes = torch.stack((codes & 0x0F, codes >> 4), dim=2).flatten(1)
        return dequantize_groups(Groups(codes, scale, minimum, 4 if self.form == "groups4" else 8))


def card_layer(module: nn.Module) -> CardLayer:
    """Raises NotNativeError."""
    part: Any = module
    made: CardLayer
    match module:
        case GroupedLinear():
            scale = module.get_buffer("weight_scale")
            made = CardLayer(
                f"groups{module.bits}", module.out_features, module.in_features, module.get_buffer("weight"),
                scale, module.get_buffer("weight_minimum"), _bias(module), scale.shape[1],
            )  # fmt: skip
        case WidenedLinear() | CpmLinear():
            scale = module.get_buffer("weight_scale")
            runs = scale.shape[1] if scale.dim() > 1 else 1
            made = CardLayer(
                f"{'rows' if scale.dim() == 1 else 'runs'}{module.bits}", module.out_features,
                module.in_features, module.get_buffer("weight"), scale, None, _bias(module), runs,
            )  # fmt: skip
        case _ if isinstance(getattr(part, "weight", None), Tensor) and part.weight.dim() == 2:
            weight: Tensor = part.weight.detach()
            if not weight.is_floating_point():
                raise NotNativeError(f"weights of {weight.dtype}")
            rows, columns = weight.shape
            made = CardLayer("float", rows, columns, weight, None, None, _bias(module), 1)
        case _:
            raise NotNativeError(type(module).__name__)
    wide = made.in_features // made.groups
    if made.in_features % made.groups or wide % _LANE[made.form] or not made.codes.is_contiguous():
        raise NotNativeError(f"{made.in_features} columns in {made.groups} groups")
    return made


def _bias(module: nn.Module) -> Tensor | None:
    bias: Tensor | None = getattr(module, "bias", None)
    return None if bias is None else bias.detach().float()
