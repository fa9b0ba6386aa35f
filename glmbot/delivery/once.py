"""An answer where nothing that was sent can be changed: in whole paragraphs as they end, or as a whole.

What is sent is noted twice: before the request, and after it. So the next process knows what stands there, and of
at most one message that it may stand there. Where the platform takes a repeated message once, that one is sent
again; where it does not, it is sent again and says that it may be there twice: to lose words would be worse. When
the answer comes out differently the next time, that is said, and it is sent as a whole below what stands there.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from glmbot.delivery.abilities import Ability
from glmbot.delivery.outlet import Piece, Refused, Unreachable, Unsent
from glmbot.delivery.paragraphs import Paragraphs
from glmbot.delivery.requests import Requests
from glmbot.messages import Attachment, Reply, ReplyState

__all__ = ["Once", "OnceBoard"]

_log = logging.getLogger(__name__)


async def _forget(_: Sequence[str], __: str) -> None:
    """Nothing outlives this process."""


@dataclass(frozen=True, slots=True)
class Once:
    """whole: send an answer at its end alone. said: what an earlier process noted, "" for nothing; `note` gets the
    ids of all messages and what the next process is to be given as `said`.

    key: of this answer, so that a note tells nothing of its words. The others are the bot's own lines.
    """

    whole: bool = False
    said: str = ""
    note: Callable[[Sequence[str], str], Awaitable[None]] = _forget
    key: str = ""
    begun_anew: str = "…"
    maybe_repeated: str = "…"


@dataclass(frozen=True, slots=True)
class _Noted:
    """The text was said up to `start`; of what is from there to `end`, `count` messages were sent, and with
    `sending` perhaps one more. `last`: the answer's end. `anew`: how often it was begun again."""

    start: int = 0
    end: int = 0
    digest: str = ""
    count: int = 0
    sending: bool = False
    last: bool = False
    anew: int = 0

    @classmethod
    def parse(cls, said: str) -> _Noted | None:
        """None for what is no such note."""
        try:
            fields: Any = json.loads(said)
            noted = cls(*fields)
            right = [type(each) for each in fields] == [int, int, str, int, bool, bool, int]
        except (ValueError, TypeError):
            return None
        return noted if right and 0 <= noted.start <= noted.end else None

    def __str__(self) -> str:
        return json.dumps([self.start, self.end, self.digest, self.count, self.sending, self.last, self.anew])


@dataclass(slots=True)
class _Batch:
    """Messages that belong together: once the first is sent, the others follow as they are.

    uncertain: the next one may have been sent already. warned: of a file, that has been said. due: it is sent
    whatever else comes.
    """

    text: str
    start: int
    items: list[Piece | Attachment]
    last: bool = False
    own_file: Attachment | None = None
    count: int = 0
    uncertain: bool = False
    warned: bool = False
    due: bool = False

    @property
    def begun(self) -> bool:
        return self.count > 0 or self.uncertain or self.due


