"""What plug-ins show on the operator's page, and are told there: in time, and whatever they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from glmbot.bot import Bot
from glmbot.errors import StoreError
from glmbot.registered import RegisteredPanel

__all__ = ["done", "shown"]

_LONGEST_S = 20.0
_T = TypeVar("_T")


async def shown(registered: RegisteredPanel, bot: Bot) -> Mapping[str, Any]:
    """Raises ValueError where it can't be shown, and StoreError."""
    return await _in_time(registered, registered.panel.shown(bot))


async def done(registered: RegisteredPanel, bot: Bot, wish: Mapping[str, Any], language: str) -> str:
    """Raises ValueError with what is wrong, and StoreError."""
    return await _in_time(registered, registered.panel.does(bot, wish, language))


async def _in_time(registered: RegisteredPanel, work: Awaitable[_T]) -> _T:
    try:
        async with asyncio.timeout(_LONGEST_S):
            return await work
    except (ValueError, StoreError, asyncio.CancelledError):
        raise
    except TimeoutError as error:
        raise ValueError(f"the plug-in {registered.plugin} took too long") from error
    except BaseException as error:
        registered.log.error("on the operator's page: %s", type(error).__name__, exc_info=error)
        raise ValueError(f"the plug-in {registered.plugin} failed; the log says how") from error
