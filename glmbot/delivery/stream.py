"""Showing a growing answer on a platform that allows few writes: one design for all platforms.

Snapshots are conflated: what is written is always the newest text, at the chat's own pace. A flood answer
holds only this chat. The final text is written until the platform has taken it. Where the platform refuses a part
(a file, a draft, a removal), the rest arrives without it. Every wait is here, and behind each one, right before
the write, stands the look at the claim.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from glmbot.delivery.abilities import Ability
from glmbot.delivery.board import Board, Shown
from glmbot.delivery.once import Once, OnceBoard
from glmbot.delivery.outlet import NotWritten, Outlet, Piece, abilities_of
from glmbot.delivery.pace import Pace
from glmbot.delivery.requests import Requests
from glmbot.errors import ClaimLost
from glmbot.messages import Reply

__all__ = ["BrokenOff", "Outlet", "Piece", "show"]

_TYPING_EVERY_S = 4.0


class BrokenOff(Exception):
    """The snapshots ended without an ended one."""


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
    once: Once | None = None,
) -> Reply | None:
    """Show `replies` until the ended one is wholly on the platform. Returns it, or None when there was none.

    `sent`: ids of messages that already show a part of this answer, from before a restart; they are edited.
    `on_sent` gets all ids after each new message, before anything else is written.
    `after`: nothing is written before these are done, save what needs no waiting: the bot's own word by itself.
    `check` raises ClaimLost once another process writes here; it is called right before each write.
    `no_file`: what stands in place of a file that the platform refuses.
    `once`: how an answer is sent where nothing can be edited; `sent` are then those that stand there and stay.
    Raises Gone when the chat can't be written to; the generation is then cancelled. Raises ClaimLost when
    `check`, `replies` or `on_sent` does, and whatever else `replies` does, or BrokenOff: then the answer has no
    end yet.
    """
    latest = _Latest()

    def check_all() -> None:
        if isinstance(latest.failure, ClaimLost):
            raise latest.failure
        check()

    board = _board(outlet, pace, sent, on_sent, check_all, no_file, once or Once())
    pump = asyncio.ensure_future(_pump(replies, latest))
    typing = asyncio.ensure_future(_show_typing(board, latest, after))
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


def _board(
    outlet: Outlet,
    pace: Pace,
    sent: Sequence[str],
    on_sent: Callable[[Sequence[str]], Awaitable[None]] | None,
    check: Callable[[], None],
    no_file: str,
    once: Once,
) -> Board | OnceBoard:
    if Ability.EDIT not in abilities_of(outlet):
        return OnceBoard(outlet=outlet, pace=pace, check=check, no_file=no_file, once=once, ids=list(sent))
    shown = [Shown(message_id, None) for message_id in sent]
    return Board(outlet=outlet, pace=pace, check=check, no_file=no_file, shown=shown, on_sent=on_sent)


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


async def _show_typing(board: Requests, latest: _Latest, after: Collection[asyncio.Future[Any]]) -> None:
    """While nothing new is to be seen: until the model has said something, or where nothing can be edited until it
    has said all. Platforms end it by themselves after some seconds, or with the text.

    Who asks twenty questions in a row sees it for the first.
    """
    if not board.can(Ability.TYPING):
        return
    await latest.begun.wait()
    if after:
        await asyncio.wait(after)
    grows = board.can(Ability.EDIT)
    while (reply := latest.reply) is not None and not (reply.text and grows) and not reply.state.ended:
        # A decoration: whatever goes wrong with it, no answer is held up, and many who wait hold up nobody's.
        if board.pace.is_calm(asyncio.get_running_loop().time()):
            with suppress(NotWritten, ClaimLost):
                await board.pace.follow()
                board.check()
                await board.outlet.typing()
        await asyncio.sleep(_TYPING_EVERY_S)
