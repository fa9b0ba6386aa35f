"""The dialogue manager: one for all platforms. What happens to a message, in order, is the list of its steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from glmbot import i18n
from glmbot.background import Background, Troubles, keep_going
from glmbot.completions import Completion
from glmbot.dialogue import branches
from glmbot.dialogue.access import Access
from glmbot.dialogue.commands import Commands
from glmbot.dialogue.completion import complete, completed
from glmbot.dialogue.completion_turns import conversation_of
from glmbot.dialogue.exchange import Exchange, Step, chained
from glmbot.dialogue.fitting import Fitting
from glmbot.dialogue.guard import guarded, in_the_background
from glmbot.dialogue.housekeeping import Housekeeping
from glmbot.dialogue.inbox import Inbox
from glmbot.dialogue.intake import taken_in
from glmbot.dialogue.kept import keep, kept
from glmbot.dialogue.lanes import Lanes
from glmbot.dialogue.models import Talk
from glmbot.dialogue.moderation import Moderation
from glmbot.dialogue.monitor import Monitor
from glmbot.dialogue.panels import done, shown
from glmbot.dialogue.pending import Pending
from glmbot.dialogue.people import People
from glmbot.dialogue.powers import Powers
from glmbot.dialogue.quotas import Quotas
from glmbot.dialogue.readiness import Readiness, engine_trouble
from glmbot.dialogue.reloaded import Reloaded
from glmbot.dialogue.settings import DialogueSettings, InForce
from glmbot.dialogue.steps.admit import admit
from glmbot.dialogue.steps.answer import answer
from glmbot.dialogue.steps.approve import approve
from glmbot.dialogue.steps.arrive import arrive
from glmbot.dialogue.steps.await_turn import await_turn
from glmbot.dialogue.steps.choose_model import choose_model
from glmbot.dialogue.steps.command import command
from glmbot.dialogue.steps.moderate import moderate
from glmbot.dialogue.steps.persevere import persevere
from glmbot.dialogue.steps.quota import quota
from glmbot.dialogue.steps.recall import recall
from glmbot.dialogue.steps.record import record
from glmbot.dialogue.steps.task import task
from glmbot.dialogue.steps.transform import transform
from glmbot.dialogue.tool_desk import ToolDesk
from glmbot.dialogue.tool_log import last_calls, logged_calls
from glmbot.dialogue.tool_sampling import Sampling
from glmbot.engine.base import Engine, TokenEngine
from glmbot.engine.pool import Engines
from glmbot.errors import ClaimLost, StoreError
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import (
    ChatKind,
    CommandInfo,
    ConversationSummary,
    Health,
    Message,
    Obstacle,
    PastTurn,
    Press,
    Reply,
    Role,
    Unfinished,
)
from glmbot.metrics import exposition
from glmbot.overview import LoggedCall, LoggedCalls, Overview
from glmbot.plugins import STEPS, Plugins, load_plugins, placed, start_moderators
from glmbot.store.base import Store
from glmbot.tracing import span

__all__ = ["DialogueManager", "DialogueSettings"]


class DialogueManager:
    """See `glmbot.ports.Dialogue`."""

    def __init__(
        self,
        *,
        store: Store,
        engine: Engine | TokenEngine | Engines,
        access: Access,
        settings: DialogueSettings,
        moderation: Moderation | None = None,
        reload: Callable[[], Reloaded] | None = None,
        clock: Callable[[], float] = time.time,
        claim_s: float = 20.0,
        tries: int = 5,
        plugins: Plugins | None = None,
    ) -> None:
        """engine: several by name, or one by itself. reload: reads the configuration again; None: there is no
        file. claim_s, tries: see `Inbox`. plugins: by default those that are installed, without settings.
        moderation: by default that of their moderators. Raises ValueError when no question has room.
        """
        self._store = store
        self._engines = engines = engine if isinstance(engine, Engines) else Engines.of(engine)
        self._clock = clock
        self.plugins = plugins or load_plugins()
        self._commands = Commands(self.plugins.commands, self.plugins.commandboxes)
        self.troubles = Troubles()
        self._readiness = Readiness(engines, store, self.troubles)
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
            on_signal=self._obey,
            on_superseded=self._supersede,
            troubles=self.troubles,
            commands=self._commands,
        )
        self._people = People(store, access, clock)
        self._in_force = InForce(settings, moderation or Moderation(start_moderators(self.plugins)))
        self._fitting = Fitting(store, engines, self._in_force)
        self._desk = ToolDesk(self.plugins, store, self._people, self._in_force, clock, self._tell)
        self._housekeeping = Housekeeping(store, clock)
        self.monitor = Monitor(engines, self._lanes, self._people, store, clock)
        self._powers = Powers(
            store=store,
            engines=engines,
            lanes=self._lanes,
            commands=self._commands,
            fitting=self._fitting,
            in_force=self._in_force,
            reload=reload,
            clock=clock,
            desk=self._desk,
        )
        self._desk.serve(self._powers.answering, Sampling(self._for_a_tool, self._quotas, self._desk.log))
        self._exchange = chained(self._steps())

    def _steps(self) -> Sequence[Step]:
        """What happens to a message, in order."""
        store, inbox, in_force = self._store, self._inbox, self._in_force
        steps: list[Step] = [
            partial(admit, self._people, store, inbox),
            partial(transform, self.plugins.transforms),
            partial(command, self._commands, self._powers.answering, store),
            partial(quota, self._quotas, self._engines),
            partial(await_turn, inbox, store, in_force),
            partial(task, store),
            partial(moderate, in_force, store),
            partial(choose_model, self._engines, store),
            partial(recall, store, self._fitting, self._desk),
            partial(answer, self._desk, self._fitting),
            partial(approve, in_force),
            partial(record, store, in_force, self._clock),
        ]
        others = [
            (each.name, each.before, each.after, partial(guarded, each, store))
            for each in self.plugins.steps.values()
        ]
        chain = placed(list(zip(STEPS, steps, strict=True)), others)
        # These two hold the place of whatever comes after them, so nothing stands before them.
        first: list[Step] = [
            partial(arrive, self._commands, self._lanes, store, self._desk.typed),
            partial(persevere, inbox, self._readiness),
        ]
        return [*first, *(step for _, step in chain)]

    async def run(self) -> None:
        """Keep what this process has claimed, and take samples for the operator, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inbox.run())
            group.create_task(
                keep_going("samples", self.monitor.run, self.troubles, lambda: self._closing, partial=True)
            )
            unloading = self._engines.run
            group.create_task(
                keep_going("models", unloading, self.troubles, lambda: self._closing, partial=True)
            )
            tidying = self._housekeeping.run
            group.create_task(
                keep_going("housekeeping", tidying, self.troubles, lambda: self._closing, partial=True)
            )

            sweeping = self._desk.run
            group.create_task(
                keep_going("tools", sweeping, self.troubles, lambda: self._closing, partial=True)
            )
            for name, registered in self.plugins.backgrounds.items():
                work = partial(in_the_background, registered, self._powers)
                part = f"{registered.plugin}: {name}"
                group.create_task(keep_going(part, work, self.troubles, lambda: self._closing, partial=True))

    async def close(self) -> None:
        """Once the platforms have stopped: leave what is unfinished to other processes, or to the next start."""
        self._closing = True
        await self._signals.drain(1.0)
        await self._inbox.close()

    def _tell(self, words: str) -> None:
        self._signals.begin(self._inbox.signal(words))

    def _supersede(self, message: Message) -> None:
        self._lanes.supersede(message.conversation, message.ref)

    def _obey(self, words: str) -> None:
        self._lanes.obey(words)
        self._desk.obey(words)

    def reconfigure(self, access: Access, settings: DialogueSettings, moderation: Moderation) -> None:
        """Take other settings for whatever begins from now on. Raises ValueError, and changes nothing, as at the
        start."""
        self._fitting.check(settings)
        self._people.access = access
        self._in_force.settings, self._in_force.moderation = settings, moderation

    async def accept(self, message: Message, *, here: bool = False) -> bool:
        taken = await taken_in(self._store, self._commands, message)
        if taken is None:
            return False
        try:
            return await self._inbox.accept(taken, here=here)
        except StoreError:
            self._readiness.doubt()
            raise

    def assigned(self, platform: str) -> AsyncGenerator[Unfinished, None]:
        return self._inbox.assigned(platform)

    async def again(self, message: Message, reason: str = "") -> bool:
        return await self._inbox.again(message, reason)

    async def leads(self, name: str) -> bool:
        return await self._inbox.leads(name)

    async def respond(self, message: Message) -> AsyncGenerator[Reply, None]:
        # Nothing may be awaited before the first step, so that the order of arrival is the order of answers.
        settings = self._in_force.settings
        with span("respond", _traced(message)) as under:
            exchange = Exchange(message, settings, _language_of(settings, message.language), under)
            async with aclosing(self._exchange(exchange)) as replies:
                async for reply in replies:
                    if reply.state.ended:
                        under.set_attribute("glmbot.state", str(reply.state))
                    yield reply

    def complete(self, request: Completion) -> AsyncGenerator[Reply, None]:
        return complete(request, self._engines, self._in_force, self._fitting, self._quotas, self._pending)

    def _for_a_tool(self, request: Completion, talk: Talk) -> AsyncGenerator[Reply, None]:
        return completed(request, conversation_of(request), talk, self._in_force, self._fitting)

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
        ref = message.about if isinstance(message.intent, Press) else message.ref
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

    async def kept(self, name: str) -> str:
        return await kept(self._store, name)

    async def keep(self, name: str, text: str) -> None:
        await keep(self._store, name, text)

    async def admits(self, message: Message) -> bool | None:
        standing = await self._people.standing(message)
        if standing.blocked:
            return False
        return None if standing.role is None else True

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
        return self._commands.listing(i18n.choose_language(language), role, chat_kind)

    def administrators(self, platform: str) -> Sequence[UserKey]:
        return sorted((user for user in self._people.access.admins if user.platform == platform), key=str)

    def text(self, language: str, key: str, **values: object) -> str:
        return i18n.text(_language_of(self._in_force.settings, language), key, **values)

    def health(self) -> Health:
        state = self._engines.states()[0]
        stats = state.stats
        precision = str(stats.precision) if state.loaded else "–"
        detail = engine_trouble(stats)
        return Health(stats.alive, stats.model, precision, stats.running, stats.waiting, detail)

    def models(self) -> Sequence[str]:
        return self._engines.names

    async def obstacles(self) -> Sequence[Obstacle]:
        return await self._readiness.obstacles()

    async def overview(self, after: str = "") -> Overview:
        return await self.monitor.overview(after)

    async def tool_calls(self, before: str = "", matching: str = "") -> LoggedCalls:
        return await last_calls(self._store, before, matching)

    def all_tool_calls(self, matching: str = "") -> AsyncGenerator[LoggedCall, None]:
        return logged_calls(self._store, matching)

    async def panel(self, name: str) -> Mapping[str, Any] | None:
        found = self.plugins.panels.get(name)
        return None if found is None else await shown(found, self._powers)

    async def panel_does(self, name: str, wish: Mapping[str, Any], language: str) -> str:
        found = self.plugins.panels.get(name)
        if found is None:
            raise ValueError("there is no such part of this page")
        return await done(found, self._powers, wish, i18n.choose_language(language))

    def metrics(self) -> bytes:
        return exposition(self._engines.stats(), self.monitor.stats(self._inbox.held))


def _traced(message: Message) -> dict[str, str]:
    return {"glmbot.conversation": str(message.conversation), "glmbot.platform": message.user.platform}


def _language_of(settings: DialogueSettings, language: str) -> str:
    return i18n.choose_language("" if settings.language == "auto" else settings.language, language)
