"""Rotary positions, and attention of a whole step over the arena."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from glmbot.cuda.kernels import Grid, Kernels
from glmbot.cuda.program import Operation, Part, Scratch, State, Stretch
from glmbot.native.program import Buffer

__all__ = ["MOST_TURNS", "Attend", "Turn", "Turns", "apart", "splits_of", "tile_of"]

_THREADS = 128
_TURNING = 64
# Of blocks that are under way at once on one multiprocessor, about.
_BLOCKS_EACH = 6
_MOST_SPLITS = 32
# A step of more rows has neighbours that see the same sequence; one of fewer, each row its own.
_ALONE = 32
_ROWS = (1, 4, 16)
# Rows of one sequence for which a launch of their own pays.
_LONG = 32
_TURN_NUMBERS = 6
MOST_TURNS = 4
"""Rotations of one buffer, one after another."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The first 2 · angles columns of each head, by one of the step's tables."""

    at: int
    heads: int
    stride: int
    angles: int
    neighbours: bool
    table: int

    def numbers(self) -> tuple[int, ...]:
        return self.at, self.heads, self.stride, self.angles, int(self.neighbours), self.table

    def turn(self, row: Tensor, cosines: Tensor, sines: Tensor) -> None:
        """row: [tokens, width], in place. cosines, sines: float32 [tables, tokens, angles]."""
        tokens = row.shape[0]
        heads = row.as_strided(
            (tokens, self.heads, 2 * self.angles),
            (row.stride(0), self.stride, 1),
            row.storage_offset() + self.at,
        )
        apart = (slice(0, None, 2), slice(1, None, 2))
        halves = (slice(0, self.angles), slice(self.angles, None))
        low, high = (heads[..., part].float() for part in (apart if self.neighbours else halves))
        cosine = cosines[self.table, :, None, : self.angles]
        sine = sines[self.table, :, None, : self.angles]
        made = (low * cosine - high * sine, high * cosine + low * sine)
        for part, each in zip(apart if self.neighbours else halves, made, strict=True):
            heads[..., part] = each.to(row.dtype)


