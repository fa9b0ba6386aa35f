"""Whose tokens are marked where, for the repetition penalty on the card. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["Slots", "Unmarked"]


@dataclass(frozen=True, slots=True)
class Unmarked:
    """What a slot still lacks: `anew` says that it held another's marks, or wrong ones."""

    slot: int
    tokens: Sequence[int]
    anew: bool


class Slots:
    """A slot for each of so many sequences; one that is needed is taken from whoever is not in the step."""

    def __init__(self, count: int) -> None:
        self._free = list(range(count))
        self._of: dict[int, int] = {}
        self._marked: dict[int, int] = {}

    def of(self, sequence: int, tokens: Sequence[int], others: Collection[int]) -> Unmarked:
        """others: all that are in this step."""
        slot, anew = self._of.get(sequence), False
        if slot is None:
            if not self._free:
                gone = next(each for each in self._of if each not in others)
                self.forget(gone)
            slot = self._of[sequence] = self._free.pop()
            anew = True
        known = 0 if anew else self._marked[sequence]
        self._marked[sequence] = max(known, len(tokens))
        return Unmarked(slot, tokens[known:], anew)

    def drew(self, sequence: int) -> None:
        """The card marks by itself what it draws."""
        if sequence in self._marked:
            self._marked[sequence] += 1

    def forget(self, sequence: int) -> None:
        """Harmless for one that has no slot."""
        slot = self._of.pop(sequence, None)
        if slot is not None:
            self._marked.pop(sequence)
            self._free.append(slot)
