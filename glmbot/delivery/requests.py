"""The requests of one answer: each when it may be made, and what is done about those that are refused for now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from glmbot.delivery.abilities import Ability
from glmbot.delivery.code_files import code_files
from glmbot.delivery.outlet import (
    Closed,
    Flooded,
    Gone,
    Outlet,
    Piece,
    Reduced,
    Refused,
    Unreachable,
    abilities_of,
)
from glmbot.delivery.pace import Pace
from glmbot.errors import ClaimLost
from glmbot.messages import Attachment, Reply

__all__ = ["Requests"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
# A client library may wait by itself inside a request.
_LOOK_EVERY_S = 1.0
# With the pauses between them about a minute.
_MOST_CLOSED = 6
# Cutting and rendering a longer text would be felt in everybody else's stream.
_LONG_TEXT = 4000


@dataclass(slots=True, kw_only=True)
class Requests:
    """What is common to answers that are edited and those that are sent once.

    check: raises ClaimLost once another process writes here. no_file: what stands in place of a file. anew: how
    often the answer had to be sent once more.
    """

    outlet: Outlet
    pace: Pace
    check: Callable[[], None]
    no_file: str = ""
    anew: int = 0
    files_refused: list[Attachment] = field(default_factory=list[Attachment])
    closed: int = 0
    pause: float = field(default_factory=lambda: _FIRST_PAUSE_S)

    def can(self, ability: Ability) -> bool:
        return ability in abilities_of(self.outlet)

    async def take(self, step: Callable[[], Awaitable[None]]) -> None:
        """Make one request. A refusal that will pass only moves the time of the next one."""
        now = asyncio.get_running_loop().time
        try:
            await step()
        except Flooded as flood:
            self.pace.flooded(now(), flood.retry_after)
        except Unreachable as error:
            self._rest(error)
        except Closed as error:
            self.closed += 1
            if self.closed >= _MOST_CLOSED:
                raise Gone(str(error)) from error
            self._rest(error)
        except Reduced as error:
            _log.info("the platform refused a part of an answer, which is left out: %s", error)
        else:
            self.pause, self.closed = _FIRST_PAUSE_S, 0

    def _rest(self, error: Exception) -> None:
        _log.warning("%s; trying again in %.0f s", error, self.pause)
        now = asyncio.get_running_loop().time()
        self.pace.ready_at = max(self.pace.ready_at, now + self.pause)
        self.pause = min(2 * self.pause, _LONGEST_PAUSE_S)

    async def cut(self, reply: Reply) -> Sequence[Piece]:
        """The messages of a text, without buttons where there are none."""
        if not self.can(Ability.BUTTONS):
            reply = replace(reply, actions=())
        long = len(reply.text) > _LONG_TEXT
        return await asyncio.to_thread(self.outlet.cut, reply) if long else self.outlet.cut(reply)

    async def code(self, reply: Reply) -> Sequence[Attachment]:
        """The long code of an ended answer, as files."""
        if not reply.state.ended or not self.can(Ability.FILE):
            return ()
        long = len(reply.text) > _LONG_TEXT
        return await asyncio.to_thread(code_files, reply.text) if long else code_files(reply.text)

    def files(self, reply: Reply, code: Sequence[Attachment]) -> Sequence[Piece | Attachment]:
        """What stands behind an ended answer's words."""
        can = self.can(Ability.FILE)
        items: list[Piece | Attachment] = []
        if (own := reply.attachment) is not None:
            if can and own not in self.files_refused:
                items.append(own)
            elif self.no_file:
                items.append(Piece("", self.no_file))
        # Code stands in the text as well: nobody needs to be told that it does not come as a file.
        return [*items, *(file for file in code if file not in self.files_refused)]

    def place(self, index: int) -> str:
        """The name of the answer's message of this number, by which a platform knows it again."""
        return f"{index}.{self.anew}" if self.anew else str(index)

    def left_out(self, item: Piece | Attachment, error: Refused) -> Attachment:
        """An answer may come without its files, not without its words. Raises `error`."""
        if not isinstance(item, Attachment):
            raise error
        _log.info("a file is refused by the platform, and left out: %s", error)
        return item

    async def ask(self, request: Coroutine[Any, Any, _T]) -> _T:
        """One request. Raises ClaimLost instead of making it, and while it waits somewhere inside itself."""
        loop = asyncio.get_running_loop()
        looking: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal looking
            try:
                self.check()
            except ClaimLost:
                lost.reschedule(loop.time())
            else:
                looking = loop.call_later(_LOOK_EVERY_S, look)

        try:
            async with asyncio.timeout(None) as lost:
                self.check()
                looking = loop.call_later(_LOOK_EVERY_S, look)
                return await request
        except TimeoutError:
            self.check()
            raise
        finally:
            if looking is not None:
                looking.cancel()
            request.close()
