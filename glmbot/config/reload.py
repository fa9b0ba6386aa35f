"""What a configuration that was read again changes at once, and what waits for a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from glmbot.config.configuration import CORE_SECTIONS, Configuration

__all__ = ["NEED_A_RESTART", "Reread", "compared"]

NEED_A_RESTART = ("model", "remote", "models", "store", "tracing")
"""Sections of the core whose parts can't be exchanged while they run."""


@dataclass(frozen=True, slots=True)
class Reread:
    """`now` is what can hold from now on: the new one, but for what waits. Its next comparison names that again.

    `applied` and `waiting` name the sections that differ.
    """

    now: Configuration
    applied: Sequence[str]
    waiting: Sequence[str]


def compared(running: Configuration, read: Configuration) -> Reread:
    changed = [name for name in CORE_SECTIONS if getattr(read, name) != getattr(running, name)]
    if read.named_models != running.named_models and "models" not in changed:
        changed.append("models")
    if read.plugins != running.plugins:
        changed.append("plugins")
    names = sorted({*running.adapters, *read.adapters})
    platforms = [name for name in names if running.adapters.get(name) != read.adapters.get(name)]
    waiting = [name for name in changed if name in (*NEED_A_RESTART, "plugins")]
    kept = {name: getattr(running, name) for name in (*NEED_A_RESTART, "named_models", "plugins")}
    applied = [*(name for name in changed if name not in waiting), *platforms]
    return Reread(replace(read, **kept), applied, waiting)
