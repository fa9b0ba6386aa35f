"""Rotary positions with one set of frequencies for short sequences and one for long ones.

LongRoPE, arXiv:2402.13753. Transformers looks at the longest sequence of a call, which here holds many people's
tokens and pieces of prompts. So each token is told by itself which set is its own: as it would be were its
sequence alone and its prompt in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glmbot.models.positions import CausalPositions

__all__ = ["LongRope", "LongRopePositions"]


@dataclass(frozen=True, slots=True)
class LongRopePositions(CausalPositions):
    """boundary: the longest sequence, in tokens, of the short set. begins_anew: whether a sequence that grows
    beyond it is computed again as a whole, as Phi-3's own code does; else its first tokens keep theirs."""

    boundary: int = 0
    begins_anew: bool = False

    def anew_after(self, prompt: Sequence[int]) -> int:
        return self.boundary if self.begins_anew and not self.regime(prompt) else 0

    def regime(self, prompt: Sequence[int]) -> int:
        return int(len(prompt) > self.boundary)


class LongRope:
    """The rotary parts of a module. None of its tokens are told anything outside `told`."""

    def __init__(self, module: nn.Module, boundary: int) -> None:
        self.boundary = boundary
        self._long: Tensor | None = None
        for part in module.modules():
            if getattr(part, "rope_type", None) == "longrope":
                owner: Any = part
                owner.forward = self._each_by_itself(part.forward)

    @contextmanager
    def told(self, regimes: Sequence[int], positions: Sequence[int]) -> Generator[None]:
        """For one step: of each token, which regime its sequence has and where it stands."""
        pairs = zip(regimes, positions, strict=True)
        self._long = torch.tensor([regime > 0 or position >= self.boundary for regime, position in pairs])
        try:
            yield
        finally:
            self._long = None

    def _each_by_itself(
        self, forward: Callable[..., tuple[Tensor, Tensor]]
    ) -> Callable[..., tuple[Tensor, Tensor]]:
        def rotation(x: Tensor, position_ids: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor]:
            if self._long is None:
                return forward(x, position_ids, **kwargs)
            long = self._long.to(position_ids.device)
            short = forward(x, position_ids.masked_fill(long, 0), **kwargs)
            # A position beyond the boundary makes it choose the other set for all.
            beyond = position_ids.new_full((position_ids.shape[0], 1), self.boundary)
            far = forward(x, torch.cat([position_ids, beyond], 1), **kwargs)
            cosines, sines = (
                torch.where(long[None, :, None], two[:, :-1], one)
                for one, two in zip(short, far, strict=True)
            )
            return cosines, sines

        return rotation
