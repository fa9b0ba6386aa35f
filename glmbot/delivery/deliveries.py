"""All answers that an adapter is delivering: begin one for each accepted message, drain them at the end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from glmbot.background import Background
from glmbot.delivery.abilities import Ability
from glmbot.delivery.once import Once
from glmbot.delivery.outlet import Gone, Outlet, Refused, abilities_of
from glmbot.delivery.pace import Pace
from glmbot.delivery.recent import Recent
from glmbot.delivery.stream import show
from glmbot.errors import AdapterError, ClaimLost, StoreError
from glmbot.keys import ConversationKey
from glmbot.logs import SPEAKS_AS
from glmbot.messages import QUIET, Announce, Message, Press, Reply, ReplyState
from glmbot.ports import Chats, Deliver
from glmbot.tracing import current_span

__all__ = ["Deliveries", "Earlier", "obey"]

_log = logging.getLogger(__name__)

_SENT = "sent"
_SAID = "said"
_GIVING_UP_S = 30.0
# Of questions that were taken back: as many as may wait to be assigned.
_TAKEN_BACK_KEPT = 10_000
_Question = tuple[ConversationKey, str]
_Written = asyncio.Future[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier process noted of an answer: the ids of messages that show a part of it (`sent`), and what
    `glmbot.delivery.once` goes on from (`said`)."""

    sent: Sequence[str] = ()
    said: str = ""

    @classmethod
    def noted(cls, marks: Mapping[str, str]) -> Earlier:
        """Raises ValueError or TypeError for what is no such note."""
        sent = [str(message_id) for message_id in json.loads(marks.get(_SENT, "[]"))]
        return cls(sent, marks.get(_SAID, ""))


_NOTHING_EARLIER = Earlier()


