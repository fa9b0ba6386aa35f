"""A transformer's step as a list of operations for kernels.cpp, and the memory that it works in."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor

from glmbot.native.operations import Kind, Operation, drawn_early
from glmbot.native.weights import BLOCK, Weight, WeightKind

__all__ = ["Buffer", "Exchange", "Program", "ProgramBuilder", "Rows", "Runs", "StoredLayer"]

Runs = tuple[tuple[int, int], ...]
"""Of each process, from which column to which."""
Exchange = Callable[[Tensor, Tensor, Runs], None]
"""Given what this process has, float32 [tokens, its columns], fills [tokens, all columns] with what all have."""

_LANES = 16


class _StepArguments(ctypes.Structure):
    _fields_ = (
        ("tokens", ctypes.c_int32), ("drawing", ctypes.c_int32), ("place", ctypes.c_void_p),
        ("base", ctypes.c_void_p), ("count", ctypes.c_void_p), ("drawn", ctypes.c_void_p),
        ("cosines", ctypes.c_void_p), ("sines", ctypes.c_void_p), ("angles", ctypes.c_int32),
        ("cache_float32", ctypes.c_int32), ("capacity", ctypes.c_int64), ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p), ("buffers", ctypes.c_void_p), ("widths", ctypes.c_void_p),
        ("codes", ctypes.c_void_p), ("code_scale", ctypes.c_void_p), ("code_sum", ctypes.c_void_p),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rows:
    """The tokens of a step: hidden float32 [tokens, hidden]; places, bases, counts int32 [tokens], of the arena:
    where a token's key goes, where its sequence begins, how many keys it sees; drawn int32 [drawing]; cosines
    and sines float32 [tables, tokens, angles], or none without rotary positions."""

    hidden: Tensor
    places: Tensor
    bases: Tensor
    counts: Tensor
    drawn: Tensor
    rotation: tuple[Tensor, Tensor] | None


class StoredLayer(Protocol):
    """See `glmbot.native.linear.NativeLinear`."""

    in_features: int
    kind: WeightKind
    activation_run: int

    def describe(self) -> Weight: ...


@dataclass(frozen=True, slots=True)
class Buffer:
    """A place for float32 [tokens, width]."""

    index: int
    width: int


class ProgramBuilder:
    """Operations in order. Raises ValueError for sizes that the kernels have no way to compute."""

    def __init__(self, hidden: int) -> None:
        self._ops: list[Operation] = []
        self._kept: list[object] = []
        self._widths: list[int] = []
        self._exchanges: list[_Exchanged] = []
        self.widest = 0
        self.hidden = self.buffer(hidden)

    def buffer(self, width: int) -> Buffer:
        self._widths.append(width)
        return Buffer(len(self._widths) - 1, width)

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
        """RMS norm, or layer norm when `centred`, of `pieces` neighbouring parts of weight's width."""
        width = weight.shape[0]
        self._whole(width)
        self._add(
            Kind.NORM, src=src.index, dst=dst.index, src_at=at, dst_at=at, width=width, a=int(centred), b=pieces,
            x=eps, p=self._floats(weight), q=None if bias is None else self._floats(bias),
        )  # fmt: skip

    def linear(
        self, src: Buffer, dst: Buffer, layers: Sequence[StoredLayer], *, at: int = 0, adds: bool = False
    ) -> None:
        """Results of several layers of one input, beside each other from column `at` of dst on."""
        width = layers[0].in_features
        if any(layer.in_features != width or layer.kind != layers[0].kind for layer in layers):
            raise ValueError("layers of one product differ in input or format")
        self.widest = max(self.widest, width)
        # Of layers that want their activations rounded in other ways each has an operation of its own.
        for _, alike in groupby(((layer, layer.describe()) for layer in layers), _rounding):
            described = list(alike)
            weights = (Weight * len(described))(*(weight for _, weight in described))
            self._kept.append(weights)
            self._add(
                Kind.LINEAR, src=src.index, dst=dst.index, dst_at=at, width=width, a=len(described), b=int(adds),
                c=described[0][0].activation_run, p=ctypes.addressof(weights),
            )  # fmt: skip
            at += sum(weight.rows for _, weight in described)

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
        """Turn the first 2 · angles columns of each head, by one of the step's tables."""
        self._add(
            Kind.ROTATE, src=buffer.index, dst=buffer.index, src_at=at, a=heads, b=stride, c=angles,
            d=int(neighbours), e=table,
        )  # fmt: skip

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
        """columns: of the first query, key and value; strides: from query head to query head, from key head to
        key head. cap: scores become cap · tanh(score / cap); 0 leaves them."""
        self._whole(head_dim)
        if head_dim > 256:
            raise ValueError(f"heads of {head_dim} are too wide")
        self._add(
            Kind.ATTEND, src=src.index, dst=dst.index, src_at=columns[0], width=columns[1], p=columns[2], a=heads,
            b=kv_heads, c=head_dim, d=strides[0], e=strides[1], f=layer, g=window or 0, x=scaling, y=cap,
        )  # fmt: skip

    def silu_product(self, src: Buffer, dst: Buffer, width: int) -> None:
        """silu(first `width` columns) · the next `width` columns."""
        self._whole(width)
        self._add(Kind.ACTIVATE, src=src.index, dst=dst.index, width=width, a=0, b=width)

    def gelu(self, src: Buffer, dst: Buffer, width: int, *, exactly: bool = False) -> None:
        """The tanh form, or the erf form."""
        self._whole(width)
        self._add(Kind.ACTIVATE, src=src.index, dst=dst.index, width=width, a=4 if exactly else 1)

    def gelu_product(self, src: Buffer, dst: Buffer, width: int) -> None:
        """First `width` columns · gelu(the next `width` columns), the erf form."""
        self._whole(width)
        self._add(Kind.ACTIVATE, src=src.index, dst=dst.index, width=width, a=2, b=width)

    def gelu_gate(self, src: Buffer, dst: Buffer, width: int, *, exactly: bool = False) -> None:
        """gelu(first `width` columns) · the next `width` columns, in the tanh form or the erf form."""
        self._whole(width)
        if exactly:
            self._add(Kind.ACTIVATE, src=src.index, dst=dst.index, src_at=width, width=width, a=2, b=0)
        else:
            self._add(Kind.ACTIVATE, src=src.index, dst=dst.index, width=width, a=3, b=width)

    def squared_relu(self, src: Buffer, dst: Buffer, width: int) -> None:
        self._whole(width)
        self._add(Kind.ACTIVATE, src=src.index, dst=dst.index, width=width, a=5)

    def cap(self, buffer: Buffer, most: float) -> None:
        """most · tanh(it / most)"""
        self._whole(buffer.width)
        self._add(Kind.ACTIVATE, src=buffer.index, dst=buffer.index, width=buffer.width, a=6, x=most)

    def scale(self, src: Buffer, dst: Buffer, factor: float, *, keeps: float = 0.0) -> None:
        """dst = factor · src + keeps · dst"""
        self._add(Kind.SCALE, src=src.index, dst=dst.index, width=src.width, x=factor, y=keeps)

    def exchange(self, src: Buffer, dst: Buffer, runs: Runs) -> None:
        """dst = the first columns of src of each process, beside each other as the runs say."""
        self._exchanges.append(_Exchanged(len(self._ops), src.index, dst.index, runs))

    def gather(self, src: Buffer, dst: Buffer) -> None:
        """From here on there are only the rows that draw."""
        self._add(Kind.GATHER, src=src.index, dst=dst.index, width=src.width)

    def build(self, library: Any, logits: Buffer) -> Program:
        ops, widths = self._ops, self._widths
        # Exchanges are between numbered operations, and of all rows.
        if not self._exchanges:
            ops, widths = drawn_early(ops, widths)
        return Program(library, ops, widths, self.widest, logits, self._kept, self._exchanges)

    def _add(self, kind: int, **fields: Any) -> None:
        self._ops.append(Operation(kind=kind, **fields))

    def _floats(self, tensor: Tensor) -> int:
        kept = tensor.detach().float().contiguous().clone()
        self._kept.append(kept)
        return kept.data_ptr()

    @staticmethod
    def _whole(width: int) -> None:
        if width % _LANES:
            raise ValueError(f"a width of {width} is not a multiple of {_LANES}")


