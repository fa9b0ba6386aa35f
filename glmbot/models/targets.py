"""For whom a model is lowered: what a target must be able to hold and to compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from glmbot.native.linear import NativeLinear
from glmbot.native.program import Buffer, Program, ProgramBuilder, Runs
from glmbot.native.weights import WeightKind

__all__ = ["Builder", "Native", "NotNativeError", "Target"]

P_co = TypeVar("P_co", covariant=True)
_ROW_KINDS = {torch.bfloat16: WeightKind.ROWS_BFLOAT16, torch.float32: WeightKind.ROWS_FLOAT32}


class NotNativeError(Exception):
    """A layer is in a form that the target's kernels don't read."""


class Builder(Protocol):
    """Operations in order; what each of them computes is said by `glmbot.native.program.ProgramBuilder`. Raises
    ValueError for sizes that the target has no way to compute."""

    hidden: Buffer

    def buffer(self, width: int) -> Buffer: ...

    def norm(
        self, src: Buffer, dst: Buffer, weight: Tensor, eps: float, *, bias: Tensor | None = None,
        centred: bool = False, at: int = 0, pieces: int = 1,
    ) -> None: ...  # fmt: skip

    def linear(
        self, src: Buffer, dst: Buffer, layers: Sequence[Any], *, at: int = 0, adds: bool = False
    ) -> None:
        """layers: as the target's `stored` gave them."""
        ...

    def rotate(
        self,
        buffer: Buffer,
        at: int,
        *,
        heads: int,
        stride: int,
        angles: int,
        neighbours: bool,
        table: int = 0,
    ) -> None: ...

    def attend(
        self, src: Buffer, dst: Buffer, *, layer: int, heads: int, kv_heads: int, head_dim: int,
        columns: tuple[int, int, int], strides: tuple[int, int], scaling: float, window: int | None = None,
        cap: float = 0.0,
    ) -> None: ...  # fmt: skip

    def silu_product(self, src: Buffer, dst: Buffer, width: int) -> None: ...

    def gelu(self, src: Buffer, dst: Buffer, width: int, *, exactly: bool = False) -> None: ...

    def gelu_product(self, src: Buffer, dst: Buffer, width: int) -> None: ...

    def gelu_gate(self, src: Buffer, dst: Buffer, width: int, *, exactly: bool = False) -> None: ...

    def squared_relu(self, src: Buffer, dst: Buffer, width: int) -> None: ...

    def cap(self, buffer: Buffer, most: float) -> None: ...

    def scale(self, src: Buffer, dst: Buffer, factor: float, *, keeps: float = 0.0) -> None: ...

    def exchange(self, src: Buffer, dst: Buffer, runs: Runs) -> None: ...

    def gather(self, src: Buffer, dst: Buffer) -> None: ...


class Target(Protocol[P_co]):
    """Makes programs of its own kind."""

    def builder(self, hidden: int) -> Builder: ...

    def stored(self, *layers: nn.Module) -> list[Any]:
        """Layers of one input as the target's products read them. Raises NotNativeError."""
        ...

    def head(self, module: nn.Module) -> Any:
        """The output head, which may be the table of embeddings too. Raises NotNativeError."""
        ...

    def build(self, builder: Any, logits: Buffer) -> P_co:
        """builder: one that this target made."""
        ...


class Native:
    """The C++ kernels, on the CPU."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def builder(self, hidden: int) -> ProgramBuilder:
        return ProgramBuilder(hidden)

    def stored(self, *layers: nn.Module) -> list[NativeLinear]:
        if not all(isinstance(layer, NativeLinear) for layer in layers):
            raise NotNativeError
        return cast(list[NativeLinear], list(layers))

    def head(self, module: nn.Module) -> NativeLinear:
        """A float head stays row by row, as it often is the table of embeddings too."""
        if isinstance(module, NativeLinear):
            return module
        weight: Tensor = cast(Any, module).weight
        if weight.dtype not in _ROW_KINDS:
            raise NotNativeError
        rows, columns = weight.shape
        bias: Tensor | None = getattr(module, "bias", None)
        return NativeLinear(_ROW_KINDS[weight.dtype], rows, columns, weight.data, bias=bias)

    def build(self, builder: ProgramBuilder, logits: Buffer) -> Program:
        return builder.build(self._library, logits)
