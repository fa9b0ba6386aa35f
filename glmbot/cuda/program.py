"""A transformer's step as a list of operations on a card.

Each operation has two forms: a launch of ours, and plain torch, which also computes it where there is no card.
Nothing of a step is read by the host, and what a step of few rows reads and writes never moves, so that such a
step can be captured as a CUDA graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from glmbot.cuda.kernels import Kernels
from glmbot.native.program import Buffer, Rows

__all__ = ["FEW", "CardProgram", "Operation", "Part", "State", "Stretch"]

FEW = 64
"""Rows of a step whose memory never moves."""


class Part(StrEnum):
    """What our kernels compute, each to be given up by itself."""

    PRODUCTS = "products"
    ATTENTION = "attention"
    ROWS = "rows"


class Operation(ABC):
    part: ClassVar[Part]

    def reserve(self, scratch: Scratch, rows: int) -> None:  # noqa: B027
        """What a step of at most so many rows takes; most take nothing."""

    @abstractmethod
    def launch(self, state: State, kernels: Kernels) -> None: ...

    @abstractmethod
    def compute(self, state: State) -> None:
        """In plain torch."""


class Stretch(Protocol):
    """Neighbouring rows of one sequence; see `glmbot.engine.attention.Segment`."""

    @property
    def first(self) -> int: ...

    @property
    def length(self) -> int: ...

    @property
    def start(self) -> int: ...

    @property
    def cached(self) -> int: ...

    @property
    def causal(self) -> bool: ...


class State:
    """What the operations of one step work on."""

    def __init__(
        self, buffers: Sequence[Tensor], rows: Rows, scratch: Scratch, stretches: Sequence[Stretch] = ()
    ) -> None:
        self._buffers = buffers
        self.rows = rows
        self.stretches = stretches
        self.scratch = scratch
        self.count = rows.hidden.shape[0]
        """Rows that are computed now: all, or those that draw."""
        self.multiprocessors = scratch.multiprocessors
        self.keys: Sequence[Tensor] = ()
        self.values: Sequence[Tensor] = ()

    def __getitem__(self, buffer: Buffer) -> Tensor:
        """[rows, width]"""
        return self._buffers[buffer.index][: self.count]

    def whole(self, buffer: Buffer) -> Tensor:
        """All rows that there is room for."""
        return self._buffers[buffer.index]


class Scratch:
    """Memory that operations need for themselves alone, one after another."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        """dtype: of activations."""
        self._device, self.dtype = device, dtype
        properties = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
        self.multiprocessors = 1 if properties is None else properties.multi_processor_count
        self._sizes: dict[torch.dtype, int] = {}
        self._made: dict[torch.dtype, Tensor] = {}
        self._fixed = False

    def reserve(self, dtype: torch.dtype, elements: int) -> None:
        self._sizes[dtype] = max(self._sizes.get(dtype, 0), elements)

    def fix(self) -> None:
        """Make what is reserved: from here on it neither grows nor moves."""
        for dtype, size in self._sizes.items():
            self.take(dtype, size)
        self._fixed = True

    def take(self, dtype: torch.dtype, elements: int) -> Tensor:
        """Contiguous, of that many elements. Integers are 0; who counts in them leaves them so."""
        made = self._made.get(dtype)
        if made is None or made.numel() < elements:
            if self._fixed:
                raise RuntimeError(f"{elements} elements of {dtype} were not reserved")
            self.reserve(dtype, elements)
            made = self._made[dtype] = torch.zeros(self._sizes[dtype], dtype=dtype, device=self._device)
        return made[:elements]


class CardProgram:
    """Made by a CardBuilder. It points into the weights of its layers, which must outlive it."""

    def __init__(
        self,
        operations: Sequence[Operation],
        widths: Sequence[tuple[int, torch.dtype]],
        logits: Buffer,
        device: torch.device,
        dtype: torch.dtype,
        kernels: Kernels | None,
    ) -> None:
        """widths: of each buffer, and the dtype of its elements. dtype: of activations. kernels: none computes all
        in plain torch."""
        self.parts: set[Part] = set() if kernels is None else set(Part)
        """What the kernels compute; the rest is computed by torch."""
        self._operations = operations
        self._widths = widths
        self._logits = logits
        self._device = device
        self._kernels = kernels
        self._few, self._few_scratch = self._room(FEW, FEW), Scratch(device, dtype)
        self._many, self._many_scratch = list[Tensor](), Scratch(device, dtype)
        for operation in operations:
            operation.reserve(self._few_scratch, FEW)
        self._few_scratch.fix()

    def run(
        self,
        rows: Rows,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        stretches: Sequence[Stretch] = (),
    ) -> Tensor:
        """keys, values: of each layer [kv_heads, capacity, head_dim], where the new ones are written. stretches:
        all rows, where the host knows whose they are: prompts are then read faster. Returns logits float32
        [drawing, vocabulary]; they are overwritten by the next run."""
        count, drawing = rows.hidden.shape[0], rows.drawn.shape[0]
        few = count <= FEW
        buffers = self._few if few else self._large(count, drawing)
        state = State(
            buffers,
            rows,
            self._few_scratch if few else self._many_scratch,
            () if few else stretches,
        )
        state.keys, state.values = keys, values
        buffers[0][:count].copy_(rows.hidden)
        for operation in self._operations:
            if self._kernels is not None and operation.part in self.parts:
                operation.launch(state, self._kernels)
            else:
                operation.compute(state)
        return buffers[self._logits.index][:drawing]

    def _large(self, count: int, drawing: int) -> list[Tensor]:
        if (
            not self._many
            or self._many[0].shape[0] < count
            or self._many[self._logits.index].shape[0] < drawing
        ):
            self._many = []
            self._many = self._room(count, max(drawing, 1))
        return self._many

    def _room(self, count: int, drawing: int) -> list[Tensor]:
        return [
            torch.zeros(
                drawing if index == self._logits.index else count, width, dtype=dtype, device=self._device
            )
            for index, (width, dtype) in enumerate(self._widths)
        ]
