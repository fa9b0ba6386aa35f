"""What there is to say of one of several models: how it is had, and what it is now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from glmbot.engine.base import Engine, EngineStats, Precision, TokenEngine

__all__ = ["Memory", "Model", "ModelState"]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of weights and cache: when it is loaded, and at each precision that it can be switched to."""

    loaded: int
    at: Mapping[Precision, int] = field(default_factory=dict[Precision, int])


@dataclass(frozen=True, slots=True)
class Model:
    """One that can be had.

    `start` loads it; the callback gets the share done, in any thread. `memory` says what it will take here, None
    for one that runs elsewhere; it may last for seconds, and is called in a thread. `release` gives memory back to
    the machine once an engine is gone. `alone`: no other is loaded meanwhile, since loading does something to the
    whole process.
    """

    name: str
    start: Callable[[Callable[[float], None]], Awaitable[Engine | TokenEngine]]
    memory: Callable[[], Memory] | None = None
    at_start: bool = True
    queue_limit: int = 64
    alone: bool = True
    release: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class ModelState:
    """Of one model now. `bytes`: what it takes of this machine; `share`: how far it is loaded, None when it is not
    being loaded; `trouble`: why it could not be, "" for none."""

    name: str
    loaded: bool
    stats: EngineStats
    precisions: Sequence[Precision]
    bytes: int
    share: float | None
    trouble: str
