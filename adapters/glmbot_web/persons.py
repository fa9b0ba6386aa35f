"""Which person a browser is, and how one who came with an earlier release's cookie keeps the conversations.

In earlier releases a cookie was the person's number itself, from 2^62 on. Numbers derived from cookies are below
that, so that nobody's number, which logs hold, can be shown as an earlier cookie to take what that person has.
"""

from __future__ import annotations

from aiohttp import web

from glmbot.keys import UserKey
from glmbot.ports import Chats
from glmbot_web.guard import DERIVED_BELOW, Guard
from glmbot_web.normalize import PLATFORM

__all__ = ["Persons"]

_RELEASED_BELOW = 2**63
_MOST_REMEMBERED = 10_000


class Persons:
    def __init__(self, guard: Guard, dialogue: Chats) -> None:
        self._guard = guard
        self._dialogue = dialogue
        self._carried: set[str] = set()

    async def of(self, request: web.Request) -> str:
        """Raises 403 for a browser that has not opened a page yet, and StoreError."""
        person = self._guard.needed_session(request)
        number = int(self._guard.cookie(request))
        cookie = str(number)
        if DERIVED_BELOW <= number < _RELEASED_BELOW and cookie not in self._carried:
            await self._dialogue.moved(UserKey(PLATFORM, cookie), UserKey(PLATFORM, person))
            if len(self._carried) >= _MOST_REMEMBERED:
                self._carried.clear()
            self._carried.add(cookie)
        return person
