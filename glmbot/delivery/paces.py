"""The rhythms of all chats of a platform: each its own, within that of all together."""

from __future__ import annotations

import asyncio

from glmbot.delivery.pace import Pace

__all__ = ["Paces"]

_FEW = 1000
_IDLE_S = 900.0


class Paces:
    """Those of chats that rest are forgotten. within: seconds between any two writes, in whatever chats."""

    def __init__(self, within: float = 0.0) -> None:
        self._within = Pace(within) if within else None
        self._paces: dict[str, Pace] = {}
        self._most = _FEW

    def of(self, chat: str, base: float) -> Pace:
        """base: seconds between two writes to this chat."""
        if chat not in self._paces:
            self._forget_idle()
            self._paces[chat] = Pace(base, within=self._within)
        return self._paces[chat]

    def _forget_idle(self) -> None:
        """Looks at all only when they have doubled since."""
        if len(self._paces) < self._most:
            return
        since = asyncio.get_running_loop().time() - _IDLE_S
        self._paces = {chat: pace for chat, pace in self._paces.items() if pace.ready_at > since}
        self._most = max(_FEW, 2 * len(self._paces))