def _rounding(layer: tuple[StoredLayer, Weight]) -> tuple[int, bool, bool]:
    """What the kernels make of activations depends on this."""
    stored, weight = layer
    return stored.activation_run, bool(weight.minimum), weight.groups > 1


@dataclass(frozen=True, slots=True)
class _Exchanged:
    """Before the operation `at`, between two buffers."""

    at: int
    src: int
    dst: int
    runs: Runs


class Program:
    """Made by a ProgramBuilder. It points into the weights of its layers, which must outlive it."""

    def __init__(
        self,
        library: Any,
        ops: Sequence[Operation],
        widths: Sequence[int],
        widest: int,
        logits: Buffer,
        kept: Sequence[object],
        exchanges: Sequence[_Exchanged],
    ) -> None:
        self._library = library
        self._ops = (Operation * len(ops))(*ops)
        self._exchanges = exchanges
        self._widths = (ctypes.c_int32 * len(widths))(*widths)
        self._widest = widest
        self._logits = logits
        self._kept = kept
        self._room = 0
        self._drawing_room = 0
        self._buffers: list[Tensor] = []
        self._cache: list[weakref.ref[Tensor]] = []
        self._arguments = _StepArguments(widths=ctypes.addressof(self._widths))

    def run(
        self,
        rows: Rows,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        threads: int,
        exchange: Exchange | None = None,
    ) -> Tensor:
        """keys, values: of each layer [kv_heads, capacity, head_dim], bfloat16 or float32, where the new ones are
        written. exchange: for a program that several processes share. Returns logits float32 [drawing,
        vocabulary]; they are overwritten by the next run."""
        tokens, drawing = rows.hidden.shape[0], rows.drawn.shape[0]
        self._make_room(tokens, drawing)
        self._buffers[0][:tokens].copy_(rows.hidden)
        arguments = self._arguments
        arguments.tokens, arguments.drawing = tokens, drawing
        arguments.place, arguments.base = rows.places.data_ptr(), rows.bases.data_ptr()
        arguments.count, arguments.drawn = rows.counts.data_ptr(), rows.drawn.data_ptr()
        if rows.rotation is not None:
            cosines, sines = rows.rotation
            arguments.cosines, arguments.sines = cosines.data_ptr(), sines.data_ptr()
            arguments.angles = cosines.shape[-1]
        self._point_to(keys, values)
        done = 0
        for each in self._exchanges:
            self._compute(done, each.at, threads)
            if exchange is None:
                raise RuntimeError("the program is shared, and nobody was named to share it with")
            exchange(self._buffers[each.src][:tokens], self._buffers[each.dst][:tokens], each.runs)
            done = each.at
        self._compute(done, len(self._ops), threads)
        return self._buffers[self._logits.index][:drawing]

    def _point_to(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """They are the same from step to step, but for a change of precision."""
        tensors = (*keys, *values)
        known = len(tensors) == len(self._cache)
        if known and all(seen() is tensor for seen, tensor in zip(self._cache, tensors, strict=True)):
            return
        # Held weakly: what is changed to another precision goes layer by layer.
        self._cache = [weakref.ref(tensor) for tensor in tensors]
        self._cache_pointers = key_pointers, value_pointers = _pointers(keys), _pointers(values)
        arguments = self._arguments
        arguments.keys, arguments.values = ctypes.addressof(key_pointers), ctypes.addressof(value_pointers)
        if keys:
            arguments.capacity = keys[0].shape[1]
            arguments.cache_float32 = int(keys[0].dtype == torch.float32)

    def _compute(self, begin: int, end: int, threads: int) -> None:
        if begin < end:
            first = ctypes.byref(self._ops, begin * ctypes.sizeof(Operation))
            self._library.glmbot_step(first, end - begin, ctypes.byref(self._arguments), threads)

    def _make_room(self, tokens: int, drawing: int) -> None:
        if tokens <= self._room and drawing <= self._drawing_room:
            return
        self._room, self._drawing_room = max(tokens, self._room), max(drawing, self._drawing_room, 1)
        self._buffers = [
            torch.zeros(self._drawing_room if index == self._logits.index else self._room, width)
            for index, width in enumerate(self._widths)
        ]
        blocks = -(-self._widest // BLOCK)
        self._codes = torch.zeros(self._room, self._widest, dtype=torch.int8)
        # Rounded activations take its place where weights are bfloat16.
        self._code_scale = torch.zeros(self._room, self._widest)
        self._code_sum = torch.zeros(self._room, blocks)
        self._pointers = _pointers(self._buffers)
        arguments = self._arguments
        arguments.buffers = ctypes.addressof(self._pointers)
        arguments.codes, arguments.code_scale = self._codes.data_ptr(), self._code_scale.data_ptr()
        arguments.code_sum = self._code_sum.data_ptr()


def _pointers(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
