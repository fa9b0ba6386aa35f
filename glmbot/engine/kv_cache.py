"""The KV cache: one arena per layer, bounded by configuration, in which each sequence owns one whole range.

A range holds a sequence's prompt and its longest possible answer from the start, so a sequence that was
admitted can never run out of memory, and attention reads its keys and values in place, without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Arena", "Range", "RangeAllocator"]


@dataclass(frozen=True, slots=True)
class Range:
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


class RangeAllocator:
    """First fit over [0, capacity). Pure bookkeeping, in tokens."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._used: list[Range] = []

    @property
    def used(self) -> int:
        return sum(owned.length for owned in self._used)

    @property
    def ranges(self) -> tuple[Range, ...]:
        """What is owned now, by rising start."""
        return tuple(self._used)

    def take(self, length: int) -> Range | None:
        """Own a free range of `length` tokens, or None when no gap is large enough."""
        start = 0
        for place, owned in enumerate([*self._used, Range(self.capacity, 0)]):
            if owned.start - start >= length:
                taken = Range(start, length)
                self._used.insert(place, taken)
                return taken
            start = owned.end
        return None

    def would_fit(self, length: int, freed: Sequence[Range]) -> bool:
        """Whether `take` would succeed once the `freed` ranges are given back."""
        start = 0
        for owned in [*(owned for owned in self._used if owned not in freed), Range(self.capacity, 0)]:
            if owned.start - start >= length:
                return True
            start = owned.end
        return False

    def shrink(self, owned: Range, length: int) -> Range:
        """Keep the first `length` tokens of an owned range. Raises ValueError when it is not owned or shorter."""
        if not 0 < length <= owned.length:
            raise ValueError(f"{owned} can't be shrunk to {length}")
        kept = Range(owned.start, length)
        self._used[self._used.index(owned)] = kept
        return kept

    def give_back(self, owned: Range) -> None:
        """Raises ValueError for a range that is not owned."""
        self._used.remove(owned)


class Arena:
    """Keys and values of all layers: per layer two tensors [kv_heads, capacity, head_dim].

    Memory: 2 · layers · kv_heads · head_dim · capacity · itemsize bytes; the operating system hands
    out pages as they are first written.
    """

    def __init__(
        self,
        *,
        kv_heads: int,
        head_dim: int,
        capacity: int,
        dtype: torch.dtype,
        devices: Sequence[torch.device],
    ) -> None:
        """devices: of each layer."""
        self.capacity = capacity
        self._shape = (kv_heads, capacity, head_dim)
        self.keys = [torch.empty(self._shape, dtype=dtype, device=device) for device in devices]
        self.values = [torch.empty(self._shape, dtype=dtype, device=device) for device in devices]

    @property
    def dtype(self) -> torch.dtype:
        return self.keys[0].dtype

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    @staticmethod
    def bytes_per_token(*, layers: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
        return 2 * layers * kv_heads * head_dim * dtype.itemsize

    def write(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store new entries. places: int64 [tokens]; keys, values: [kv_heads, tokens, head_dim]."""
        places = places.to(self.keys[layer].device)
        self.keys[layer].index_copy_(1, places, keys)
        self.values[layer].index_copy_(1, places, values)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy `length` entries of all layers from entry `source` on to `target` on. They may overlap."""
        if source == target:
            return
        for tensors in (self.keys, self.values):
            for tensor in tensors:
                tensor[:, target : target + length] = tensor[:, source : source + length].clone()

    def write_prefix(self, start: int, prefix: Tensor) -> None:
        """Store keys and values that every layer gets in front of a sequence, from entry `start` on.

        prefix: [2 · layers, kv_heads, length, head_dim]: a layer's keys and then its values.
        """
        end = start + prefix.shape[2]
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            keys[:, start:end] = prefix[2 * layer]
            values[:, start:end] = prefix[2 * layer + 1]

    def convert(self, dtype: torch.dtype, live: tuple[Range, ...]) -> None:
        """Change the dtype, keeping the entries of the `live` ranges, one layer at a time."""
        if dtype == self.dtype:
            return
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                new = torch.empty(self._shape, dtype=dtype, device=old.device)
                for owned in live:
                    new[:, owned.start : owned.end] = old[:, owned.start : owned.end].to(dtype)
                tensors[layer] = new
