"""Operations on each row by itself: norms, activations, sums, the rows that draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from glmbot.cuda.kernels import Kernels
from glmbot.cuda.program import Operation, Part, State
from glmbot.native.program import Buffer

__all__ = ["Activate", "Activation", "Gather", "Norm", "Scale", "activated"]

_THREADS = 256


class Activation:
    """As `activated` in primitives.cuh numbers them."""

    SILU, GELU_TANH, GELU, SQUARED_RELU, CAP = range(5)
    NONE = -1


def activated(x: Tensor, activation: int, most: float = 0.0) -> Tensor:
    """x: float32."""
    match activation:
        case Activation.SILU:
            return torch.nn.functional.silu(x)
        case Activation.GELU_TANH:
            return torch.nn.functional.gelu(x, approximate="tanh")
        case Activation.GELU:
            return torch.nn.functional.gelu(x)
        case Activation.SQUARED_RELU:
            return torch.relu(x).square()
        case Activation.CAP:
            return torch.tanh(x / most) * most
        case _:
            return x


@dataclass(frozen=True, slots=True)
class Norm(Operation):
    """RMS norm, or layer norm when `centred`, of `pieces` neighbouring parts of the weight's width."""

    part: ClassVar[Part] = Part.ROWS
    src: Buffer
    dst: Buffer
    weight: Tensor
    bias: Tensor | None
    eps: float
    centred: bool
    at: int
    pieces: int

    def launch(self, state: State, kernels: Kernels) -> None:
        src, dst, weight = state[self.src], state[self.dst], self.weight
        width = weight.shape[0]
        kernels.launch(
            f"norm_{_forms(src, dst)}", (self.pieces, state.count, 1), _THREADS, src, dst, weight,
            weight if self.bias is None else self.bias, src.stride(0), dst.stride(0), self.at, width,
            int(self.bias is not None), int(self.centred), self.eps,
        )  # fmt: skip

    def compute(self, state: State) -> None:
        columns = slice(self.at, self.at + self.weight.shape[0] * self.pieces)
        x = state[self.src][:, columns].float().unflatten(1, (self.pieces, -1))
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight
        if self.bias is not None:
            x = x + self.bias
        state[self.dst][:, columns].copy_(x.flatten(1))


@dataclass(frozen=True, slots=True)
class Activate(Operation):
    """dst = activation(`width` columns of src from `gate_at` on), times those from `other_at` on where that is not
    below 0."""

    part: ClassVar[Part] = Part.ROWS
    src: Buffer
    dst: Buffer
    width: int
    activation: int
    gate_at: int = 0
    other_at: int = -1
    most: float = 0.0

    def launch(self, state: State, kernels: Kernels) -> None:
        src, dst = state[self.src], state[self.dst]
        kernels.launch(
            f"activate_{_forms(src, dst)}", (_blocks(self.width), state.count, 1), _THREADS, src, dst,
            src.stride(0), dst.stride(0), self.gate_at, self.other_at, self.width, self.activation, self.most,
        )  # fmt: skip

    def compute(self, state: State) -> None:
        src = state[self.src].float()
        made = activated(src[:, self.gate_at : self.gate_at + self.width], self.activation, self.most)
        if self.other_at >= 0:
            made = made * src[:, self.other_at : self.other_at + self.width]
        state[self.dst][:, : self.width].copy_(made)


@dataclass(frozen=True, slots=True)
class Scale(Operation):
    """dst = factor · src + keeps · dst"""

    part: ClassVar[Part] = Part.ROWS
    src: Buffer
    dst: Buffer
    factor: float
    keeps: float

    def launch(self, state: State, kernels: Kernels) -> None:
        src, dst = state[self.src], state[self.dst]
        kernels.launch(
            f"scale_{_forms(src, dst)}", (_blocks(self.src.width), state.count, 1), _THREADS, src, dst,
            src.stride(0), dst.stride(0), self.src.width, self.factor, self.keeps,
        )  # fmt: skip

    def compute(self, state: State) -> None:
        dst = state[self.dst]
        made = state[self.src].float() * self.factor
        dst.copy_(made + dst.float() * self.keeps if self.keeps else made)


@dataclass(frozen=True, slots=True)
class Gather(Operation):
    """From here on there are only the rows that draw."""

    part: ClassVar[Part] = Part.ROWS
    src: Buffer
    dst: Buffer

    def launch(self, state: State, kernels: Kernels) -> None:
        drawn = state.rows.drawn
        src, dst = state.whole(self.src), state.whole(self.dst)
        state.count = drawn.shape[0]
        if state.count:
            kernels.launch(
                f"gather_{_forms(src, dst)}", (_blocks(self.src.width), state.count, 1), _THREADS, src, dst,
                drawn, src.stride(0), dst.stride(0), self.src.width,
            )  # fmt: skip

    def compute(self, state: State) -> None:
        drawn = state.rows.drawn
        made = state.whole(self.src).index_select(0, drawn.long())
        state.count = drawn.shape[0]
        state[self.dst].copy_(made)


def _forms(src: Tensor, dst: Tensor) -> str:
    """How kernels name the elements that they read and write."""
    return "".join("f" if each.dtype == torch.float32 else "a" for each in (src, dst))


def _blocks(width: int) -> int:
    return -(-width // _THREADS)
