"""What a configuration that was read again changes at once, and what waits for a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from glmbot.config.configuration import CORE_SECTIONS, Configuration

__all__ = ["NEED_A_RESTART", "Reread", "compared"]

NEED_A_RESTART = ("model", "remote", "models", "store", "tracing", "plugins")
"""Sections whose parts can't be exchanged while they run."""
# Where the sections stand in a configuration.
_FIELDS = {
    **{name: (name,) for name in CORE_SECTIONS},
    "models": ("models", "named_models"),
    "plugins": ("plugins",),
}


@dataclass(frozen=True, slots=True)
class Reread:
    """`now` is what can hold from now on: the new one, but for what waits. Its next comparison names that again.

    `applied` and `waiting` name the sections that differ.
    """

    now: Configuration
    applied: Sequence[str]
    waiting: Sequence[str]


def compared(running: Configuration, read: Configuration) -> Reread:
    changed = [
        section
        for section, fields in _FIELDS.items()
        if any(getattr(read, field) != getattr(running, field) for field in fields)
    ]
    names = sorted({*running.adapters, *read.adapters})
    platforms = [
        name
        for name in names
        if (running.adapters.get(name), running.bots.get(name))
        != (read.adapters.get(name), read.bots.get(name))
    ]
    waiting = [name for name in changed if name in NEED_A_RESTART]
    kept = {field: getattr(running, field) for section in NEED_A_RESTART for field in _FIELDS[section]}
    applied = [*(name for name in changed if name not in waiting), *platforms]
    return Reread(replace(read, **kept), applied, waiting)