class Deliveries:
    def __init__(self, dialogue: Deliver) -> None:
        self._dialogue = dialogue
        self._background = Background()
        self._under_way: dict[_Question, _Written] = {}
        self._in_conversation: dict[ConversationKey, list[_Written]] = {}
        self._updates: set[str] = set()
        self._taken_back = Recent[tuple[ConversationKey | None, str], None](_TAKEN_BACK_KEPT)

    async def serve(
        self,
        platform: str,
        begin: Callable[[Message, Earlier], None],
        stopped: Callable[[Message, Reply | None], Awaitable[None]],
        remove: Callable[[ConversationKey, Sequence[str]], Awaitable[None]] | None = None,
    ) -> None:
        """Take what is assigned to this process, for ever. Raises AdapterError when nothing is any more.

        `begin` is called with each message and what it hands on to `Deliveries.begin`. A pressed Stop, or an
        answer to what is asked of a tool, needs no message; `stopped` gets what came of it. `remove`: takes away
        what stands of the answer to a question that was taken back before its turn came.
        """
        async with aclosing(self._dialogue.assigned(platform)) as assigned:
            async for entry in assigned:
                message = entry.message
                if isinstance(message.intent, Press) and message.intent.command in QUIET:
                    self._background.begin(self._stop(message, stopped))
                    continue
                try:
                    earlier = Earlier.noted(entry.marks)
                    if self._is_taken_back(message):
                        self._background.begin(self._leave_unanswered(message, earlier.sent, remove))
                    else:
                        begin(message, earlier)
                except Exception as error:
                    # One message that can't be answered keeps nobody else from being answered.
                    _log.exception("a message in %s could not be begun", message.conversation)
                    self._background.begin(self._again(message, type(error).__name__))
        raise AdapterError(f"{platform}: nothing is assigned to this process any more")

    def begin(
        self,
        message: Message,
        outlet: Outlet,
        pace: Pace,
        earlier: Earlier = _NOTHING_EARLIER,
        unanswered: Callable[[], Awaitable[None]] | None = None,
        *,
        whole: bool = False,
    ) -> None:
        """Answer `message` in the background, unless that is being done. Call in the order of arrival.

        `unanswered` is called where nothing is to be said, on platforms that show that something is coming until
        it has come. `whole`: where nothing can be edited the answer comes at its end, instead of in paragraphs.
        """
        if message.update_id in self._updates:
            return
        self._updates.add(message.update_id)
        others = self._in_conversation.setdefault(message.conversation, [])
        # What is written in an earlier message's place need not wait for its turn.
        in_its_place = message.replaces and Ability.EDIT in abilities_of(outlet)
        # What the bot says of its own may be what an answer waits for.
        at_once = in_its_place or isinstance(message.intent, Announce)
        delivery = _Delivery(
            message,
            outlet,
            pace,
            _Stands(self._dialogue, message, list(earlier.sent), earlier.said),
            unanswered,
            whole,
            mine=asyncio.get_running_loop().create_future(),
            before=self._under_way.get((message.conversation, message.ref)) if message.ref else None,
            after=() if at_once else tuple(others),
        )
        others.append(delivery.mine)
        if message.ref:
            self._under_way[message.conversation, message.ref] = delivery.mine
        self._background.begin(self._deliver(delivery))

    async def withdraw(self, chats: Chats, conversation: ConversationKey, ref: str) -> Sequence[str]:
        """Take a question back whose author deleted it. Returns where its answer stands, once nobody writes to it
        any more, to be removed. Raises StoreError."""
        self.take_back(ref, conversation)
        # Asked before the store, where the answer may be recorded between two looks at it.
        under_way = self._under_way.get((conversation, ref))
        shown = {*await chats.withdraw(conversation, ref)}
        if under_way := self._under_way.get((conversation, ref), under_way):
            await asyncio.wait({under_way})
            # What had been said when it was stopped is a turn by now.
            shown |= {*under_way.result(), *await chats.withdraw(conversation, ref)}
        return sorted(shown)

    async def take_away(
        self,
        platform: str,
        chats: Chats,
        ref: str,
        where: ConversationKey | Callable[[], Awaitable[ConversationKey | None]],
        remove: Callable[[ConversationKey, Sequence[str]], Awaitable[None]],
    ) -> None:
        """Who deletes a question wants its answer gone too. What keeps that from being done is logged.

        where: in which conversation it was asked, or what finds it: None for what is no question that is known.
        `remove`: see `serve`."""
        try:
            conversation = where if isinstance(where, ConversationKey) else await where()
            if conversation is None:
                return
            shown = await self.withdraw(chats, conversation, ref)
        except (StoreError, ValueError) as error:
            _log.error("%s: a deleted question could not be taken back: %s", platform, error)
            return
        await remove(conversation, shown)

    def take_back(self, ref: str, conversation: ConversationKey | None = None) -> None:
        """Its author deleted it, and it may be assigned to this process only later: then it is not answered.

        Without a conversation: where the platform has no ref twice, and does not tell whose message that was.
        """
        self._taken_back.put((conversation, ref), None)

    async def drain(self, grace_s: float) -> None:
        """Let running answers end within `grace_s` seconds; the rest is left to the next start."""
        await self._background.drain(grace_s)

    def _is_taken_back(self, message: Message) -> bool:
        places = (message.conversation, None)
        return bool(message.ref) and any((place, message.ref) in self._taken_back for place in places)

    async def _leave_unanswered(
        self,
        message: Message,
        sent: Sequence[str],
        remove: Callable[[ConversationKey, Sequence[str]], Awaitable[None]] | None,
    ) -> None:
        """It was taken back before its turn came to be answered, or to be answered again after a restart."""
        try:
            await self._dialogue.delivered(message)
        except StoreError as error:
            _log.warning("that a deleted question needs no answer could not be recorded: %s", error)
        if remove is not None and sent:
            await remove(message.conversation, sent)

    async def _stop(
        self, message: Message, stopped: Callable[[Message, Reply | None], Awaitable[None]]
    ) -> None:
        try:
            reply = await obey(self._dialogue, message)
        except StoreError as error:
            _log.warning("a pressed button could not be recorded: %s", error)
            await self._dialogue.again(message, "" if isinstance(error, ClaimLost) else str(error))
            return
        await stopped(message, reply)

    async def _deliver(self, delivery: _Delivery) -> None:
        platform = SPEAKS_AS.get() or delivery.message.user.platform
        with current_span("deliver", {"glmbot.platform": platform}):
            message = delivery.message
            try:
                failure = await self._to_its_end(delivery)
                if failure is None:
                    await self._record_end(message, delivery.stands.shown)
            finally:
                # Not sooner: until it is recorded where the answer stands, this alone knows it.
                if self._under_way.get((message.conversation, message.ref)) is delivery.mine:
                    del self._under_way[message.conversation, message.ref]

    async def _to_its_end(self, delivery: _Delivery) -> str | None:
        """Write the answer, or that there is none. Returns what `_written` does."""
        message = delivery.message
        try:
            try:
                failure = await self._written(delivery)
            finally:
                self._updates.discard(message.update_id)
            if failure is not None:
                set_aside = await self._dialogue.again(message, failure)
                if set_aside and not isinstance(message.intent, Announce):
                    await self._give_up(delivery)
            return failure
        finally:
            # Also where the bot ends, and with it what waits for this answer.
            self._leave(delivery)

    async def _written(self, delivery: _Delivery) -> str | None:
        """Write the answer to its end. None once it stands there; else why it does not, "" where another process
        goes on with it."""
        message, stands = delivery.message, delivery.stands
        replies = self._dialogue.respond(message)
        try:
            if not stands.shown and message.replaces and Ability.EDIT in abilities_of(delivery.outlet):
                stands.shown += await self._to_replace(delivery)
            reply = await self._show(delivery, replies)
            if reply is not None and reply.resumes:
                return ""
            if reply is None and delivery.unanswered is not None:
                self._dialogue.check(message)
                await delivery.unanswered()
        except ClaimLost as error:
            _log.info("%s", error)
            return ""
        except Gone as error:
            _log.info("%s can't be written to any more: %s", message.conversation, error)
        except Refused as error:
            _log.error("an answer to %s was refused: %s", message.conversation, error)
            return f"the platform refused the answer: {error}"
        except Exception as error:
            _log.exception("the answer to %s was not delivered", message.conversation)
            return f"{type(error).__name__}: {error}"
        finally:
            await replies.aclose()
        return None

    async def _show(self, delivery: _Delivery, replies: AsyncGenerator[Reply, None]) -> Reply | None:
        """See `glmbot.delivery.stream.show`."""
        message, stands = delivery.message, delivery.stands
        return await show(
            replies,
            delivery.outlet,
            delivery.pace,
            sent=list(stands.shown),
            on_sent=stands.record,
            after=delivery.after,
            check=partial(self._dialogue.check, message),
            no_file=self._dialogue.text(message.language, "answer.no_file"),
            once=self._once(delivery),
        )

    async def _record_end(self, message: Message, shown: Sequence[str]) -> None:
        try:
            await self._dialogue.delivered(message, shown)
        except StoreError as error:
            _log.warning("a delivered answer could not be recorded: %s", error)

    def _leave(self, delivery: _Delivery) -> None:
        """Nothing is written any more of this answer."""
        message, mine = delivery.message, delivery.mine
        mine.set_result(delivery.stands.shown)
        self._in_conversation[message.conversation].remove(mine)
        if not self._in_conversation[message.conversation]:
            del self._in_conversation[message.conversation]

    async def _give_up(self, delivery: _Delivery) -> None:
        """Say so where the answer would stand, if that can be said at all."""
        message = delivery.message

        async def words() -> AsyncGenerator[Reply]:
            yield Reply("", ReplyState.FAILED, self._dialogue.text(message.language, "answer.set_aside"))

        try:
            async with asyncio.timeout(_GIVING_UP_S):
                await show(
                    words(),
                    delivery.outlet,
                    delivery.pace,
                    sent=list(delivery.stands.shown),
                    check=partial(self._dialogue.check, message),
                    once=self._once(delivery),
                )
        except Exception as error:
            _log.info("nor could its asker be told: %s", type(error).__name__)

    def _once(self, delivery: _Delivery) -> Once:
        message, stands = delivery.message, delivery.stands
        text = partial(self._dialogue.text, message.language)
        return Once(
            whole=delivery.whole,
            said=stands.said,
            note=stands.record,
            key=message.update_id,
            begun_anew=text("answer.begun_anew"),
            maybe_repeated=text("answer.maybe_repeated"),
        )

    async def _again(self, message: Message, reason: str) -> None:
        await self._dialogue.again(message, reason)

    async def _to_replace(self, delivery: _Delivery) -> Sequence[str]:
        """The messages of the answer that this one takes the place of, once nobody else writes to them."""
        before = delivery.before
        if before is None:
            return await self._dialogue.shown(delivery.message)
        # Not awaited itself: who is cancelled here would cancel what the earlier answer still has to tell.
        await asyncio.wait({before})
        return before.result()


