"""Tasks that go on by themselves: how they end when the process stops, and that none of them ends unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager

from glmbot.errors import AdapterError, PlatformRefused
from glmbot.logs import outward
from glmbot.messages import Obstacle

__all__ = ["Background", "Running", "Troubles", "keep_going", "reconnecting", "together"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_MOST_TROUBLES = 50


class Troubles:
    """What does not work at the moment, by the name of the part: for the log and /readyz."""

    def __init__(self) -> None:
        self._found: dict[str, Obstacle] = {}

    @property
    def now(self) -> Sequence[Obstacle]:
        return list(self._found.values())

    def begin(self, part: str, words: str, *, partial: bool = False) -> None:
        """Note it, in words that anybody may read. `partial`: others are answered all the same."""
        if part in self._found or len(self._found) < _MOST_TROUBLES:
            self._found[part] = Obstacle(part, outward(words), partial)

    def end(self, part: str) -> None:
        self._found.pop(part, None)


async def keep_going(
    name: str,
    work: Callable[[], Awaitable[None]],
    troubles: Troubles,
    is_over: Callable[[], bool],
    *,
    partial: bool = False,
) -> None:
    """Do `work` until it `is_over`. Whatever else ends it is logged with its reason, noted in `troubles` until it
    runs again, and it is begun again after a pause that grows from one second to a minute."""
    loop = asyncio.get_running_loop()
    pause = _FIRST_PAUSE_S
    while not is_over():
        began = loop.time()
        again = loop.call_later(_FIRST_PAUSE_S, troubles.end, name)
        try:
            await work()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            _log.exception("%s ended; beginning again in %.0f s", name, pause)
        else:
            if is_over():
                return
            reason = "it ended by itself"
            _log.error("%s ended by itself; beginning again in %.0f s", name, pause)
        finally:
            again.cancel()
        troubles.begin(name, reason, partial=partial)
        if loop.time() - began > _LONGEST_PAUSE_S:
            pause = _FIRST_PAUSE_S
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


async def reconnecting(listen: Callable[[], Awaitable[bool]], connect: Callable[[], Awaitable[None]]) -> None:
    """Listen for ever, and connect again when that ends, after a pause that grows from one second to a minute.

    listen: returns whether there was anything to listen to. Raises PlatformRefused.
    """
    pause = _FIRST_PAUSE_S
    while True:
        if await listen():
            pause = _FIRST_PAUSE_S
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
        try:
            await connect()
        except PlatformRefused:
            raise
        except AdapterError as error:
            _log.warning("%s; trying again in %.0f s", error, pause)


@asynccontextmanager
async def together() -> AsyncGenerator[asyncio.TaskGroup]:
    """Tasks of which each needs the others: with the first that fails all end, and that one's reason is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed


class Running:
    """What a platform's adapter does from `run` to `stop`: to hear what comes, and to answer what is assigned."""

    def __init__(self) -> None:
        self._tasks: Sequence[asyncio.Task[None]] = ()

    async def run(self, *works: Coroutine[None, None, None]) -> None:
        """Each needs the others; what ended on purpose stays ended until this is cancelled. Raises what fails."""
        async with together() as group:
            self._tasks = [group.create_task(work) for work in works]
        await asyncio.Event().wait()

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()


class Background:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Tasks take their first step in the order in which they were begun. One that fails is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def drain(self, grace_s: float) -> None:
        """Let what runs end within `grace_s` seconds, then cancel the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task in the background failed", exc_info=error)