@dataclass(frozen=True, slots=True)
class Turns(Operation):
    """Rotations that nothing but attention may follow at once."""

    part: ClassVar[Part] = Part.ROWS
    buffer: Buffer
    turns: tuple[Turn, ...]
    head_dim: int

    def launch(self, state: State, kernels: Kernels) -> None:
        row = state[self.buffer]
        cosines, sines = _tables(state)
        kernels.launch(
            "turn", (state.count, self.buffer.width // self.head_dim, 1), _TURNING, row, row.stride(0),
            self.buffer.width, self.head_dim, len(self.turns), cosines, sines, cosines.shape[-1],
            *_numbers(self.turns),
        )  # fmt: skip

    def compute(self, state: State) -> None:
        for turn in self.turns:
            turn.turn(state[self.buffer], *_tables(state))


@dataclass(frozen=True, slots=True)
class _Shape:
    """Of a launch: rows of a block, neighbouring tokens of a block, and the blocks: splits of the keys, heads or
    parts of them, tiles of tokens."""

    most: int
    tile: int
    grid: Grid


@dataclass(frozen=True, slots=True)
class Attend(Operation):
    """Turns queries and keys, puts keys and values into the arena, and mixes what each token sees there."""

    part: ClassVar[Part] = Part.ATTENTION
    src: Buffer
    dst: Buffer
    turns: tuple[Turn, ...]
    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    columns: tuple[int, int, int]
    strides: tuple[int, int]
    scaling: float
    window: int
    cap: float

    def launch(self, state: State, kernels: Kernels) -> None:
        src, rows = state[self.src], state.rows
        keys, values = state.keys[self.layer], state.values[self.layer]
        cosines, sines = _tables(state) if self.turns else (rows.places, rows.places)
        kernels.launch(
            "turn_and_keep", (state.count, self.src.width // self.head_dim, 1), _TURNING, src, src.stride(0),
            self.src.width, len(self.turns), cosines, sines, cosines.shape[-1], rows.places, keys, values,
            keys.shape[1], self.kv_heads, self.head_dim, *self.columns[1:], self.strides[1],
            *_numbers(self.turns),
        )  # fmt: skip
        for first, end, stretch in apart(state.stretches) if state.stretches else [(0, state.count, None)]:
            if stretch is None or self.cap or (self.window and stretch.cached + stretch.length > self.window):
                self._mix(state, kernels, first, end)
            else:
                self._mix_long(state, stretch)

    def _mix(self, state: State, kernels: Kernels, first: int, end: int) -> None:
        """For rows that see whatever they see."""
        src, dst, rows = state[self.src][first:end], state[self.dst][first:end], state.rows
        keys, values = state.keys[self.layer], state.values[self.layer]
        shape = self._shape(end - first, state.multiprocessors)
        kernels.launch(
            f"attend_{shape.most}", shape.grid, _THREADS, src, dst,
            state.scratch.take(torch.float32, self._partial(end - first, shape)),
            state.scratch.take(torch.int32, shape.grid[1] * shape.grid[2]), rows.bases[first:end],
            rows.counts[first:end], keys, values, src.stride(0), dst.stride(0), self.columns[0], self.strides[0],
            end - first, shape.tile, keys.shape[1], self.heads, self.kv_heads, self.head_dim, self.window,
            self.scaling, self.cap,
        )  # fmt: skip

    def _mix_long(self, state: State, stretch: Stretch) -> None:
        """By torch's own attention, which reads a long prompt with the tensor cores."""
        rows = slice(stretch.first, stretch.first + stretch.length)
        total = stretch.cached + stretch.length
        seen = slice(stretch.start, stretch.start + total)
        src = state[self.src][rows]
        query = src.as_strided(
            (self.heads, stretch.length, self.head_dim),
            (self.strides[0], src.stride(0), 1),
            src.storage_offset() + self.columns[0],
        )
        mask: Tensor | None = None
        if stretch.causal and stretch.cached:
            row = torch.arange(stretch.cached, total, device=src.device)
            mask = torch.arange(total, device=src.device)[None, :] <= row[:, None]
        mixed = torch.nn.functional.scaled_dot_product_attention(
            query[None],
            state.keys[self.layer][None, :, seen],
            state.values[self.layer][None, :, seen],
            attn_mask=mask,
            is_causal=stretch.causal and mask is None,
            scale=self.scaling,
            enable_gqa=self.heads != self.kv_heads,
        )
        state[self.dst][rows].unflatten(1, (self.heads, -1)).copy_(mixed[0].transpose(0, 1))

    def reserve(self, scratch: Scratch, rows: int) -> None:
        for count in range(1, rows + 1):
            shape = self._shape(count, scratch.multiprocessors)
            scratch.reserve(torch.float32, self._partial(count, shape))
            scratch.reserve(torch.int32, shape.grid[1] * shape.grid[2])

    def _shape(self, count: int, multiprocessors: int) -> _Shape:
        most, parts, tile = tile_of(self.heads // self.kv_heads, count)
        tiles = -(-count // tile)
        splits = splits_of(multiprocessors, self.kv_heads * parts * tiles)
        return _Shape(most, tile, (splits, self.kv_heads * parts, tiles))

    def _partial(self, count: int, shape: _Shape) -> int:
        """float32 elements of what each split found; one alone keeps it for itself."""
        splits = shape.grid[0]
        return count * self.heads * splits * (self.head_dim + 2) if splits > 1 else 0

    def compute(self, state: State) -> None:
        src, rows = state[self.src], state.rows
        for turn in self.turns:
            turn.turn(src, *_tables(state))
        keys, values = state.keys[self.layer], state.values[self.layer]
        tokens, places = state.count, rows.places.long()
        query, key, value = (
            src.as_strided(
                (heads, tokens, self.head_dim), (stride, src.stride(0), 1), src.storage_offset() + at
            )
            for heads, stride, at in (
                (self.heads, self.strides[0], self.columns[0]),
                (self.kv_heads, self.strides[1], self.columns[1]),
                (self.kv_heads, self.strides[1], self.columns[2]),
            )
        )
        keys.index_copy_(1, places, key.to(keys.dtype))
        values.index_copy_(1, places, value.to(values.dtype))
        each = torch.arange(keys.shape[1], device=keys.device)[None, :]
        first, counts = rows.bases[:, None].long(), rows.counts[:, None].long()
        seen = (each >= first) & (each < first + counts)
        if self.window:
            seen &= each >= first + counts - self.window
        group = self.heads // self.kv_heads
        # The arena holds anything where nobody wrote yet, NaN too.
        anybody = seen.any(0)[None, :, None]
        known, worth = (torch.where(anybody, it.float(), 0.0) for it in (keys, values))
        scores = query.float() @ known.repeat_interleave(group, 0).transpose(1, 2) * self.scaling
        if self.cap:
            scores = torch.tanh(scores / self.cap) * self.cap
        weights = torch.softmax(scores.masked_fill(~seen, float("-inf")), -1)
        mixed = weights @ worth.repeat_interleave(group, 0)
        state[self.dst].copy_(mixed.transpose(0, 1).flatten(1))


def apart(stretches: Sequence[Stretch]) -> list[tuple[int, int, Stretch | None]]:
    """Rows from, to, and the stretch that they are where it is a long one; short neighbours stay together."""
    made: list[tuple[int, int, Stretch | None]] = []
    for stretch in stretches:
        end = stretch.first + stretch.length
        if stretch.length >= _LONG:
            made.append((stretch.first, end, stretch))
        elif made and made[-1][2] is None:
            made[-1] = (made[-1][0], end, None)
        else:
            made.append((stretch.first, end, None))
    return made


def tile_of(per_key: int, tokens: int) -> tuple[int, int, int]:
    """Rows of a block, blocks that share the heads of one key, neighbouring tokens of a block. per_key: heads that
    read one key."""
    most = _ROWS[-1]
    if tokens <= _ALONE:
        most = next((rows for rows in _ROWS if rows >= per_key), most)
    parts = -(-per_key // most)
    share = -(-per_key // parts)
    return most, parts, 1 if tokens <= _ALONE else max(1, most // share)


def splits_of(multiprocessors: int, blocks: int) -> int:
    """Into how many pieces a sequence's keys are cut, so that all multiprocessors have work."""
    return max(1, min(_MOST_SPLITS, multiprocessors * _BLOCKS_EACH // blocks))


def _tables(state: State) -> tuple[Tensor, Tensor]:
    rotation = state.rows.rotation
    if rotation is None:
        raise RuntimeError("the step has no tables of rotary positions")
    return rotation


def _numbers(turns: Sequence[Turn]) -> list[int]:
    """As the kernels take them: so many as a step may have."""
    made = [number for turn in turns for number in turn.numbers()]
    return [*made, *[1] * (MOST_TURNS * _TURN_NUMBERS - len(made))]
