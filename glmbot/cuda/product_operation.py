"""Products with the weights of linear layers, each byte of which is read once for all rows of a step of few."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from glmbot.cuda.kernels import Kernels
from glmbot.cuda.layers import CardLayer
from glmbot.cuda.program import FEW, Operation, Part, State
from glmbot.cuda.row_operations import Activation, activated
from glmbot.native.program import Buffer

__all__ = ["Product", "sets_of"]

_THREADS = 256
_ROWS_OF_SET = 16
# Sums that a block ends.
_ENDED = 8 * _THREADS
# Weights that a block widens.
_WIDENED = 8 * 4 * _THREADS
# Rows of a step that a kernel takes, eight at a time, and the sets of the weights' rows that its blocks may have.
_SETS = {1: (1,), 4: (1, 2, 3), 8: (1, 2)}


@dataclass(frozen=True, slots=True)
class Product(Operation):
    """Results of several layers of one input, beside each other from column `at` of dst on: activated where that
    is asked for, plus `factor` times what `other` has there, plus what is there where it `adds`."""

    part: ClassVar[Part] = Part.PRODUCTS
    src: Buffer
    dst: Buffer
    layers: tuple[CardLayer, ...]
    at: int = 0
    adds: bool = False
    activation: int = Activation.NONE
    other: Buffer | None = None
    factor: float = 0.0

    def ending(self, *, activation: int) -> Product:
        return replace(self, activation=activation)

    def beside(self, other: Buffer, factor: float) -> Product:
        """In place of adding to what is there: `factor` times what `other` has."""
        return replace(self, adds=False, other=other, factor=factor)

    def launch(self, state: State, kernels: Kernels) -> None:
        if not state.count:
            return
        at = self.at
        for layer in self.layers:
            if state.count <= FEW and state[self.src].dtype != torch.float32:
                self._few(state, kernels, layer, at)
            else:
                self._many(state, kernels, layer, at)
            at += layer.out_features

    def compute(self, state: State) -> None:
        at = self.at
        for layer in self.layers:
            self._plainly(state, layer, at)
            at += layer.out_features

    def _few(self, state: State, kernels: Kernels, layer: CardLayer, at: int) -> None:
        src, dst = state[self.src], state[self.dst][:, at:]
        other = src if self.other is None else state[self.other][:, at:]
        codes = layer.codes
        scale = codes if layer.scale is None else layer.scale
        tiles = next(each for each in _SETS if 8 * each >= state.count)
        sets = sets_of(layer.out_features, tiles, state.multiprocessors)
        kernels.launch(
            f"product_{layer.form}_{tiles}x{sets}{'f' if dst.dtype == torch.float32 else 'a'}",
            (-(-layer.out_features // (_ROWS_OF_SET * sets)), 1, 1), _THREADS, src, dst, codes, scale,
            scale if layer.minimum is None else layer.minimum, scale if layer.bias is None else layer.bias, other,
            state.count, layer.out_features, layer.in_features, layer.groups, src.stride(0), dst.stride(0),
            other.stride(0), int(layer.bias is not None), int(self.adds), self.activation, self.factor,
        )  # fmt: skip

    @staticmethod
    def _widened(state: State, kernels: Kernels, layer: CardLayer) -> Tensor:
        if layer.scale is None:
            return layer.codes
        made = state.scratch.take(state.scratch.dtype, layer.out_features * layer.in_features)
        kernels.launch(
            f"widen_{layer.form}", (-(-layer.out_features * layer.in_features // _WIDENED), 1, 1), _THREADS,
            layer.codes, layer.scale, layer.scale if layer.minimum is None else layer.minimum, made,
            layer.out_features, layer.in_features, layer.groups,
        )  # fmt: skip
        return made.view(layer.out_features, layer.in_features)

    def _many(self, state: State, kernels: Kernels, layer: CardLayer, at: int) -> None:
        src, dst = state[self.src], state[self.dst][:, at:]
        weight = self._widened(state, kernels, layer)
        made = torch.nn.functional.linear(src.to(weight.dtype), weight)
        other = made if self.other is None else state[self.other][:, at:]
        kernels.launch(
            f"end_{'f' if dst.dtype == torch.float32 else 'a'}",
            (-(-layer.out_features // _ENDED), state.count, 1), _THREADS, made, dst,
            made if layer.bias is None else layer.bias, other, made.stride(0), dst.stride(0), other.stride(0),
            layer.out_features, int(layer.bias is not None), int(self.adds), self.activation, self.factor,
        )  # fmt: skip

    def _plainly(self, state: State, layer: CardLayer, at: int) -> None:
        columns = slice(at, at + layer.out_features)
        src, dst = state[self.src], state[self.dst][:, columns]
        made = torch.nn.functional.linear(src, layer.widened().to(src.dtype)).float()
        if layer.bias is not None:
            made = made + layer.bias
        made = activated(made, self.activation)
        if self.other is not None:
            made = made + self.factor * state[self.other][:, columns].float()
        dst.copy_(made + dst.float() if self.adds else made)


def sets_of(out_features: int, tiles: int, multiprocessors: int) -> int:
    """How many sets of 16 rows a block of a product has: more of them read the step's rows more rarely, and leave
    multiprocessors idle at the end sooner."""

    def rounds(sets: int) -> int:
        blocks = -(-out_features // (_ROWS_OF_SET * sets))
        return -(-blocks // multiprocessors) * sets

    return min(_SETS[tiles], key=lambda sets: (rounds(sets), -sets))