@dataclass(slots=True, kw_only=True)
class OnceBoard(Requests):
    """ids: of the messages that stand there."""

    once: Once
    ids: list[str]
    said: str = ""
    ended: bool = False
    _batch: _Batch | None = None
    _made_for: Reply | None = None
    _before: _Noted | None = None
    _paragraphs: Paragraphs = field(default_factory=Paragraphs)

    def __post_init__(self) -> None:
        self._before = _Noted.parse(self.once.said) if self.once.said else None
        self.anew = self._before.anew if self._before is not None else 0

    async def next_step(self, reply: Reply) -> Callable[[], Awaitable[None]] | None:
        """The next message to send; None when nothing more is to be said of this snapshot."""
        if self.ended or (self._before is not None and not await self._taken_up(self._before, reply)):
            return None
        # Cut once for each snapshot.
        made = self._batch is not None and (self._batch.begun or self._made_for is reply)
        if not made and not self.ended:
            self._batch, self._made_for = await self._next(reply), reply
        batch = self._batch
        return None if batch is None or self.ended else lambda: self._send(batch)

    async def _taken_up(self, before: _Noted, reply: Reply) -> bool:
        """Whether it is known by now how this text goes on from what an earlier process said."""
        text, ended = reply.text, _has_ended(reply)
        if len(text) < before.end and not ended:
            return False
        if _digest(text[: before.end], self.once.key) == before.digest and len(text) >= before.end:
            if before.last and not ended:
                return False
            self.said = text[: before.start]
            self._batch = await self._rest_of(before, reply)
            self._before = None
            return True
        self._before = None
        # A message that may stand there has the place that the next one would have.
        self.anew += 1
        if text.strip():
            self._batch = self._preface()
        return True

    async def _rest_of(self, before: _Noted, reply: Reply) -> _Batch | None:
        whole = reply.text[: before.end]
        if before.last and len(reply.text) == before.end:
            batch = await self._last(reply, before.start)
        elif before.start < before.end:
            batch = await self._paragraphs_from(whole, before.start)
        elif before.sending and before.anew:
            batch = self._preface()
        else:
            return None
        batch.count, batch.uncertain = before.count, before.sending
        if batch.count >= len(batch.items):
            self._finish(batch)
            return None
        return batch

    async def _next(self, reply: Reply) -> _Batch | None:
        text, ended = reply.text, _has_ended(reply)
        if not text.startswith(self.said):
            goes_on = self.said.startswith(text)
            if goes_on and not ended:
                # It began again, and has not come as far as it was.
                return None
            if text.strip() and not (goes_on and not self.said[len(text) :].strip()):
                self.said, self.anew = "", self.anew + 1
                return self._preface()
            self.said = text
        end = 0 if ended or self.once.whole else self._paragraphs.end(text)
        says = bool(text) and (ended or end > 0)
        if says and reply.thought and not self.ids and not self.anew:
            thought = await self._thought(reply)
            if thought is not None:
                return thought
        if ended:
            return await self._last(reply, len(self.said))
        if not text[len(self.said) : end].strip():
            return None
        return await self._paragraphs_from(text[:end], len(self.said))

    def _preface(self) -> _Batch:
        return _Batch("", 0, [Piece("", self.once.begun_anew)], due=True)

    async def _thought(self, reply: Reply) -> _Batch | None:
        """What the model thought, where that is shown: before the first words, and not again."""
        pieces = await self.cut(Reply("", ReplyState.FINAL, thought=reply.thought))
        shown = [piece for piece in pieces if piece.thought]
        return _Batch("", 0, [*shown], due=True) if shown else None

    async def _paragraphs_from(self, text: str, start: int) -> _Batch:
        pieces = await self.cut(Reply(text[start:].strip("\n"), ReplyState.STREAMING))
        return _Batch(text, start, [*pieces])

    async def _last(self, reply: Reply, start: int) -> _Batch:
        left = reply.text[start:].strip("\n")
        items = [*self.files(reply, await self.code(reply))]
        if left.strip() or reply.notice or not (self.ids or items):
            pieces = await self.cut(replace(reply, text=left if left.strip() else "", thought=""))
            items = [*pieces, *items]
        batch = _Batch(reply.text, start, items, last=True, own_file=reply.attachment)
        if not items:
            self._finish(batch)
        return batch

    async def _send(self, batch: _Batch) -> None:
        item = batch.items[batch.count]
        if batch.uncertain and not self.can(Ability.ONCE):
            if isinstance(item, Piece):
                notice = "\n".join(filter(None, (item.notice, self.once.maybe_repeated)))
                item = replace(item, notice=notice)
            elif not batch.warned:
                batch.warned = True
                await self._warn()
                return
        await self._note(batch, sending=True)
        try:
            self.ids.append(await self.ask(self.outlet.send(item, self.place(len(self.ids)))))
        except Unreachable as error:
            batch.uncertain = batch.uncertain or not isinstance(error, Unsent)
            raise
        except Refused as error:
            self._do_without(batch, error)
            return
        batch.count += 1
        batch.uncertain = False
        await self._note(batch, sending=False)
        if batch.count == len(batch.items):
            self._finish(batch)

    async def _warn(self) -> None:
        """A file has no room for the line: it stands before."""
        line = Piece("", self.once.maybe_repeated)
        with suppress(Refused):
            self.ids.append(await self.ask(self.outlet.send(line, self.place(len(self.ids)))))

    def _do_without(self, batch: _Batch, error: Refused) -> None:
        item = self.left_out(batch.items[batch.count], error)
        if item is batch.own_file and self.no_file:
            batch.items[batch.count] = Piece("", self.no_file)
            return
        batch.count += 1
        if batch.count == len(batch.items):
            self._finish(batch)

    def _finish(self, batch: _Batch) -> None:
        self.said, self.ended, self._batch = batch.text, batch.last, None

    async def _note(self, batch: _Batch, *, sending: bool) -> None:
        digest = _digest(batch.text, self.once.key)
        noted = _Noted(batch.start, len(batch.text), digest, batch.count, sending, batch.last, self.anew)
        await self.once.note(self.ids, str(noted))


def _has_ended(reply: Reply) -> bool:
    """An answer that another process goes on with has no end yet."""
    return reply.state.ended and not reply.resumes


def _digest(text: str, key: str) -> str:
    return hashlib.blake2b(
        text.encode(), digest_size=16, key=hashlib.sha256(key.encode()).digest()
    ).hexdigest()
