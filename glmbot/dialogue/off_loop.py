"""Work that grows with what people send: in a thread, one piece at a time for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from glmbot.background import Background
from glmbot.errors import EngineError
from glmbot.locks import Locks

__all__ = ["OffLoop"]

_T = TypeVar("_T")
# So many characters cost less than the change to another thread does.
_SMALL = 2000


class OffLoop:
    def __init__(self) -> None:
        self._locks = Locks[str]()
        self._running = Background()

    async def run(self, who: str, characters: int, work: Callable[[], _T]) -> _T:
        """Do `work`, which reads so many characters, for a person or a source.

        Who goes away lets the next one wait until what was begun has ended: a thread can't be stopped, and nobody
        may have more than one of them. Raises what `work` raises; EngineError for a panic of a native library.
        """
        if characters <= _SMALL:
            return _guarded(work)
        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()

        async def in_turn() -> None:
            async with self._locks.of(who):
                if done.cancelled():
                    return
                try:
                    result = await asyncio.to_thread(_guarded, work)
                except Exception as error:
                    if not done.done():
                        done.set_exception(error)
                else:
                    if not done.done():
                        done.set_result(result)

        self._running.begin(in_turn())
        return await done


def _guarded(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # Tokenizers are written in Rust, whose panics are no Exception: they would end more than this request.
        raise EngineError(f"{type(error).__name__}: {error}"[:500]) from error
