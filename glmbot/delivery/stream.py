"""Showing a growing answer on a platform that allows few writes: one design for all platforms.

Snapshots are conflated: what is written is always the newest text, at the chat's own pace. A flood answer
holds only this chat. The final text is written until the platform has taken it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from glmbot.delivery.code_files import code_files
from glmbot.delivery.pace import Pace
from glmbot.errors import ClaimLost
from glmbot.messages import Action, Attachment, Reply, ReplyState

__all__ = ["Flooded", "Gone", "Missing", "Outlet", "Piece", "Refused", "Unreachable", "show"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_TYPING_EVERY_S = 4.0


class Flooded(Exception):
    """The platform refuses writes to this chat for `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"flood limit, {retry_after} s")
        self.retry_after = retry_after


class Unreachable(Exception):
    """The platform did not take the write this time: network, time-out, server error."""


class Gone(Exception):
    """This chat can't be written to any more: blocked, left, deleted, no permission."""


class Missing(Exception):
    """The message to edit is no longer there."""


class Refused(Exception):
    """The platform will never take this request as it is, for a reason that we don't know."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One message: a whole piece of the model's Markdown, the bot's own line under it, and commands as buttons."""

    text: str
    notice: str = ""
    actions: tuple[Action, ...] = ()


class Outlet(Protocol):
    """Where one answer goes. Each method is one request and may raise the exceptions above.

    With `drafts` the last message of a growing answer is shown by `draft`, and sent when it has ended.
    """

    drafts: bool

    @property
    def sends_once(self) -> bool:
        """Whether the platform itself drops the next `send` when it is repeated by a process that does not know
        whether it was taken. Where it does not, what is sent says nothing yet, and the words come by `edit`."""
        ...

    def cut(self, reply: Reply) -> Sequence[Piece]:
        """The messages that the whole text makes. At least one."""
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
) -> Reply | None:
    """Show `replies` until the ended one is wholly on the platform. Returns it, or None when there was none.

    `sent`: ids of messages that already show a part of this answer, from before a restart; they are edited.
    `on_sent` gets all ids after each new message, before anything else is written.
    `after`: nothing is written before these are done, save what needs no waiting: the bot's own word by itself.
    Raises Gone when the chat can't be written to; the generation is then cancelled. Raises ClaimLost when
    `replies` or `on_sent` does: another process writes here now.
    """
    latest = _Latest()
    pump = asyncio.ensure_future(_pump(replies, latest))
    typing = asyncio.ensure_future(_show_typing(outlet, latest, after))
    board = _Board(outlet, pace, [_Shown(message_id, None) for message_id in sent], on_sent)
    try:
        while True:
            await latest.changed.wait()
            latest.changed.clear()
            if latest.lost is not None:
                raise latest.lost
            if latest.reply is None:
                return None
            if after and (latest.reply.text or not latest.reply.state.ended):
                # Else the earlier answer's next message would stand below the first of this one.
                await asyncio.wait(after)
            after = ()
            while board.next_step(latest.reply) is not None:
                await pace.turn()
                # While waiting, a newer text may have come: it wins.
                step = board.next_step(latest.reply)
                if step is not None:
                    await board.take(step)
            if latest.reply.state.ended:
                return latest.reply
    finally:
        typing.cancel()
        pump.cancel()
        await asyncio.wait({pump, typing})


@dataclass(slots=True)
class _Latest:
    reply: Reply | None = None
    lost: ClaimLost | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)


async def _pump(replies: AsyncGenerator[Reply, None], latest: _Latest) -> None:
    try:
        async with aclosing(replies):
            async for reply in replies:
                latest.reply = reply
                latest.begun.set()
                latest.changed.set()
    except ClaimLost as error:
        latest.lost = error
        latest.changed.set()
        return
    except Exception:
        _log.exception("an answer broke off")
        text = latest.reply.text if latest.reply else ""
        latest.reply = Reply(text, ReplyState.FAILED)
    if latest.reply is not None and not latest.reply.state.ended:
        latest.reply = Reply(latest.reply.text, ReplyState.FAILED, latest.reply.notice)
    latest.changed.set()


async def _show_typing(outlet: Outlet, latest: _Latest, after: Collection[asyncio.Future[Any]] = ()) -> None:
    """While the model has said nothing. Platforms end it by themselves after some seconds, or with the text.

    Who asks twenty questions in a row sees it for the first.
    """
    await latest.begun.wait()
    if after:
        await asyncio.wait(after)
    while (reply := latest.reply) is not None and not reply.text and not reply.state.ended:
        # A decoration: whatever goes wrong with it, the answer is not held up.
        with suppress(Flooded, Unreachable, Gone, Missing, Refused):
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
    sent_anew: int = 0
    drafted: Piece | None = None
    pause: float = _FIRST_PAUSE_S

    def next_step(self, reply: Reply) -> Callable[[], Awaitable[None]] | None:
        """The one request that brings the platform nearer to `reply`; None when all of it is there."""
        items: list[Piece | Attachment] = [*self.outlet.cut(reply)]
        if reply.state.ended:
            items += _files(reply)
        for index, item in enumerate(items):
            if index >= len(self.shown):
                says_nothing = False
                if isinstance(item, Piece) and not reply.state.ended and index == len(items) - 1:
                    if self.outlet.drafts:
                        return None if item == self.drafted else lambda item=item: self._draft(item)
                    says_nothing = not item.text
                return lambda item=item, bare=says_nothing: self._send(item, bare)
            if self.shown[index].item != item:
                return lambda index=index, item=item: self._edit(index, item)
        return self._remove_last if len(self.shown) > len(items) else None

    async def take(self, step: Callable[[], Awaitable[None]]) -> None:
        """Make one request. A refusal that will pass only moves the time of the next one."""
        now = asyncio.get_running_loop().time
        try:
            await step()
        except Flooded as flood:
            self.pace.flooded(now(), flood.retry_after)
        except Unreachable as error:
            _log.warning("%s; trying again in %.0f s", error, self.pause)
            self.pace.ready_at = now() + self.pause
            self.pause = min(2 * self.pause, _LONGEST_PAUSE_S)
        else:
            self.pause = _FIRST_PAUSE_S

    async def _send(self, item: Piece | Attachment, says_nothing: bool) -> None:
        """A process that dies between a message and its record leaves at worst a "…" behind, never words that the
        next process says again."""
        index = len(self.shown)
        place = f"{index}.{self.sent_anew}" if self.sent_anew else str(index)
        first = item if says_nothing or self.outlet.sends_once else _PLACEHOLDER
        self.shown.append(_Shown(await self.outlet.send(first, place), first))
        await self._record()
        if first is not item:
            await self._edit(index, item)

    async def _edit(self, index: int, item: Piece | Attachment) -> None:
        try:
            await self.outlet.edit(self.shown[index].message_id, item)
            self.shown[index].item = item
        except Missing:
            # Somebody deleted it: the rest is sent anew behind what is left.
            del self.shown[index:]
            self.sent_anew += 1
            await self._record()

    async def _remove_last(self) -> None:
        with suppress(Missing):
            await self.outlet.remove(self.shown[-1].message_id)
        self.shown.pop()
        await self._record()

    async def _draft(self, piece: Piece) -> None:
        await self.outlet.draft(piece)
        self.drafted = piece

    async def _record(self) -> None:
        if self.on_sent is not None:
            await self.on_sent([shown.message_id for shown in self.shown])


def _files(reply: Reply) -> Sequence[Attachment]:
    own = [reply.attachment] if reply.attachment is not None else []
    return [*own, *code_files(reply.text)]
