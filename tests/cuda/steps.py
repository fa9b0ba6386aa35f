"""Steps of a few rows for single operations, and what is around them in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glmbot.cuda.program import Scratch, State
from glmbot.cuda.row_operations import Activation
from glmbot.native.program import Buffer, Rows

__all__ = [
    "EPS",
    "activated_exactly",
    "bordered",
    "borders_hold",
    "buffer_of",
    "close",
    "integers",
    "state_of",
]

EPS = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-23}
"""Half of the step from 1 to the next number, and for bfloat16 the whole of it."""
_BORDER = 8


def bordered(inner: Tensor) -> Tensor:
    """A copy of [rows, columns] in the midst of NaN: whoever reads beside it has NaN, too."""
    rows, columns = inner.shape
    wide = -(-columns // _BORDER) * _BORDER + 2 * _BORDER
    around = torch.full((rows + 2, wide), float("nan"), dtype=inner.dtype)
    made = around[1:-1, _BORDER : _BORDER + columns]
    return made.copy_(inner)


def borders_hold(made: Tensor) -> bool:
    """Whether nobody wrote beside what `bordered` made."""
    around = torch.as_strided(made, (made.shape[0] + 2, made.stride(0)), (made.stride(0), 1), 0)
    outside = torch.ones(around.shape, dtype=torch.bool)
    outside[1:-1, _BORDER : _BORDER + made.shape[1]] = False
    return bool(around[outside].isnan().all())


def buffer_of(index: int, tensor: Tensor) -> Buffer:
    return Buffer(index, tensor.shape[1])


def state_of(
    buffers: Sequence[Tensor],
    *,
    rows: Rows | None = None,
    tokens: int = 0,
    dtype: torch.dtype = torch.float16,
    multiprocessors: int = 1,
) -> State:
    nothing = torch.zeros(0, dtype=torch.int32)
    scratch = Scratch(torch.device("cpu"), dtype)
    made = State(
        buffers, rows or Rows(torch.zeros(tokens, 1), nothing, nothing, nothing, nothing, None), scratch
    )
    made.multiprocessors = multiprocessors
    return made


def close(made: Tensor, exact: Tensor, tolerance: Tensor | float = 0.0) -> None:
    """Equal but for the rounding of the result, and for what its summands may be wrong by. exact: float64."""
    largest = torch.finfo(made.dtype).max
    beyond = exact.abs() > largest
    assert bool((made[beyond].double().abs() >= largest).all()), (
        "what is too large for the dtype is not infinite"
    )
    wrong = torch.where(beyond, 0.0, made.double() - exact).abs()
    allowed = tolerance + EPS[made.dtype] * (exact.abs() + tolerance) + 2.0**-24
    assert bool((wrong <= allowed).all()), (
        f"wrong by {float((wrong - allowed).nan_to_num(torch.inf).max())} more than allowed"
    )


def activated_exactly(x: Tensor, kind: int) -> Tensor:
    """x: float64."""
    match kind:
        case Activation.SILU:
            return torch.nn.functional.silu(x)
        case Activation.GELU_TANH:
            return torch.nn.functional.gelu(x, approximate="tanh")
        case Activation.GELU:
            return torch.nn.functional.gelu(x)
        case Activation.SQUARED_RELU:
            return torch.relu(x).square()
        case _:
            return x


def integers(numbers: list[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int32)
