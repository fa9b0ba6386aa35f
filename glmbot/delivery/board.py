"""The messages of one answer where they can be edited, and the one request that brings them up to date."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from glmbot.delivery.abilities import Ability
from glmbot.delivery.outlet import Closed, Missing, Piece, Refused
from glmbot.delivery.requests import Requests
from glmbot.messages import Attachment, Reply

__all__ = ["Board", "Shown"]

_log = logging.getLogger(__name__)

_PLACEHOLDER = Piece("", "…")


def _nothing_yet(item: Piece | Attachment) -> Piece:
    """Of the item's own kind, by which its platform may know how it will go on."""
    if isinstance(item, Attachment):
        return _PLACEHOLDER
    return replace(item, text="", notice=_PLACEHOLDER.notice, actions=(), thought="")


@dataclass(slots=True)
class Shown:
    message_id: str
    item: Piece | Attachment | None


@dataclass(slots=True, kw_only=True)
class Board(Requests):
    """The messages of one answer as the platform has them, and how to bring them up to date."""

    shown: list[Shown]
    on_sent: Callable[[Sequence[str]], Awaitable[None]] | None
    drafted: Piece | None = None
    drafts_refused: bool = False
    # Messages that stand behind one that went missing, with old words.
    stale: list[str] = field(default_factory=list[str])
    _cut: tuple[Reply, Sequence[Piece], Sequence[Attachment]] | None = None

    async def next_step(self, reply: Reply) -> Callable[[], Awaitable[None]] | None:
        """The one request that brings the platform nearer to `reply`; None when all of it is there."""
        items = await self._items(reply)
        for index, item in enumerate(items):
            if index >= len(self.shown):
                says_nothing = False
                if isinstance(item, Piece) and not reply.state.ended and index == len(items) - 1:
                    if self.can(Ability.DRAFT) and not self.drafts_refused:
                        return None if item == self.drafted else lambda item=item: self._draft(item)
                    says_nothing = not item.text
                return lambda item=item, bare=says_nothing: self._send(item, bare)
            if self.shown[index].item != item:
                return lambda index=index, item=item: self._edit(index, item)
        if len(self.shown) > len(items):
            return self._remove_last
        return self._remove_stale if self.stale and reply.state.ended else None

    async def _items(self, reply: Reply) -> Sequence[Piece | Attachment]:
        """What is to be on the platform. Cut once for each snapshot."""
        if self._cut is None or self._cut[0] is not reply:
            self._cut = reply, await self.cut(reply), await self.code(reply)
        _, pieces, code = self._cut
        return [*pieces, *(self.files(reply, code) if reply.state.ended else [])]

    async def _send(self, item: Piece | Attachment, says_nothing: bool) -> None:
        """A process that dies between a message and its record leaves at worst a "…" behind, never words that the
        next process says again."""
        index = len(self.shown)
        first = item if says_nothing or self.can(Ability.ONCE) else _nothing_yet(item)
        try:
            self.shown.append(Shown(await self.ask(self.outlet.send(first, self.place(index))), first))
        except Refused as error:
            self._do_without(first, error)
            return
        await self._record()
        if first is not item:
            await self.pace.follow()
            await self._edit(index, item)

    async def _edit(self, index: int, item: Piece | Attachment) -> None:
        try:
            await self.ask(self.outlet.edit(self.shown[index].message_id, item))
            self.shown[index].item = item
        except Refused as error:
            self._do_without(item, error)
        except Missing:
            # Somebody deleted it: the rest is sent anew behind what is left.
            self.stale += [shown.message_id for shown in self.shown[index:]]
            del self.shown[index:]
            self.anew += 1
            await self._record()

    def _do_without(self, item: Piece | Attachment, error: Refused) -> None:
        self.files_refused.append(self.left_out(item, error))

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
            if not self.can(Ability.REMOVE):
                raise Refused("nothing is removed there")
            await self.ask(self.outlet.remove(message_id))
        except Missing:
            return
        except Refused as error:
            _log.info("a message that is too much can't be removed, and is emptied: %s", error)
            await self.pace.follow()
            with suppress(Missing, Refused):
                await self.ask(self.outlet.edit(message_id, _PLACEHOLDER))

    async def _draft(self, piece: Piece) -> None:
        try:
            await self.ask(self.outlet.draft(piece))
        except (Refused, Closed, Missing) as error:
            _log.info("drafts are refused here, so the answer grows by edits: %s", error)
            self.drafts_refused = True
        self.drafted = piece

    async def _record(self) -> None:
        if self.on_sent is not None:
            await self.on_sent([shown.message_id for shown in self.shown])
