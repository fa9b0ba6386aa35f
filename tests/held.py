"""A model that stands still while its streams are looked at: on a busy machine they would be over before."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from glmbot.engine.local import LocalEngine

__all__ = ["held"]


@contextmanager
def held(engine: LocalEngine, after: int = 0) -> Generator[threading.Event]:
    """Once an answer has `after` tokens the model computes a step for each command that comes, and no other. It goes
    on when the event that this gives is set, or in the end."""
    thread, goes_on = engine.thread, threading.Event()
    take = thread._take_commands

    def waits() -> bool:
        running = thread.scheduler.running
        return bool(running) and max(each.drawn for each in running) >= after

    def take_when_asked() -> None:
        while waits() and thread._commands.empty() and not goes_on.wait(0.01):
            pass
        take()

    thread._take_commands = take_when_asked
    try:
        yield goes_on
    finally:
        goes_on.set()
        thread._take_commands = take
