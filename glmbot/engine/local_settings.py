"""What a model on this machine is to be, and what it may use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glmbot.engine.base import Precision

__all__ = ["LocalEngineSettings"]


@dataclass(frozen=True, slots=True)
class LocalEngineSettings:
    """Sizes in tokens. `precision` None is the device's default; `threads` 0 is the cores that
    the process may use."""

    folder: Path
    device: str = "auto"
    precision: Precision | None = None
    context_length: int = 2048
    cache_tokens: int = 0
    """0 is as many as there is memory for, up to a bound."""
    max_batch: int = 16
    queue_limit: int = 64
    prefill_tokens: int = 0
    """Beside decoding; 0 is what suits the device."""
    threads: int = 0
    prefix_folder: Path | None = None
    """A P-Tuning v2 checkpoint."""
    adapters: tuple[Path, ...] = ()
    """Of LoRA, merged while loading."""
    chat_format: str = "auto"
    """See `glmbot.models.chatglm.family.settle_generation`."""
    thinks: bool = True
    """False: a model that can do without is asked not to think before it answers."""
    gpu_plain: bool = False
    """Whether a card computes by torch's modules alone."""
    tensor_parallel: int = 1
    """How many processes share the model."""
