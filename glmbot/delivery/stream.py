"""Showing a growing answer on a platform that allows few writes: one design for all platforms.

Snapshots are conflated: what is written is always the newest text, at the chat's own pace. A flood answer
holds only this chat. The final text is written until the platform has taken it. Where the platform refuses a part
(a file, a draft, a removal), the rest arrives without it. Every wait is here, and behind each one, right before
the write, stands the look at the claim.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from glmbot.delivery.code_files import code_files
from glmbot.delivery.pace import Pace
from glmbot.errors import ClaimLost
from glmbot.messages import Action, Attachment, Reply

__all__ = [
    "BrokenOff",
    "Closed",
    "Flooded",
    "Gone",
    "Missing",
    "Outlet",
    "Piece",
    "Reduced",
    "Refused",
    "Unreachable",
    "show",
]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_TYPING_EVERY_S = 4.0
# A client library may wait by itself inside a request.
_LOOK_EVERY_S = 1.0
# With the pauses between them about a minute.
_MOST_CLOSED = 6
# Cutting and rendering a longer text would be felt in everybody else's stream.
_LONG_TEXT = 4000


class Flooded(Exception):
    """The platform refuses writes to this chat for `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"flood limit, {retry_after} s")
        self.retry_after = retry_after


class Unreachable(Exception):
    """The platform did not take the write this time: network, time-out, server error."""


class Gone(Exception):
    """This chat can't be written to any more: blocked, left, deleted."""


class Closed(Exception):
    """This chat may not be written to for now: a closed topic, the bot's rights. Gone when that stays so."""


class Missing(Exception):
    """The message to edit is no longer there."""


class Refused(Exception):
    """The platform will never take this request as it is."""


class Reduced(Exception):
    """The platform refused a part of the request, which the outlet leaves out from now on: ask it again."""


class BrokenOff(Exception):
    """The snapshots ended without an ended one."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One message: a whole piece of the model's Markdown, the bot's own line under it, and commands as buttons."""

    text: str
    notice: str = ""
    actions: tuple[Action, ...] = ()


class Outlet(Protocol):
    """Where one answer goes. Each method is one request, without waiting, and may raise the exceptions above.

    With `drafts` the last message of a growing answer is shown by `draft`, and sent when it has ended.
    """

    drafts: bool

    @property
    def sends_once(self) -> bool:
        """Whether the platform itself drops the next `send` when it is repeated by a process that does not know
        whether it was taken. Where it does not, what is sent says nothing yet, and the words come by `edit`."""
        ...

    def cut(self, reply: Reply) -> Sequence[Piece]:
        """The messages that the whole text makes. At least one. Pure; a long text is cut in a thread."""
        ...

    async def send(self, item: Piece | Attachment, place: str) -> str:
        """Returns the new message's id. `place` names it within the answer: the same place is the same message."""
        ...

    async def edit(self, message_id: str, item: Piece | Attachment) -> None: ...

    async def remove(self, message_id: str) -> None: ...

    async def draft(self, piece: Piece) -> None: ...

    async def typing(self) -> None:
        """Show that something is coming, for some seconds."""
        ...


async def show(
    replies: AsyncGenerator[Reply, None],
    outlet: Outlet,
    pace: Pace,
    *,
    sent: Sequence[str] = (),
    on_sent: Callable[[Sequence[str]], Awaitable[None]] | None = None,
    after: Collection[asyncio.Future[Any]] = (),
    check: Callable[[], None] = lambda: None,
    no_file: str = "",
) -> Reply | None:
    """Show `replies` until the ended one is wholly on the platform. Returns it, or None when there was none.

    `sent`: ids of messages that already show a part of this answer, from before a restart; they are edited.
    `on_sent` gets all ids after each new message, before anything else is written.
    `after`: nothing is written before these are done, save what needs no waiting: the bot's own word by itself.
    `check` raises ClaimLost once another process writes here; it is called right before each write.
    `no_file`: what stands in place of a file that the platform refuses.
    Raises Gone when the chat can't be written to; the generation is then cancelled. Raises ClaimLost when
    `check`, `replies` or `on_sent` does, and whatever else `replies` does, or BrokenOff: then the answer has no
    end yet.
    """
    latest = _Latest()

    def check_all() -> None:
        if isinstance(latest.failure, ClaimLost):
            raise latest.failure
        check()

    pump = asyncio.ensure_future(_pump(replies, latest))
    typing = asyncio.ensure_future(_show_typing(outlet, pace, latest, after, check_all))
    board = _Board(
        outlet, pace, [_Shown(message_id, None) for message_id in sent], on_sent, check_all, no_file
    )
    try:
        while True:
            await latest.changed.wait()
            latest.changed.clear()
            reply = latest.current()
            if reply is None:
                return None
            if after and (reply.text or not reply.state.ended):
                # Else the earlier answer's next message would stand below the first of this one.
                await asyncio.wait(after)
            after = ()
            while (reply := latest.current()) is not None and await board.next_step(reply) is not None:
                await pace.turn()
                # While waiting, a newer text may have come: it wins.
                step = await board.next_step(latest.current() or reply)
                if step is not None:
                    await board.take(step)
            if reply is not None and reply.state.ended:
                return reply
    finally:
        typing.cancel()
        pump.cancel()
        await asyncio.wait({pump, typing})


@dataclass(slots=True)
class _Latest:
    reply: Reply | None = None
    failure: Exception | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def current(self) -> Reply | None:
        """Raises what ended the snapshots too early."""
        if self.failure is not None:
            raise self.failure
        return self.reply


async def _pump(replies: AsyncGenerator[Reply, None], latest: _Latest) -> None:
    ended = False
    try:
        async with aclosing(replies):
            async for reply in replies:
                latest.reply = reply
                latest.begun.set()
                latest.changed.set()
        ended = latest.reply is None or latest.reply.state.ended
    except Exception as error:
        latest.failure = error
    finally:
        # Also after what is no Exception: a panic of a library in Rust, a wait inside that was cancelled.
        if not ended and latest.failure is None:
            latest.failure = BrokenOff("the answer ended without an end")
        latest.changed.set()


async def _show_typing(
    outlet: Outlet,
    pace: Pace,
    latest: _Latest,
    after: Collection[asyncio.Future[Any]],
    check: Callable[[], None],
) -> None:
    """While the model has said nothing. Platforms end it by themselves after some seconds, or with the text.

    Who asks twenty questions in a row sees it for the first.
    """
    await latest.begun.wait()
    if after:
        await asyncio.wait(after)
    while (reply := latest.reply) is not None and not reply.text and not reply.state.ended:
        # A decoration: whatever goes wrong with it, the answer is not held up.
        with suppress(Flooded, Unreachable, Gone, Closed, Missing, Refused, Reduced, ClaimLost):
            await pace.follow()
            check()
            await outlet.typing()
        await asyncio.sleep(_TYPING_EVERY_S)


_PLACEHOLDER = Piece("", "…")


@dataclass(slots=True)
class _Shown:
    message_id: str
    item: Piece | Attachment | None


@dataclass(slots=True)
class _Board:
    """The messages of one answer as the platform has them, and how to bring them up to date."""

    outlet: Outlet
    pace: Pace
    shown: list[_Shown]
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
            self.shown.append(_Shown(await self._ask(self.outlet.send(first, place)), first))
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
