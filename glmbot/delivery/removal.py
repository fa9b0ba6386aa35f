"""Taking away an answer that nobody wants any more: its question was deleted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from glmbot.delivery.outlet import Flooded, NotWritten, Unreachable
from glmbot.delivery.pace import Pace
from glmbot.errors import AdapterError

__all__ = ["remove_each"]

_log = logging.getLogger(__name__)

# What stays is no more than unwanted: nobody waits for it without end.
_TRIES = 4
_PAUSE_S = 1.0


async def remove_each(
    platform: str, pace: Pace, messages: Iterable[str], remove: Callable[[str], Awaitable[object]]
) -> None:
    """One after the other, in the chat's rhythm, whatever else is to be taken away there. One that is refused for
    now is tried again a few times, one that is refused stays, and that is logged."""
    for message in messages:
        async with pace.aside:
            await _remove(platform, pace, message, remove)


async def _remove(
    platform: str, pace: Pace, message: str, remove: Callable[[str], Awaitable[object]]
) -> None:
    for tries_left in reversed(range(_TRIES)):
        await pace.turn()
        try:
            await remove(message)
        except (Flooded, Unreachable) as error:
            now = asyncio.get_running_loop().time()
            pace.flooded(now, error.retry_after if isinstance(error, Flooded) else _PAUSE_S)
            if tries_left:
                continue
            _stays(platform, error)
        except (NotWritten, AdapterError) as error:
            _stays(platform, error)
        return


def _stays(platform: str, error: Exception) -> None:
    _log.info("%s: an answer that is not wanted any more stays: %s", platform, error)
