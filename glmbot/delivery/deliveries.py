"""All answers that an adapter is delivering: begin one for each accepted message, drain them at the end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from glmbot.background import Background
from glmbot.delivery.abilities import Ability
from glmbot.delivery.once import Once
from glmbot.delivery.outlet import Gone, Outlet, Refused, abilities_of
from glmbot.delivery.pace import Pace
from glmbot.delivery.stream import show
from glmbot.errors import ClaimLost, StoreError
from glmbot.keys import ConversationKey
from glmbot.messages import Dialogue, Message, Reply, ReplyState
from glmbot.tracing import current_span

__all__ = ["Deliveries", "obey"]

_log = logging.getLogger(__name__)

_SENT = "sent"
_SAID = "said"
_GIVING_UP_S = 30.0
_Question = tuple[ConversationKey, str]


class Deliveries:
    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._background = Background()
        self._under_way: dict[_Question, asyncio.Future[Sequence[str]]] = {}
        self._in_conversation: dict[ConversationKey, list[asyncio.Future[Sequence[str]]]] = {}
        self._updates: set[str] = set()
        # What was noted of the message that is just being begun.
        self._said = ""

    async def serve(
        self,
        platform: str,
        begin: Callable[[Message, Sequence[str]], None],
        stopped: Callable[[Message, Reply | None], Awaitable[None]],
    ) -> None:
        """Take what is assigned to this process, for ever.

        `begin` is called with each message and the ids of those that show a part of its answer. A pressed Stop
        needs no message; `stopped` gets what came of it.
        """
        async with aclosing(self._dialogue.assigned(platform)) as assigned:
            async for entry in assigned:
                message = entry.message
                if message.in_place and message.text == "/stop":
                    self._background.begin(self._stop(message, stopped))
                else:
                    try:
                        self._said = entry.marks.get(_SAID, "")
                        begin(message, _sent_before(entry.marks))
                    except Exception as error:
                        # One message that can't be answered keeps nobody else from being answered.
                        _log.exception("a message in %s could not be begun", message.conversation)
                        self._background.begin(self._again(message, type(error).__name__))
                    finally:
                        self._said = ""

    def begin(
        self,
        message: Message,
        outlet: Outlet,
        pace: Pace,
        sent: Sequence[str] = (),
        unanswered: Callable[[], Awaitable[None]] | None = None,
        *,
        whole: bool = False,
    ) -> None:
        """Answer `message` in the background, unless that is being done. Call in the order of arrival.

        `sent`: ids of messages that show a part of this answer, from before a restart. `unanswered` is called
        where nothing is to be said, on platforms that show that something is coming until it has come. `whole`:
        where nothing can be edited the answer comes at its end, instead of in paragraphs.
        """
        if message.update_id in self._updates:
            return
        self._updates.add(message.update_id)
        before = self._under_way.get((message.conversation, message.ref)) if message.ref else None
        mine: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()
        if message.ref:
            self._under_way[message.conversation, message.ref] = mine
        earlier = self._in_conversation.setdefault(message.conversation, [])
        # What is written in an earlier message's place need not wait for its turn.
        in_its_place = (message.in_place or message.edits) and Ability.EDIT in abilities_of(outlet)
        after = () if in_its_place else tuple(earlier)
        earlier.append(mine)
        once = self._once(message, whole)
        work = self._deliver(message, outlet, pace, sent, unanswered, before, mine, after, once)
        self._background.begin(self._traced(message, work))

    async def ended(self, conversation: ConversationKey, ref: str) -> Sequence[str]:
        """Wait until nothing is written any more of the answer to this question. Returns where it stands then."""
        under_way = self._under_way.get((conversation, ref))
        if under_way is None:
            return ()
        await asyncio.wait({under_way})
        return under_way.result()

    async def drain(self, grace_s: float) -> None:
        """Let running answers end within `grace_s` seconds; the rest is left to the next start."""
        await self._background.drain(grace_s)

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

    async def _traced(self, message: Message, delivery: Coroutine[None, None, None]) -> None:
        with current_span("deliver", {"glmbot.platform": message.user.platform}):
            await delivery

    async def _deliver(
        self,
        message: Message,
        outlet: Outlet,
        pace: Pace,
        sent: Sequence[str],
        unanswered: Callable[[], Awaitable[None]] | None,
        before: asyncio.Future[Sequence[str]] | None,
        mine: asyncio.Future[Sequence[str]],
        after: Sequence[asyncio.Future[Sequence[str]]],
        once: Once,
    ) -> None:
        stands = _Stands(self._dialogue, message, list(sent), once.said)
        shown, once = stands.shown, replace(once, note=stands.record)
        replies, failure = self._dialogue.respond(message), None
        try:
            replaces = message.edits or message.in_place
            if not shown and replaces and Ability.EDIT in abilities_of(outlet):
                shown += await self._to_replace(message, before)
            reply = await show(
                replies,
                outlet,
                pace,
                sent=list(shown),
                on_sent=stands.record,
                after=after,
                check=partial(self._dialogue.check, message),
                no_file=self._dialogue.text(message.language, "answer.no_file"),
                once=once,
            )
            if reply is not None and reply.resumes:
                failure = ""
            if reply is None and unanswered is not None:
                self._dialogue.check(message)
                await unanswered()
        except ClaimLost as error:
            _log.info("%s", error)
            failure = ""
        except Gone as error:
            _log.info("%s can't be written to any more: %s", message.conversation, error)
        except Refused as error:
            _log.error("an answer to %s was refused: %s", message.conversation, error)
            failure = f"the platform refused the answer: {error}"
        except Exception as error:
            _log.exception("the answer to %s was not delivered", message.conversation)
            failure = f"{type(error).__name__}: {error}"
        finally:
            await replies.aclose()
            self._updates.discard(message.update_id)
            if failure is None:
                self._leave(message, mine, shown)
        if failure is None:
            await self._record_end(message, shown)
            return
        try:
            if await self._dialogue.again(message, failure) and not message.own:
                await self._give_up(message, outlet, pace, shown, replace(once, said=stands.said))
        finally:
            self._leave(message, mine, shown)

    async def _record_end(self, message: Message, shown: Sequence[str]) -> None:
        try:
            await self._dialogue.delivered(message, shown)
        except StoreError as error:
            _log.warning("a delivered answer could not be recorded: %s", error)

    def _leave(self, message: Message, mine: asyncio.Future[Sequence[str]], shown: Sequence[str]) -> None:
        """Nothing is written any more of this answer."""
        mine.set_result(shown)
        self._in_conversation[message.conversation].remove(mine)
        if not self._in_conversation[message.conversation]:
            del self._in_conversation[message.conversation]
        if self._under_way.get((message.conversation, message.ref)) is mine:
            del self._under_way[message.conversation, message.ref]

    async def _give_up(
        self, message: Message, outlet: Outlet, pace: Pace, shown: Sequence[str], once: Once
    ) -> None:
        """Say so where the answer would stand, if that can be said at all."""

        async def words() -> AsyncGenerator[Reply]:
            yield Reply("", ReplyState.FAILED, self._dialogue.text(message.language, "answer.set_aside"))

        try:
            async with asyncio.timeout(_GIVING_UP_S):
                check = partial(self._dialogue.check, message)
                await show(words(), outlet, pace, sent=list(shown), check=check, once=once)
        except Exception as error:
            _log.info("nor could its asker be told: %s", type(error).__name__)

    def _once(self, message: Message, whole: bool) -> Once:
        text = partial(self._dialogue.text, message.language)
        return Once(
            whole=whole,
            said=self._said,
            key=message.update_id,
            begun_anew=text("answer.begun_anew"),
            maybe_repeated=text("answer.maybe_repeated"),
        )

    async def _again(self, message: Message, reason: str) -> None:
        await self._dialogue.again(message, reason)

    async def _to_replace(
        self, message: Message, before: asyncio.Future[Sequence[str]] | None
    ) -> Sequence[str]:
        """The messages of the answer that this one takes the place of, once nobody else writes to them."""
        if before is None:
            return await self._dialogue.shown(message)
        # Not awaited itself: who is cancelled here would cancel what the earlier answer still has to tell.
        await asyncio.wait({before})
        return before.result()


@dataclass(slots=True)
class _Stands:
    """Where an answer stands, here and in the store."""

    dialogue: Dialogue
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


async def obey(dialogue: Dialogue, message: Message) -> Reply | None:
    """Run an accepted command whose words are not shown by messages of their own. Returns its last snapshot.

    Raises StoreError when its end could not be recorded.
    """
    last: Reply | None = None
    async with aclosing(dialogue.respond(message)) as replies:
        async for reply in replies:
            last = reply
    await dialogue.delivered(message)
    return last


def _sent_before(marks: Mapping[str, str]) -> list[str]:
    """The message ids recorded by an earlier process."""
    return [str(message_id) for message_id in json.loads(marks.get(_SENT, "[]"))]
