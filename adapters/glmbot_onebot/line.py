"""The connection that there is now, whichever side made it: who speaks waits a moment for it, and asks it."""

from __future__ import annotations

import asyncio
from typing import Any

from glmbot.delivery.outlet import Unsent
from glmbot.errors import AdapterError
from glmbot_onebot.session import Implementation, Session

__all__ = ["Line"]

_WAIT_S = 10.0


class Line:
    def __init__(self) -> None:
        self._session: Session | None = None
        self._came, self._gone = asyncio.Event(), asyncio.Event()
        self._gone.set()
        self.implementation = Implementation("", "", "")
        """That of the last connection."""

    async def come(self) -> None:
        await self._came.wait()

    async def gone(self) -> None:
        await self._gone.wait()

    def take(self, session: Session, implementation: Implementation) -> Session | None:
        """Returns the one that it takes the place of. Raises AdapterError for another account beside ours."""
        before = self._session
        if before is not None and implementation.self_id != self.implementation.self_id:
            raise AdapterError(
                f"the account {implementation.self_id} is left out, since {self.implementation.self_id} is"
                " connected: one bot has one account"
            )
        self._session, self.implementation = session, implementation
        self._gone.clear()
        self._came.set()
        return before

    def drop(self, session: Session) -> None:
        if self._session is session:
            self._session = None
            self._came.clear()
            self._gone.set()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, action: str, **params: object) -> Any:
        """Raises Unsent, Unreachable, Failed."""
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._came.wait()
        except TimeoutError as error:
            raise Unsent("OneBot: no implementation is connected") from error
        if self._session is None:
            raise Unsent("OneBot: no implementation is connected")
        return await self._session.ask(action, **params)
