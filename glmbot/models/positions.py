"""Where a token stands: the position ids of causal models, and those of models with a bidirectional context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["BlockPositions", "CausalPositions", "MaskPositions", "PositionScheme"]


class PositionScheme(Protocol):
    @property
    def rows(self) -> int:
        """How many position ids a token has."""
        ...

    def context_length(self, prompt: Sequence[int]) -> int:
        """How many of the prompt's first tokens see each other in both directions. Such a context must be
        computed in one step, and can't be continued by a longer one."""
        ...

    def positions(self, prompt: Sequence[int], start: int, end: int) -> list[list[int]]:
        """Position ids of the tokens [start, end) of a sequence that began with `prompt`: [rows][end - start]."""
        ...

    def regime(self, prompt: Sequence[int]) -> int:
        """Prompts of different regimes compute the same beginning otherwise: they can share nothing."""
        ...

    def anew_after(self, prompt: Sequence[int]) -> int:
        """With more tokens than this all of the sequence is computed again, in the next regime; 0: never."""
        ...


@dataclass(frozen=True, slots=True)
class CausalPositions:
    rows: int = 1

    def context_length(self, prompt: Sequence[int]) -> int:
        return 0

    def positions(self, prompt: Sequence[int], start: int, end: int) -> list[list[int]]:
        return [list(range(start, end))]

    def regime(self, prompt: Sequence[int]) -> int:
        return 0

    def anew_after(self, prompt: Sequence[int]) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class BlockPositions:
    """GLM's two-dimensional positions (Du et al. 2022, arXiv:2103.10360, section 2.2).

    The first row counts within the context and then stays at the mask token's place; the second is 0 in the
    context and then 1, 2, 3 …  The context ends before the first `start_token`; among `mask_tokens` the first
    kind that is there counts, at its first place.
    """

    start_token: int
    mask_tokens: tuple[int, ...]
    rows: int = 2

    def context_length(self, prompt: Sequence[int]) -> int:
        try:
            return prompt.index(self.start_token)
        except ValueError:
            return len(prompt)

    def positions(self, prompt: Sequence[int], start: int, end: int) -> list[list[int]]:
        context = self.context_length(prompt)
        mask = self._mask_position(prompt, context)
        return [
            [place if place < context else mask for place in range(start, end)],
            [max(0, place - context + 1) for place in range(start, end)],
        ]

    def regime(self, prompt: Sequence[int]) -> int:
        return 0

    def anew_after(self, prompt: Sequence[int]) -> int:
        return 0

    def _mask_position(self, prompt: Sequence[int], context: int) -> int:
        for token in self.mask_tokens:
            if token in prompt:
                return prompt.index(token)
        return max(0, context - 1)


@dataclass(frozen=True, slots=True)
class MaskPositions:
    """GLM-130B's positions (Zeng et al. 2023, arXiv:2210.02414, section 2.1): one for each token.

    They count on through the answer where the `counting` kind of mask is filled; where it is another, the start
    token and the whole answer stand at the mask's own place. The context ends before the last `start_token`; the
    kind that is filled is the first of `mask_tokens` that the context has.
    """

    start_token: int
    mask_tokens: tuple[int, ...]
    counting: int
    rows: int = 1

    def context_length(self, prompt: Sequence[int]) -> int:
        # An answer that was put into a blank may hold the start token.
        for place in range(len(prompt) - 1, -1, -1):
            if prompt[place] == self.start_token:
                return place
        return len(prompt)

    def positions(self, prompt: Sequence[int], start: int, end: int) -> list[list[int]]:
        context = self.context_length(prompt)
        mask = self._mask_position(prompt, context)
        if mask is None:
            return [list(range(start, end))]
        return [[place if place < context else mask for place in range(start, end)]]

    def regime(self, prompt: Sequence[int]) -> int:
        return 0

    def anew_after(self, prompt: Sequence[int]) -> int:
        return 0

    def _mask_position(self, prompt: Sequence[int], context: int) -> int | None:
        """Where the blank is, or None where positions count on."""
        for token in self.mask_tokens:
            try:
                place = prompt.index(token, 0, context)
            except ValueError:
                continue
            return None if token == self.counting else place
        return None
