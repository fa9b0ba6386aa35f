"""The messages of one answer where they can be edited, and the one request that brings them up to date."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from glmbot.delivery.code_files import code_files
from glmbot.delivery.outlet import (
    Closed,
    Flooded,
    Gone,
    Missing,
    Outlet,
    Piece,
    Reduced,
    Refused,
    Unreachable,
)
from glmbot.delivery.pace import Pace
from glmbot.errors import ClaimLost
from glmbot.messages import Attachment, Reply

__all__ = ["Board", "Shown"]

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

_PLACEHOLDER = Piece("", "…")


@dataclass(slots=True)
class Shown:
    message_id: str
    item: Piece | Attachment | None


@dataclass(slots=True)
class Board:
    """The messages of one answer as the platform has them, and how to bring them up to date."""

    outlet: Outlet
    pace: Pace
    shown: list[Shown]
    on_sent: Callable[[Sequence[str]], Awaitable[None]] | None
    check: Callable[[], None]
    no_file: str
    sent_anew: int = 0
    drafted: Piece | None = None
    drafts_refused: bool = False
    files_refused: list[Attachment] = field(default_factory=list[Attachment])
    # Messages that stand behind one that went missing, with old words.
    stale: list[str] = field(default_factory=list[str])
    closed: int = 0
    pause: float = _FIRST_PAUSE_S
    _cut: tuple[Reply, Sequence[Piece], Sequence[Attachment]] | None = None

    async def next_step(self, reply: Reply) -> Callable[[], Awaitable[None]] | None:
        """The one request that brings the platform nearer to `reply`; None when all of it is there."""
        items = await self._items(reply)
        for index, item in enumerate(items):
            if index >= len(self.shown):
                says_nothing = False
                if isinstance(item, Piece) and not reply.state.ended and index == len(items) - 1:
                    if self.outlet.drafts and not self.drafts_refused:
                        return None if item == self.drafted else lambda item=item: self._draft(item)
                    says_nothing = not item.text
                return lambda item=item, bare=says_nothing: self._send(item, bare)
            if self.shown[index].item != item:
                return lambda index=index, item=item: self._edit(index, item)
        if len(self.shown) > len(items):
            return self._remove_last
        return self._remove_stale if self.stale and reply.state.ended else None

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

    async def _items(self, reply: Reply) -> Sequence[Piece | Attachment]:
        """What is to be on the platform. Cut once for each snapshot."""
        if self._cut is None or self._cut[0] is not reply:

            def cut() -> tuple[Reply, Sequence[Piece], Sequence[Attachment]]:
                return reply, self.outlet.cut(reply), code_files(reply.text) if reply.state.ended else []

            self._cut = await asyncio.to_thread(cut) if len(reply.text) > _LONG_TEXT else cut()
        _, pieces, code = self._cut
        items: list[Piece | Attachment] = [*pieces]
        if reply.state.ended and (own := reply.attachment) is not None:
            if own not in self.files_refused:
                items.append(own)
            elif self.no_file:
                items.append(Piece("", self.no_file))
        # Code stands in the text as well: nobody needs to be told that it does not come as a file.
        return [*items, *(file for file in code if file not in self.files_refused)]

    async def _send(self, item: Piece | Attachment, says_nothing: bool) -> None:
        """A process that dies between a message and its record leaves at worst a "…" behind, never words that the
        next process says again."""
        index = len(self.shown)
        place = f"{index}.{self.sent_anew}" if self.sent_anew else str(index)
        first = item if says_nothing or self.outlet.sends_once else _PLACEHOLDER
        try:
            self.shown.append(Shown(await self._ask(self.outlet.send(first, place)), first))
        except Refused as error:
            self._do_without(first, error)
            return
        await self._record()
        if first is not item:
            await self.pace.follow()
            await self._edit(index, item)

    async def _edit(self, index: int, item: Piece | Attachment) -> None:
        try:
            await self._ask(self.outlet.edit(self.shown[index].message_id, item))
            self.shown[index].item = item
        except Refused as error:
            self._do_without(item, error)
        except Missing:
            # Somebody deleted it: the rest is sent anew behind what is left.
            self.stale += [shown.message_id for shown in self.shown[index:]]
            del self.shown[index:]
            self.sent_anew += 1
            await self._record()

    def _do_without(self, item: Piece | Attachment, error: Refused) -> None:
        """An answer may come without its files, not without its words."""
        if not isinstance(item, Attachment):
            raise error
        _log.info("a file is refused by the platform, and left out: %s", error)
        self.files_refused.append(item)

    async def _remove_last(self) -> None:
        await self._remove(self.shown[-1].message_id)
        self.shown.pop()
        await self._record()

    async def _remove_stale(self) -> None:
        await self._remove(self.stale[-1])
        self.stale.pop()

    async def _remove(self, message_id: str) -> None:
        """What may not be removed is left without words."""
        try:
            await self._ask(self.outlet.remove(message_id))
        except Missing:
            return
        except Refused as error:
            _log.info("a message that is too much can't be removed, and is emptied: %s", error)
            await self.pace.follow()
            with suppress(Missing, Refused):
                await self._ask(self.outlet.edit(message_id, _PLACEHOLDER))

    async def _draft(self, piece: Piece) -> None:
        try:
            await self._ask(self.outlet.draft(piece))
        except (Refused, Closed, Missing) as error:
            _log.info("drafts are refused here, so the answer grows by edits: %s", error)
            self.drafts_refused = True
        self.drafted = piece

    async def _ask(self, request: Coroutine[Any, Any, _T]) -> _T:
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

    async def _record(self) -> None:
        if self.on_sent is not None:
            await self.on_sent([shown.message_id for shown in self.shown])
