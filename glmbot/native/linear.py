"""A linear layer whose weights lie as kernels.cpp reads them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glmbot.native.library import kernels
from glmbot.native.program import ProgramBuilder, Rows
from glmbot.native.weights import BLOCK, Weight, WeightKind

__all__ = ["NativeLinear"]

_COLUMNS = {
    WeightKind.FLOAT32: 1,
    WeightKind.BFLOAT16: 2,
    WeightKind.INT8: BLOCK,
    WeightKind.INT4: BLOCK,
    WeightKind.ROWS_BFLOAT16: 16,
    WeightKind.ROWS_FLOAT32: 16,
}
_NONE = torch.zeros(0, dtype=torch.int32)


class NativeLinear(nn.Module):
    """Stands where an nn.Linear stood. Products are summed in float32; with integer weights the activations are
    quantised too, `activation_run` columns by one scale: 32 or 256.

    Buffers: weight, as packed by `glmbot.native.weights`; weight_scale and weight_minimum float16, likewise; bias
    float32 [out] or None.
    """

    def __init__(
        self,
        kind: WeightKind,
        out_features: int,
        in_features: int,
        weight: Tensor,
        *,
        scale: Tensor | None = None,
        minimum: Tensor | None = None,
        bias: Tensor | None = None,
        activation_run: int = BLOCK,
    ) -> None:
        """weight, scale, minimum: packed. Raises ValueError for sizes that the kernels can't compute."""
        super().__init__()
        rounded_apart = activation_run != BLOCK and in_features % activation_run
        if not self.fits(kind, in_features) or rounded_apart:
            raise ValueError(f"{in_features} columns can't be packed as {kind.name}")
        self.kind = kind
        self.out_features = out_features
        self.in_features = in_features
        self.activation_run = activation_run
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", scale)
        self.register_buffer("weight_minimum", minimum)
        self.register_buffer("bias", None if bias is None else bias.float().contiguous())

    @staticmethod
    def fits(kind: WeightKind, in_features: int) -> bool:
        return in_features % _COLUMNS[kind] == 0

    def describe(self) -> Weight:
        """Pointers into this layer's buffers; they hold as long as the buffers do."""
        names = ("weight", "weight_scale", "weight_minimum", "bias")
        data, scale, minimum, bias = (
            None if self._buffers[name] is None else self.get_buffer(name).data_ptr() for name in names
        )
        groups = 0 if scale is None else self.get_buffer("weight_scale").shape[1]
        return Weight(
            kind=self.kind,
            rows=self.out_features,
            columns=self.in_features,
            groups=groups,
            data=data,
            scale=scale,
            minimum=minimum,
            bias=bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., in]. Returns [..., out] in x's dtype. Inside a program this is not called."""
        library = kernels()
        if library is None:
            raise RuntimeError("the kernels are not here")
        rows = x.reshape(-1, self.in_features).float()
        builder = ProgramBuilder(self.in_features)
        out = builder.buffer(self.out_features)
        builder.linear(builder.hidden, out, [self])
        # Logits are as many as there are rows that draw: all of them here.
        drawn = torch.zeros(rows.shape[0], dtype=torch.int32)
        program = builder.build(library, out)
        made = program.run(Rows(rows, _NONE, _NONE, _NONE, drawn, None), (), (), torch.get_num_threads())
        return made.to(x.dtype).reshape(*x.shape[:-1], self.out_features)
