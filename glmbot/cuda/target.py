"""Lowering a model for a card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glmbot.cuda.attention_operation import MOST_TURNS, Attend, Turn, Turns
from glmbot.cuda.kernels import Kernels
from glmbot.cuda.layers import CardLayer, card_layer
from glmbot.cuda.product_operation import Product
from glmbot.cuda.program import CardProgram, Operation
from glmbot.cuda.row_operations import Activate, Activation, Gather, Norm, Scale
from glmbot.native.program import Buffer, Runs

__all__ = ["Card", "CardBuilder"]

_WIDEST_HEAD = 256
_LANES = 8


class CardBuilder:
    """Records operations; neighbours that one launch computes are put together."""

    def __init__(self, hidden: int, device: torch.device, dtype: torch.dtype) -> None:
        """dtype: of activations; what is added up from layer to layer, and logits, are float32."""
        self.device = device
        self._dtype = dtype
        self.operations: list[Operation] = []
        self.widths: list[tuple[int, torch.dtype]] = []
        self._turns: list[tuple[Buffer, Turn]] = []
        self.hidden = self._new(hidden, torch.float32)

    def buffer(self, width: int) -> Buffer:
        return self._new(width, self._dtype)

    def norm(
        self,
        src: Buffer,
        dst: Buffer,
        weight: Tensor,
        eps: float,
        *,
        bias: Tensor | None = None,
        centred: bool = False,
        at: int = 0,
        pieces: int = 1,
    ) -> None:
        self._add(
            Norm(
                src,
                dst,
                self._floats(weight),
                None if bias is None else self._floats(bias),
                eps,
                centred,
                at,
                pieces,
            )
        )

    def linear(
        self, src: Buffer, dst: Buffer, layers: Sequence[CardLayer], *, at: int = 0, adds: bool = False
    ) -> None:
        if any(layer.in_features != layers[0].in_features for layer in layers):
            raise ValueError("layers of one product differ in input")
        if src.width % _LANES:
            raise ValueError(f"an input of {src.width} columns is not a multiple of {_LANES}")
        made = Product(src, dst, tuple(layers), at, adds)
        before = self.operations[-1] if self.operations else None
        whole = at == 0 and sum(layer.out_features for layer in layers) == dst.width
        if (
            adds
            and whole
            and isinstance(before, Scale)
            and before.dst == dst
            and not before.keeps
            and not self._turns
        ):
            self.operations.pop()
            made = made.beside(before.src, before.factor)
        self._add(made)

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
    ) -> None:
        if len(self._turns) == MOST_TURNS:
            raise ValueError(f"more than {MOST_TURNS} rotations one after another")
        self._turns.append((buffer, Turn(at, heads, stride, angles, neighbours, table)))

    def attend(
        self,
        src: Buffer,
        dst: Buffer,
        *,
        layer: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        columns: tuple[int, int, int],
        strides: tuple[int, int],
        scaling: float,
        window: int | None = None,
        cap: float = 0.0,
    ) -> None:
        if head_dim > _WIDEST_HEAD or head_dim % _LANES:
            raise ValueError(f"heads of {head_dim} are not computed here")
        turns: tuple[Turn, ...] = ()
        if all(buffer == src for buffer, _ in self._turns):
            turns = tuple(turn for _, turn in self._turns)
            self._turns = []
        self._add(
            Attend(
                src,
                dst,
                turns,
                layer,
                heads,
                kv_heads,
                head_dim,
                columns,
                strides,
                scaling,
                window or 0,
                cap,
            )
        )

    def silu_product(self, src: Buffer, dst: Buffer, width: int) -> None:
        self._add(Activate(src, dst, width, Activation.SILU, 0, width))

    def gelu(self, src: Buffer, dst: Buffer, width: int, *, exactly: bool = False) -> None:
        self._activate(src, dst, width, Activation.GELU if exactly else Activation.GELU_TANH)

    def gelu_product(self, src: Buffer, dst: Buffer, width: int) -> None:
        self._add(Activate(src, dst, width, Activation.GELU, width, 0))

    def gelu_gate(self, src: Buffer, dst: Buffer, width: int, *, exactly: bool = False) -> None:
        self._add(Activate(src, dst, width, Activation.GELU if exactly else Activation.GELU_TANH, 0, width))

    def squared_relu(self, src: Buffer, dst: Buffer, width: int) -> None:
        self._activate(src, dst, width, Activation.SQUARED_RELU)

    def cap(self, buffer: Buffer, most: float) -> None:
        self._add(Activate(buffer, buffer, buffer.width, Activation.CAP, most=most))

    def scale(self, src: Buffer, dst: Buffer, factor: float, *, keeps: float = 0.0) -> None:
        self._add(Scale(src, dst, factor, keeps))

    def exchange(self, src: Buffer, dst: Buffer, runs: Runs) -> None:
        raise ValueError("a program on a card is not shared by several processes")

    def gather(self, src: Buffer, dst: Buffer) -> None:
        self._add(Gather(src, dst))

    def _activate(self, src: Buffer, dst: Buffer, width: int, activation: int) -> None:
        """Of all that the product before it made, in one launch with it."""
        before = self.operations[-1] if self.operations else None
        if src == dst and width == dst.width and not self._turns and isinstance(before, Product):
            plain = before.activation == Activation.NONE and before.other is None and not before.adds
            if plain and before.dst == dst and before.at == 0:
                self.operations[-1] = before.ending(activation=activation)
                return
        self._add(Activate(src, dst, width, activation))

    def _add(self, operation: Operation) -> None:
        if self._turns and not isinstance(operation, Attend):
            buffer = self._turns[0][0]
            turns = tuple(turn for each, turn in self._turns if each == buffer)
            if len(turns) != len(self._turns):
                raise ValueError("rotations of several buffers at once")
            self._turns = []
            self.operations.append(Turns(buffer, turns, turns[0].stride))
        self.operations.append(operation)

    def _floats(self, tensor: Tensor) -> Tensor:
        return tensor.detach().to(self.device, torch.float32).contiguous()

    def _new(self, width: int, dtype: torch.dtype) -> Buffer:
        self.widths.append((width, dtype))
        return Buffer(len(self.widths) - 1, width)


class Card:
    """A card, by kernels of ours; or any device by plain torch, where there are none."""

    def __init__(self, device: torch.device, dtype: torch.dtype, kernels: Kernels | None) -> None:
        """dtype: of activations and cache."""
        self._device, self._dtype, self._kernels = device, dtype, kernels

    def builder(self, hidden: int) -> CardBuilder:
        return CardBuilder(hidden, self._device, self._dtype)

    def stored(self, *layers: nn.Module) -> list[CardLayer]:
        return [card_layer(layer) for layer in layers]

    def head(self, module: nn.Module) -> CardLayer:
        return self.stored(module)[0]

    def build(self, builder: Any, logits: Buffer) -> CardProgram:
        widths = list(builder.widths)
        widths[logits.index] = (logits.width, torch.float32)
        return CardProgram(builder.operations, widths, logits, self._device, self._dtype, self._kernels)