@dataclass(slots=True, eq=False)
class _Delivery:
    """One answer on its way. `mine` is done when nothing is written of it any more, with where it stands then;
    `before` is that of an earlier answer to the same question, `after` those of who spoke before in the
    conversation."""

    message: Message
    outlet: Outlet
    pace: Pace
    stands: _Stands
    unanswered: Callable[[], Awaitable[None]] | None
    whole: bool
    mine: _Written
    before: _Written | None
    after: Sequence[_Written]


@dataclass(slots=True)
class _Stands:
    """Where an answer stands, here and in the store."""

    dialogue: Deliver
    message: Message
    shown: list[str]
    said: str

    async def record(self, message_ids: Sequence[str], said: str = "") -> None:
        """said: what `glmbot.delivery.once` notes beside. Raises ClaimLost."""
        self.shown[:], self.said = message_ids, said
        marks = {_SENT: json.dumps(self.shown)} | ({_SAID: said} if said else {})
        try:
            await self.dialogue.mark(self.message, marks)
        except ClaimLost:
            raise
        except StoreError as error:
            _log.warning("where the answer stands could not be recorded: %s", error)


async def obey(dialogue: Deliver, message: Message) -> Reply | None:
    """Run an accepted command whose words are not shown by messages of their own. Returns its last snapshot.

    Raises StoreError when its end could not be recorded.
    """
    last: Reply | None = None
    async with aclosing(dialogue.respond(message)) as replies:
        async for reply in replies:
            last = reply
    await dialogue.delivered(message)
    return last
