"""The dialogue manager: one for all platforms. What happens to a message, in order, is `respond`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from math import ceil

from glmbot import i18n
from glmbot.background import Background, Troubles, keep_going
from glmbot.dialogue import acts, branches, commands
from glmbot.dialogue.access import Access
from glmbot.dialogue.actions import CommandActions
from glmbot.dialogue.administration import Administration, Reloaded
from glmbot.dialogue.answering import (
    Answering,
    DialogueSettings,
    asked_text,
    failed,
    is_blank,
    notice,
    stored_reply,
    with_actions,
)
from glmbot.dialogue.commands import Command
from glmbot.dialogue.completion import complete
from glmbot.dialogue.housekeeping import Housekeeping
from glmbot.dialogue.inbox import Inbox
from glmbot.dialogue.lanes import Lanes, Ticket
from glmbot.dialogue.moderation import Moderation
from glmbot.dialogue.modes import is_answered
from glmbot.dialogue.monitor import Monitor
from glmbot.dialogue.pending import Pending
from glmbot.dialogue.people import People, Standing
from glmbot.dialogue.quotas import Quotas, most_pending
from glmbot.dialogue.readiness import Readiness, engine_trouble
from glmbot.engine.base import Engine
from glmbot.errors import ClaimLost, StoreError, StoreUnavailable, Superseded
from glmbot.messages import (
    HIDDEN,
    Addressed,
    ChatKey,
    ChatKind,
    CommandInfo,
    Completion,
    ConversationKey,
    ConversationSummary,
    Health,
    Message,
    Obstacle,
    PastTurn,
    Reply,
    ReplyState,
    Role,
    Unfinished,
    UserKey,
    Visibility,
)
from glmbot.metrics import exposition
from glmbot.overview import Overview
from glmbot.store.base import Store, StoredAnswer
from glmbot.tracing import Span, span

__all__ = ["DialogueManager", "DialogueSettings"]

_log = logging.getLogger(__name__)

_STORE_PAUSE_S = 0.5
_ASKING = {"retry": "retry", "continue": "continue"}


class DialogueManager:
    """See `glmbot.messages.Dialogue`."""

    def __init__(
        self,
        *,
        store: Store,
        engine: Engine,
        access: Access,
        settings: DialogueSettings,
        moderation: Moderation | None = None,
        reload: Callable[[], Reloaded] | None = None,
        clock: Callable[[], float] = time.time,
        claim_s: float = 20.0,
        tries: int = 5,
    ) -> None:
        """reload: reads the configuration again; None: there is no file. claim_s, tries: see `Inbox`.

        Raises ValueError when the system prompt leaves no room for a question.
        """
        self._store = store
        self._engine = engine
        self._clock = clock
        self.troubles = Troubles()
        self._readiness = Readiness(engine, store, self.troubles)
        self._signals = Background()
        self._closing = False
        self._pending = Pending()
        self._quotas = Quotas(store, clock)
        self._lanes = Lanes(self._tell, self._pending)
        self._inbox = Inbox(
            store,
            clock,
            claim_s=claim_s,
            tries=tries,
            on_lost=self._lanes.lose,
            on_signal=self._lanes.obey,
            on_superseded=lambda message: self._lanes.supersede(message.conversation, message.ref),
            troubles=self.troubles,
        )
        self._people = People(store, access, clock)
        self._answering = Answering(store, engine, settings, moderation or Moderation(), clock)
        self._housekeeping = Housekeeping(store, clock)
        self.monitor = Monitor(engine, self._lanes, self._people, store, clock)
        self._actions = CommandActions(
            store=store,
            engine=engine,
            lanes=self._lanes,
            measure=self._answering.measure,
            administration=Administration(
                store=store,
                answering=self._answering,
                reload=reload,
                lanes=self._lanes,
                clock=clock,
            ),
        )

    async def run(self) -> None:
        """Keep what this process has claimed, and take samples for the operator, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inbox.run())
            group.create_task(
                keep_going("samples", self.monitor.run, self.troubles, lambda: self._closing, partial=True)
            )
            tidying = self._housekeeping.run
            group.create_task(
                keep_going("housekeeping", tidying, self.troubles, lambda: self._closing, partial=True)
            )

    async def close(self) -> None:
        """Once the platforms have stopped: leave what is unfinished to other processes, or to the next start."""
        self._closing = True
        await self._signals.drain(1.0)
        await self._inbox.close()

    def _tell(self, words: str) -> None:
        self._signals.begin(self._inbox.signal(words))

    def reconfigure(self, access: Access, settings: DialogueSettings, moderation: Moderation) -> None:
        """Take other settings for whatever begins from now on. Raises ValueError, and changes nothing, as at the
        start."""
        Answering(self._store, self._engine, settings, moderation, self._clock)
        self._people.access = access
        self._answering.settings = settings
        self._answering.moderation = moderation

    async def accept(self, message: Message, *, here: bool = False) -> bool:
        if message.chat_kind is ChatKind.GROUP and message.addressed is not Addressed.DIRECTLY:
            mode = (await self._store.settings(message.chat)).get("mode", "mention")
            if not is_answered(message, mode):
                addressed = await self._addressed_before(message)
                if addressed is None:
                    return False
                message = replace(message, addressed=addressed)
        if message.edits:
            command = commands.parse(message.text)
            earlier = await self._store.turn_of(message.conversation, message.ref)
            unchanged = earlier is not None and earlier.question in (
                message.text.strip(),
                asked_text(message),
            )
            # Telegram also reports edits that leave the text alone; and a command is not given twice.
            if unchanged or (command is not None and command.name != "ask"):
                return False
        try:
            return await self._inbox.accept(message, here=here)
        except StoreError:
            self._readiness.doubt()
            raise

    async def _addressed_before(self, message: Message) -> Addressed | None:
        """How the act that it belongs to turned to the bot. Raises StoreError."""
        if not message.act.at:
            return None
        begun = acts.home_of(message, await self._store.open_in(message.conversation))
        if begun is not None:
            return begun.addressed
        asked = message.edits and await self._store.turn_of(message.conversation, message.ref) is not None
        return Addressed.BY_REPLY if asked else None

    def assigned(self, platform: str) -> AsyncGenerator[Unfinished, None]:
        return self._inbox.assigned(platform)

    async def again(self, message: Message, reason: str = "") -> bool:
        return await self._inbox.again(message, reason)

    async def leads(self, name: str) -> bool:
        return await self._inbox.leads(name)

    async def respond(self, message: Message) -> AsyncGenerator[Reply, None]:
        # Nothing may be awaited before the lane is joined, so that the order of arrival is the order of answers.
        with span("respond", _traced(message)) as under:
            async with aclosing(self._respond(message, under)) as replies:
                async for reply in replies:
                    if reply.state.ended:
                        under.set_attribute("glmbot.state", str(reply.state))
                    yield reply

    async def _respond(self, message: Message, under: Span) -> AsyncGenerator[Reply, None]:
        if message.own:
            yield Reply("", ReplyState.FINAL, message.text)
            return
        if message.edits:
            self._lanes.stop(message.conversation, message.ref)
        command = commands.parse(message.text)
        if command is not None and command.name == "ask":
            message, command = replace(message, text=command.argument), None
        if command is not None and command.name not in _ASKING:
            async with aclosing(self._patiently(message, lambda: self._obey(message, command))) as replies:
                async for reply in replies:
                    yield reply
            return
        ticket = self._lanes.join(
            message.conversation, message.user, message.ref, first=message.in_place, source=message.source
        )
        ticket.span = under
        try:
            wish = "ask" if command is None else _ASKING[command.name]
            answer = self._patiently(message, lambda: self._answer(message, ticket, wish), ticket)
            async with aclosing(answer) as replies:
                async for reply in replies:
                    ticket.reply = await self._beside_earlier(message, reply)
                    yield ticket.reply
        finally:
            self._lanes.leave(ticket)

    def complete(self, request: Completion) -> AsyncGenerator[Reply, None]:
        return complete(request, self._answering, self._quotas, self._pending)

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        try:
            await self._store.mark(message, marks)
        except ClaimLost:
            self._inbox.lose(message.conversation)
            raise

    def check(self, message: Message) -> None:
        self._inbox.check(message)

    async def delivered(self, message: Message, shown: Sequence[str] = ()) -> None:
        await self._inbox.delivered(message, shown)

    async def shown(self, message: Message) -> Sequence[str]:
        ref = message.replies_to if message.in_place else message.ref
        turn = await self._store.turn_of(message.conversation, ref) if ref else None
        return [] if turn is None else await self._store.shown(message.conversation, turn.id)

    async def withdraw(self, conversation: ConversationKey, ref: str) -> Sequence[str]:
        self._lanes.withdraw(conversation, ref)
        turn = await self._store.turn_of(conversation, ref)
        if turn is None or turn.ref != ref:
            return []
        shown = await self._store.shown(conversation, turn.id)
        await self._store.remove_turn(conversation, turn.id)
        return shown

    async def moved(self, old: UserKey | ChatKey, new: UserKey | ChatKey) -> None:
        await self._store.move(old, new, self._clock())
        if isinstance(old, ChatKey):
            await self._people.moved(old, new)

    async def asked_in(self, chat: ChatKey, ref: str, since: float) -> ConversationKey | None:
        return await self._store.asked_in(chat, ref, since)

    async def conversations(
        self, user: UserKey, limit: int = 100, before: tuple[float, str] | None = None
    ) -> Sequence[ConversationSummary]:
        return await self._store.conversation_summaries(user, limit, before)

    async def history(self, conversation: ConversationKey) -> Sequence[PastTurn]:
        return await branches.history(self._store, conversation)

    async def choose_branch(self, conversation: ConversationKey, turn: int) -> bool:
        # What is being answered follows the head that there was.
        if self._lanes.busy(conversation):
            return False
        return await branches.choose_branch(self._store, conversation, turn)

    def commands(
        self, language: str, role: Role = Role.USER, chat_kind: ChatKind = ChatKind.PRIVATE
    ) -> Sequence[CommandInfo]:
        return commands.listing(i18n.choose_language(language), role, chat_kind)

    def administrators(self, platform: str) -> Sequence[UserKey]:
        return sorted((user for user in self._people.access.admins if user.platform == platform), key=str)

    def text(self, language: str, key: str, **values: object) -> str:
        return i18n.text(self._preferred(language), key, **values)

    def health(self) -> Health:
        stats = self._engine.stats()
        detail = engine_trouble(stats)
        return Health(stats.alive, stats.model, str(stats.precision), stats.running, stats.waiting, detail)

    async def obstacles(self) -> Sequence[Obstacle]:
        return await self._readiness.obstacles()

    async def overview(self, after: str = "") -> Overview:
        return await self.monitor.overview(self._engine.precisions, after)

    def metrics(self) -> bytes:
        return exposition(self._engine.stats(), self.monitor.stats(self._inbox.held))

    # ---- questions -------------------------------------------------------------------------------------------

    async def _answer(self, message: Message, ticket: Ticket, wish: str) -> AsyncGenerator[Reply, None]:
        language = self._preferred(message.language)
        try:
            standing = await self._people.standing(message)
            language = self._language(message, standing)
            if standing.role is None:
                async with aclosing(self._denied(message, standing, language)) as replies:
                    async for reply in replies:
                        yield reply
                return
            # What was answered before a restart is shown again whatever the limits are by now.
            stored = await self._store.answer(message)
            if stored is not None:
                await self._inbox.begin(message)
                yield with_actions(stored_reply(stored), language)
                return
            if (refusal := await self._refusal(message, standing, language)) is not None:
                yield refusal
                return
            yield with_actions(Reply("", ReplyState.QUEUED), language)
            with span("wait", parent=ticket.span):
                await ticket.wait()
            ticket.check()
            await self._inbox.begin(message)
            if ticket.stop.is_set():
                yield await self._answering.stopped(message, language)
                return
            system = standing.chat.get("prompt", "")
            answer = self._answering.answer(message, ticket, language, system, wish)
            async with aclosing(answer) as replies:
                async for reply in replies:
                    yield with_actions(reply, language)
        except (ClaimLost, StoreUnavailable):
            raise
        except StoreError as error:
            _log.error("%s: %s", message.conversation, error)
            yield failed(language, "answer.store_failed")

    async def _patiently(
        self, message: Message, work: Callable[[], AsyncGenerator[Reply, None]], ticket: Ticket | None = None
    ) -> AsyncGenerator[Reply, None]:
        """Begin again as long as the store is away. Raises ClaimLost.

        The place in the lane is kept meanwhile, so that what was asked later is not answered sooner.
        """
        text, waits = "", False
        while True:
            try:
                async with aclosing(work()) as replies:
                    async for reply in replies:
                        text = reply.text
                        yield reply
                return
            except Superseded:
                raise
            except ClaimLost:
                # Before this leaves its lane, so that what waits behind it does not begin.
                self._inbox.lose(message.conversation)
                raise
            except StoreUnavailable as error:
                self._readiness.doubt()
                if not waits:
                    _log.error("%s waits for the store: %s", message.conversation, error)
                waits = True
                words = i18n.text(self._preferred(message.language), "answer.store_away")
                yield Reply(text, ReplyState.STREAMING if text else ReplyState.QUEUED, words)
            await asyncio.sleep(_STORE_PAUSE_S)
            if ticket is not None:
                ticket.check()

    async def _beside_earlier(self, message: Message, reply: Reply) -> Reply:
        """A button that fails must not wipe out the answer that it stands under."""
        if not message.in_place or reply.text or reply.state is not ReplyState.FAILED:
            return reply
        try:
            turn = await self._store.turn_of(message.conversation, message.replies_to)
        except StoreError:
            return reply
        return reply if turn is None else replace(reply, text=turn.answer)

    async def _refusal(self, message: Message, standing: Standing, language: str) -> Reply | None:
        """What keeps a question from being answered at all."""
        settings = self._answering.settings
        if self._pending.of(str(message.user)) > settings.pending_per_user:
            return failed(language, "answer.too_many", count=settings.pending_per_user)
        most = most_pending(settings, self._engine.stats().queue_limit)
        if standing.role is not Role.ADMIN and self._pending.of(message.source) > most:
            return failed(language, "answer.too_many_here", count=most)
        if is_blank(asked_text(message)):
            return notice(language, _nothing_said(message))
        if standing.role is Role.ADMIN:
            return None
        wait = await self._quotas.wait_of(message, standing, settings)
        return failed(language, "answer.quota", minutes=ceil(wait / 60)) if wait else None

    # ---- commands --------------------------------------------------------------------------------------------

    async def _obey(self, message: Message, command: Command) -> AsyncGenerator[Reply, None]:
        language = self._preferred(message.language)
        try:
            await self._inbox.begin(message)
            # A command that was obeyed before a restart is not given a second time.
            stored = await self._store.answer(message)
            if stored is not None:
                yield stored_reply(stored)
                return
            standing = await self._people.standing(message)
            language = self._language(message, standing)
            if standing.role is None:
                replies = self._denied(message, standing, language, greets=command.name == "start")
            elif not command.known:
                replies = _one(notice(language, "command.unknown", name=command.name))
            elif (
                obstacle := commands.obstacle(command, standing.role, message.chat_kind, message.visibility)
            ) is not None:
                if message.anonymous and obstacle == "command.admin_only":
                    obstacle = "command.admin_anonymous"
                replies = _one(notice(language, obstacle, name=command.name))
            else:
                system = standing.chat.get("prompt", "")
                replies = self._actions.run(command, message, standing.role, language, system)
            async with aclosing(replies):
                async for reply in replies:
                    if reply.state.ended and reply.attachment is None:
                        done = StoredAnswer(reply.text, reply.state, reply.notice)
                        await self._store.finish(message, done)
                    yield reply
        except (ClaimLost, StoreUnavailable):
            raise
        except StoreError as error:
            _log.error("/%s of %s: %s", command.name, message.user, error)
            yield failed(language, "answer.store_failed")

    async def _denied(
        self, message: Message, standing: Standing, language: str, *, greets: bool = False
    ) -> AsyncGenerator[Reply, None]:
        """Strangers are told how to get in, where nobody else sees it or when they say /start; the blocked
        nothing. Who speaks in a chat's name may be on the list, and is told why that does not help."""
        if standing.blocked:
            return
        if message.anonymous:
            if message.addressed is not Addressed.NOT:
                yield notice(language, "access.anonymous", user=message.user)
            return
        if not (greets or _alone(message)):
            return
        code = await self._people.code_for(message)
        words = i18n.text(language, "access.denied", user=message.user)
        if code:
            words += "\n" + i18n.text(language, "access.code", code=code)
        yield Reply("", ReplyState.FINAL, words)

    # ---- words -----------------------------------------------------------------------------------------------

    def _language(self, message: Message, standing: Standing) -> str:
        return standing.user.get("language", "") or self._preferred(message.language)

    def _preferred(self, language: str) -> str:
        configured = self._answering.settings.language
        return i18n.choose_language("" if configured == "auto" else configured, language)


def _traced(message: Message) -> dict[str, str]:
    return {"glmbot.conversation": str(message.conversation), "glmbot.platform": message.user.platform}


async def _one(reply: Reply) -> AsyncGenerator[Reply, None]:
    yield reply


def _alone(message: Message) -> bool:
    """Whether nobody but its author sees what the bot answers."""
    return message.chat_kind is ChatKind.PRIVATE or message.visibility is Visibility.ASKER


def _nothing_said(message: Message) -> str:
    """What to say to whom said nothing that can be read, as the name of a line."""
    if message.media == HIDDEN:
        return "answer.hidden"
    if message.media:
        return "answer.no_text"
    return "answer.mentioned" if message.addressed is Addressed.BY_MENTION else "answer.empty"
