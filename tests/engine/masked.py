"""What a mask allows, as a test wants to see it."""

from __future__ import annotations

from glmbot.engine.sampling import Mask

__all__ = ["allowed"]


def allowed(mask: Mask | None, size: int) -> set[int]:
    assert mask is not None
    ids = set(mask.ids.tolist())
    return ids if mask.allowed else set(range(size)) - ids
