"""Says when the event loop or a model's thread stands still: both serve everybody, so one piece of work that
lasts for seconds is felt by all.

A thread of its own looks at both, since a loop that stands can't look at itself. Where even that thread could not
run (something kept the interpreter to itself), the loop finds the gap in its own time afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType

from glmbot.background import Troubles
from glmbot.engine.base import EngineStats

__all__ = ["Watchdog", "stack_of"]

_log = logging.getLogger(__name__)

_STANDS_AFTER_S = 2.0
_LOOKS_EVERY_S = 0.5
_REMEMBERED_S = 60.0
# Some computing lasts: a long prompt on a slow processor, another precision. After a minute nobody believes it.
_HOPELESS_AFTER_S = 60.0
_SWITCHING_STANDS_AFTER_S = 60.0
_FRAMES = 12


@dataclass(slots=True, eq=False)
class _Watched:
    part: str
    partial: bool = False
    """Others are answered whatever becomes of it."""
    thread: int | None = None
    stands: bool = False
    """It was told that it does."""
    since: float = 0.0
    ended_at: float = float("-inf")


class Watchdog:
    def __init__(
        self,
        stats: Callable[[], Mapping[str, EngineStats]],
        troubles: Troubles,
        *,
        default: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """stats: of each model that is loaded, by name. What becomes of another than the `default` concerns only
        some."""
        self._stats = stats
        self._default = default
        self._troubles = troubles
        self._clock = clock
        self._loop_beat = clock()
        self._loop = _Watched("event loop")
        self._models: dict[str, _Watched] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        self._loop.thread = threading.get_ident()
        self._loop_beat = self._clock()
        ended = threading.Event()
        threading.Thread(target=self._look_on, args=(ended,), name="watchdog", daemon=True).start()
        try:
            while True:
                await asyncio.sleep(_LOOKS_EVERY_S)
                self.beat()
        finally:
            ended.set()

    def beat(self) -> None:
        """The loop runs. Called by itself, so that a gap is seen whatever caused it."""
        now = self._clock()
        gap, self._loop_beat = now - self._loop_beat - _LOOKS_EVERY_S, now
        if gap > _STANDS_AFTER_S:
            self._stood(self._loop, gap, now)
        self._forget(self._loop, now)

    def look(self) -> None:
        """Look at all, from another thread than theirs."""
        now = self._clock()
        gap = now - self._loop_beat - _LOOKS_EVERY_S
        if gap > _STANDS_AFTER_S:
            self._stands(self._loop, gap, now)
        loaded = self._stats()
        for name, stats in loaded.items():
            self._look_at(self._watched(name), stats, now)
        for name in self._models.keys() - loaded.keys():
            self._troubles.end(self._models.pop(name).part)

    def _watched(self, name: str) -> _Watched:
        other = self._default not in ("", name)
        part = f"model thread of {name}" if other else "model thread"
        return self._models.setdefault(name, _Watched(part, partial=other))

    def _look_at(self, model: _Watched, stats: EngineStats, now: float) -> None:
        model.thread = stats.thread
        limit = _STANDS_AFTER_S if stats.switching is None else _SWITCHING_STANDS_AFTER_S
        if stats.alive and stats.step_s > limit:
            self._stands(model, stats.step_s, now)
        elif model.stands:
            self._stood(model, now - model.since, now)
        self._forget(model, now)

    def _look_on(self, ended: threading.Event) -> None:
        while not ended.wait(_LOOKS_EVERY_S):
            try:
                self.look()
            except Exception:
                _log.exception("the watchdog could not look")

    def _stands(self, watched: _Watched, gap: float, now: float) -> None:
        if not watched.stands:
            watched.stands, watched.since = True, now - gap
            where = stack_of(watched.thread)
            _log.warning("the %s has stood still for %.1f s in: %s", watched.part, gap, where)
        self._troubles.begin(
            watched.part,
            f"has stood still for {gap:.0f} s",
            partial=watched.partial or gap < _HOPELESS_AFTER_S,
        )

    def _stood(self, watched: _Watched, gap: float, now: float) -> None:
        where = "" if watched.stands else " (what it did is not known: nothing else could run)"
        watched.stands, watched.ended_at = False, now
        _log.warning("the %s stood still for %.1f s%s", watched.part, gap, where)
        self._troubles.begin(watched.part, f"stood still for {gap:.0f} s a moment ago", partial=True)

    def _forget(self, watched: _Watched, now: float) -> None:
        if not watched.stands and now - watched.ended_at > _REMEMBERED_S:
            self._troubles.end(watched.part)


def stack_of(thread: int | None) -> str:
    """Where a thread is, the innermost call first: files, lines and functions alone, without any value."""
    frame: FrameType | None = sys._current_frames().get(thread or 0)  # pyright: ignore[reportPrivateUsage]
    places: list[str] = []
    while frame is not None and len(places) < _FRAMES:
        code = frame.f_code
        places.append(f"{'/'.join(code.co_filename.split('/')[-2:])}:{frame.f_lineno} {code.co_name}")
        frame = frame.f_back
    return " < ".join(places) or "an unknown place"
