"""A linear layer with int8 weights and float activations (weight-only quantisation).

Per output row, symmetric: scale = max|w| / 127 in the activations' dtype, q = round(w / scale), as in the
published ChatGLM checkpoints and LLM.int8()'s row-wise baseline (Dettmers et al. 2022, arXiv:2208.07339).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Int8Linear", "quantize_rows"]

_LARGEST = 127
# Up to this many rows torch's int8 product reads the packed weights once and wins; above, the weights are
# widened once and the ordinary product does the work.
_PACKED_ROWS = 4


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight: float [rows, columns]. Returns int8 [rows, columns] and float32 scales [rows].

    An all-zero row gets scale 1, so that nothing is divided by zero.
    Raises ValueError when the weights hold NaN or infinity.
    """
    weight = weight.float()
    largest = weight.abs().amax(1)
    if not bool(torch.isfinite(largest).all()):
        raise ValueError("weights hold NaN or infinity")
    scale = torch.where(largest > 0, largest / _LARGEST, torch.ones_like(largest))
    quantized = torch.round(weight / scale[:, None]).clamp_(-_LARGEST, _LARGEST)
    return quantized.to(torch.int8), scale


class Int8Linear(nn.Module):
    """Stands where an nn.Linear stood. Buffers: weight int8 [out, in], scale [out]; bias [out] or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        quantized, scale = quantize_rows(weight)
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", quantized)
        self.register_buffer("scale", scale.to(dtype))
        self.register_buffer("bias", None if bias is None else bias.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in], in the scale's dtype. Returns [..., out]."""
        weight: Tensor = self.get_buffer("weight")
        scale: Tensor = self.get_buffer("scale")
        rows = x.reshape(-1, self.in_features)
        if rows.shape[0] <= _PACKED_ROWS and x.device.type == "cpu":
            out = torch._weight_int8pack_mm(rows.contiguous(), weight, scale)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
        else:
            out = nn.functional.linear(rows, weight.to(x.dtype)) * scale
        bias: Tensor | None = self._buffers["bias"]
        if bias is not None:
            out = out + bias
        return out.reshape(*x.shape[:-1], self.out_features)
