"""What keeps the bot, or a part of it, from answering: asked by machines, often, and also when nothing works."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from glmbot.background import Troubles
from glmbot.engine.base import EngineStats
from glmbot.engine.pool import Engines
from glmbot.errors import StoreError
from glmbot.logs import outward
from glmbot.messages import Obstacle
from glmbot.store.base import Upkeep

__all__ = ["Readiness", "engine_trouble"]

_log = logging.getLogger(__name__)

_STORE_LOOKED_EVERY_S = 1.0
_STORE_ANSWERS_S = 2.0


def engine_trouble(stats: EngineStats) -> str:
    """ "" when it can answer."""
    if not stats.alive:
        return "the model's thread has ended; the bot must be started again"
    if stats.servers and not any(works for _, works in stats.servers):
        return "no model server answers"
    return ""


class Readiness:
    def __init__(
        self, engines: Engines, store: Upkeep, troubles: Troubles, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engines = engines
        self._store = store
        self._troubles = troubles
        self._clock = clock
        self._look: asyncio.Task[str] | None = None
        self._looked_at = float("-inf")
        self._store_trouble = ""

    async def obstacles(self) -> Sequence[Obstacle]:
        """Answers within two seconds, and asks the store once a second at most."""
        found: list[Obstacle] = []
        for place, state in enumerate(self._engines.states()):
            # Of the first, which is the default, everybody is in want.
            if words := engine_trouble(state.stats) or state.trouble:
                part = f"model {state.name}" if place else "engine"
                found.append(Obstacle(part, outward(words), partial=place > 0))
        if words := await self._of_the_store():
            found.append(Obstacle("store", words))
        return [*found, *self._troubles.now]

    def doubt(self) -> None:
        """The store has just failed somebody: what is known of it is no longer true."""
        self._looked_at = float("-inf")

    async def _of_the_store(self) -> str:
        now = self._clock()
        if self._look is None and now - self._looked_at < _STORE_LOOKED_EVERY_S:
            return self._store_trouble
        if self._look is None:
            self._looked_at = now
            self._look = asyncio.create_task(self._ask_store())
        look = self._look
        done, _ = await asyncio.wait({look}, timeout=_STORE_ANSWERS_S)
        if not done:
            return self._note(f"it has not answered for {max(_STORE_ANSWERS_S, now - self._looked_at):.0f} s")
        if self._look is look:
            self._look = None
        return self._note(look.result())

    async def _ask_store(self) -> str:
        try:
            await self._store.check()
        except StoreError as error:
            return str(error) or type(error).__name__
        except Exception as error:
            _log.exception("the store could not be looked at")
            return type(error).__name__
        return ""

    def _note(self, trouble: str) -> str:
        words = outward(trouble)
        if words and words != self._store_trouble:
            _log.error("the store: %s", trouble)
        elif self._store_trouble and not words:
            _log.info("the store answers again")
        self._store_trouble = words
        return words
