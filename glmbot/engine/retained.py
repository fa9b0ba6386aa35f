"""Keys and values kept after their sequence has ended, for a later prompt that begins alike.

The next turn of a conversation repeats all turns before it, and everybody's prompt begins with the same system
prompt. What is kept lies in ranges of the arena that nobody else needs: it gives way, oldest use first, as soon as
someone does. Pure bookkeeping; the runner copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glmbot.engine.kv_cache import Range, RangeAllocator

__all__ = ["LEAST_SHARED", "PromptSegment", "Retained", "RetainedPrefixes", "common_prefix"]

PromptSegment = int | str
"""What prompts are compared by, one for each cache entry: a token's id, or in each place of a picture its digest,
so that two pictures never share a prefix."""

LEAST_SHARED = 16
"""Fewer tokens are computed again rather than kept or copied."""


@dataclass(frozen=True, slots=True, eq=False)
class Retained:
    user: str
    segments: Sequence[PromptSegment]
    place: Range
    regime: int = 0


class RetainedPrefixes:
    """Entries in order of their last use."""

    def __init__(self, allocator: RangeAllocator) -> None:
        self._allocator = allocator
        self._entries: list[Retained] = []

    @property
    def tokens(self) -> int:
        """Cache entries held."""
        return sum(entry.place.length for entry in self._entries)

    def keep(
        self, user: str, segments: Sequence[PromptSegment], place: Range, prefix: int, regime: int = 0
    ) -> None:
        """Take over a range whose first `prefix` + len(segments) entries are computed; the rest is freed. Only a
        prompt of the same `regime` (see `PositionScheme`) can begin with it."""
        if len(segments) < LEAST_SHARED:
            self._allocator.give_back(place)
            return
        # The conversation's earlier state is a part of this one.
        for entry in self._entries[:]:
            if entry.regime == regime and segments[: len(entry.segments)] == entry.segments:
                self._drop(entry)
        kept = self._allocator.shrink(place, prefix + len(segments))
        self._entries.append(Retained(user, segments, kept, regime))

    def best(self, prompt: Sequence[PromptSegment], regime: int = 0) -> tuple[Retained, int] | None:
        """The entry that shares most segments with the beginning of `prompt`, and how many."""
        found: tuple[Retained, int] | None = None
        for entry in self._entries:
            if entry.regime != regime:
                continue
            shared = common_prefix(entry.segments, prompt)
            if shared >= LEAST_SHARED and (found is None or shared > found[1]):
                found = entry, shared
        return found

    def has_room(self, length: int) -> bool:
        """Whether `take` would find a range, all that is kept given away."""
        return self._allocator.would_fit(length, [entry.place for entry in self._entries])

    def take(self, length: int, used: Retained | None) -> Range:
        """Own a range of `length` entries, dropping what is kept as far as that takes, `used` last.

        Raises ValueError when there is no room at all.
        """
        while (place := self._allocator.take(length)) is None:
            others = [entry for entry in self._entries if entry is not used]
            if not others and used not in self._entries:
                raise ValueError(f"no room for {length} entries")
            self._drop(others[0] if others else self._entries[0])
        return place

    def touch(self, entry: Retained) -> None:
        if entry in self._entries:
            self._entries.remove(entry)
            self._entries.append(entry)

    def forget(self, user: str | None = None) -> None:
        """Drop what was kept of one user, or of all."""
        for entry in self._entries[:]:
            if user is None or entry.user == user:
                self._drop(entry)

    def _drop(self, entry: Retained) -> None:
        self._entries.remove(entry)
        self._allocator.give_back(entry.place)


def common_prefix(one: Sequence[PromptSegment], other: Sequence[PromptSegment]) -> int:
    """How many segments both begin with."""
    low, high = 0, min(len(one), len(other))
    # Slices are compared much faster than elements.
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
