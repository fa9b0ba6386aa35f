"""What commands may have the bot do: see `glmbot.bot.Bot`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Protocol

from glmbot.bot import Bot, GivenUp, Load, ModelHere, Room, ToolHere
from glmbot.dialogue.commands import Commands
from glmbot.dialogue.export import PersonalData, export_of
from glmbot.dialogue.fitting import Fitting, prompt_on
from glmbot.dialogue.lanes import Lanes
from glmbot.dialogue.models import SETTING, chosen_model, default_model, may_choose, owner_of_choice
from glmbot.dialogue.outbox import Reach, announcement, broadcast, question_of
from glmbot.dialogue.people import pair
from glmbot.dialogue.reloaded import Reloaded
from glmbot.dialogue.settings import InForce
from glmbot.dialogue.tool_desk import ToolDesk
from glmbot.dialogue.tool_rights import Right, decided, here, is_full, own, written
from glmbot.engine.base import Precision
from glmbot.engine.named import ModelState
from glmbot.engine.pool import Engines
from glmbot.errors import PrecisionError
from glmbot.host import Direction
from glmbot.keys import ChatKey, ConversationKey, UserKey, kind_of
from glmbot.messages import Attachment, ChatKind, CommandInfo, Message, Role
from glmbot.notes import Book
from glmbot.store.base import DeadLetters, Removal
from glmbot.store.notes import book_in

__all__ = ["Powers"]

_MB = 1_000_000
_LONGEST_PROMPT = 4000
# Longer than a tool has to end when it is stopped (tool_calls).
_ENDS_S = 5.0
_BROADCAST_REACHES_S = 30 * 86400.0


class _Kept(DeadLetters, PersonalData, Reach, Removal, Protocol):
    """What commands look at, change and remove."""


class Powers:
    def __init__(
        self,
        *,
        store: _Kept,
        engines: Engines,
        lanes: Lanes,
        commands: Commands,
        fitting: Fitting,
        in_force: InForce,
        reload: Callable[[], Reloaded] | None,
        clock: Callable[[], float],
        desk: ToolDesk,
    ) -> None:
        self._store = store
        self._engines = engines
        self._lanes = lanes
        self._commands = commands
        self._fitting = fitting
        self._in_force = in_force
        self._reload = reload
        self._clock = clock
        self._desk = desk
        self._answering: Message | None = None

    def answering(self, message: Message) -> Bot:
        """The same in the hands of what answers this message: see `Bot.book`."""
        bot = copy(self)
        bot._answering = message
        return bot

    def commands(self, language: str, role: Role, chat_kind: ChatKind) -> Sequence[CommandInfo]:
        return self._commands.listing(language, role, chat_kind)

    def stop(self, conversation: ConversationKey) -> int:
        return self._lanes.stop(conversation)

    async def reset(self, conversation: ConversationKey) -> int:
        self._lanes.stop(conversation)
        return await self._store.reset(conversation)

    async def reset_person(self, user: UserKey) -> int:
        self._lanes.stop_user(user)
        conversations = await self._store.conversations(user)
        for conversation in conversations:
            await self._store.reset(conversation)
        return len(conversations)

    async def room(self, message: Message, role: Role) -> Room | None:
        system = (await self._store.settings(message.chat)).get("prompt", "")
        talk = self._fitting.at_hand((await self.model_here(message, role)).name)
        if talk is None:
            return None
        offer = await self._desk.offer(message, talk.engine)
        prompt = await self._fitting.measure(message, talk, system, offer)
        return Room(
            used=prompt.prompt_tokens,
            budget=prompt.room,
            answer=talk.sampling.max_tokens,
            length=talk.engine.context_length,
            turns=prompt.turns,
            dropped=prompt.dropped,
            tools=prompt.tool_tokens,
        )

    async def export(self, user: UserKey) -> tuple[Attachment, int]:
        return await export_of(self._store, user)

    async def forget(self, user: UserKey) -> int:
        self._lanes.stop_user(user)
        # What a tool is at may still write a note of theirs.
        await self._lanes.ended_of(user, _ENDS_S)
        turns = await self._store.forget(user)
        await self._engines.forget(str(user))
        return turns

    async def settings(self, owner: UserKey | ChatKey) -> Mapping[str, str]:
        return await self._store.settings(owner)

    async def set_setting(self, owner: UserKey | ChatKey, name: str, value: str) -> None:
        await self._store.set_setting(owner, name, value)

    async def check_prompt(self, message: Message, words: str) -> str:
        try:
            if len(words) > _LONGEST_PROMPT:
                return "prompt.too_long"
            await self._fitting.check_prompt(message, words)
        except ValueError:
            return "prompt.too_long"
        allowed = await self._in_force.moderation.allows_in(message, Direction.QUESTION, words)
        return "" if allowed else "prompt.refused"

    def system_prompt(self, message: Message) -> str:
        return prompt_on(message.user.platform, self._in_force.settings)

    def loads(self) -> Sequence[Load]:
        return [_load(state) for state in self._engines.states()]

    @property
    def models_memory(self) -> tuple[int, int | None]:
        return self._engines.bytes, self._engines.budget

    async def model_here(self, message: Message, role: Role) -> ModelHere:
        settings, engines = self._in_force.settings, self._engines
        kept = await self._store.settings(owner_of_choice(message))
        chosen = chosen_model(engines, message, role, kept, settings)
        default = default_model(engines, message, settings)
        return ModelHere(chosen.name, default, chosen.gone, may_choose(message, role, settings))

    def model_named(self, text: str) -> str | None:
        return self._engines.find(text)

    async def choose_model(self, message: Message, name: str) -> None:
        if name:
            await self._engines.check(name)
        await self._store.set_setting(owner_of_choice(message), SETTING, name)

    async def bring_model(self, name: str) -> None:
        async with self._engines.use(name):
            pass

    async def switch_precision(
        self, model: str, precision: str, on_share: Callable[[float], None]
    ) -> Mapping[str, object]:
        try:
            wanted = Precision(precision)
        except ValueError:
            raise PrecisionError(f"there is no precision {precision[:40]!r}") from None
        change = await self._engines.set_precision(model, wanted, on_share)
        return {
            "before": change.before,
            "after": change.after,
            "seconds": change.seconds,
            "mb_before": change.weight_bytes_before / _MB,
            "mb_after": change.weight_bytes_after / _MB,
            "speed_before": change.probe_speed_before,
            "speed_after": change.probe_speed_after,
        }

    async def tools(self, message: Message) -> Sequence[ToolHere]:
        return await self._desk.here(message)

    async def set_tool(
        self, owner: UserKey | ChatKey, tool: str, right: str, *, where: ChatKey | None = None
    ) -> bool:
        offered = self._desk.toolset.now().get(tool)
        if right and offered is None:
            return False
        holder, name = (owner, decided(tool)) if where is None else (where, decided(tool, str(owner)))
        value = written(Right(right), offered) if right and offered is not None else ""
        if value and is_full(await self._store.settings(holder), name):
            raise ValueError("there are as many rights as there may be")
        await self._store.set_setting(holder, name, value)
        return True

    async def answer_tool(self, message: Message, role: Role, ask: str, answer: str) -> str:
        outcome, answered = await self._desk.asks.answer(message, role, ask, answer)
        offered = None if answered is None else self._desk.toolset.now().get(answered.tool)
        if answered is None or offered is None or answer != "here":
            return f"tools.{outcome}"
        # What has changed while it was asked about is not what anybody allowed.
        if offered.digest == answered.digest:
            # An administrator's word is for the chat, a person's own for themselves.
            owner, name = message.user, own(answered.tool, here(message))
            if answered.of_admins:
                owner, name = message.chat, decided(answered.tool)
            if not is_full(await self._store.settings(owner), name):
                await self._store.set_setting(owner, name, written(Right.ALLOW, offered))
        return f"tools.{outcome}"

    def tell_tool(self, message: Message, words: str) -> bool:
        return self._desk.typed.take(message, words)

    async def tool_asked(self, message: Message, ask: str) -> str:
        found = await self._desk.asks.shown(message, ask)
        return "" if found is None else f"{found.tool} {found.arguments}"

    def book(self, name: str) -> Book:
        return book_in(self._store, name, self._answering)

    async def announce(self, conversation: ConversationKey, words: str, *, name: str) -> bool:
        if not self.can_announce(conversation):
            return False
        await self._store.accept(announcement(conversation, words, f"told {name}"), self._clock())
        return True

    def can_announce(self, conversation: ConversationKey) -> bool:
        return kind_of(conversation.platform) not in self._in_force.settings.visited

    async def ask_in(
        self, conversation: ConversationKey, user: UserKey, question: str, *, name: str, kind: ChatKind
    ) -> None:
        visited = kind_of(conversation.platform) in self._in_force.settings.visited
        message = question_of(conversation, user, question, f"asked {name}", kind, known_there=visited)
        await self._store.accept(message, self._clock())

    def user_named(self, text: str, message: Message) -> UserKey | None:
        try:
            user = UserKey.by_hand(text if ":" in text else f"{message.user.platform}:{text}")
        except ValueError:
            return None
        return user if user.platform in self.platforms(message) else None

    def platforms(self, message: Message) -> Sequence[str]:
        # People can be let in also by a process that does not serve their platform.
        return sorted({*self._in_force.settings.platforms, message.user.platform})

    def stop_person(self, user: UserKey) -> None:
        self._lanes.stop_user(user)

    async def pair(self, code: str) -> UserKey | None:
        return await pair(self._store, code, Role.USER, self._clock())

    async def broadcast(self, message: Message, words: str) -> int:
        return await broadcast(
            self._store,
            words,
            name=f"{message.user.platform} {message.update_id}",
            since=self._clock() - _BROADCAST_REACHES_S,
            clock=self._clock,
            unreachable=self._in_force.settings.visited,
        )

    def reload(self, language: str) -> str:
        return "" if self._reload is None else self._reload().describe(language)

    async def given_up(self) -> Sequence[GivenUp]:
        now = self._clock()
        return [
            GivenUp(letter.message, letter.reason, max(0, round((now - letter.at) / 60)))
            for letter in await self._store.dead_letters()
        ]

    async def replay(self, message: Message) -> int:
        return int(await self._store.replay(message))

    async def drop(self, message: Message) -> int:
        return int(await self._store.drop(message))


def _load(state: ModelState) -> Load:
    stats = state.stats
    return Load(
        model=state.name,
        precision=str(stats.precision),
        precisions=[str(each) for each in state.precisions],
        running=stats.running,
        waiting=stats.waiting,
        queue_limit=stats.queue_limit,
        speed=stats.tokens_per_second,
        cache_share=stats.cache_tokens_used / max(1, stats.cache_tokens_total),
        weight_bytes=stats.weight_bytes,
        wait_s=stats.first_token.median or 0.0,
        batch=stats.largest_batch,
        finished=stats.requests_finished,
        waiting_people=stats.waiting_users,
        loaded=state.loaded,
        loading=state.share,
        trouble=bool(state.trouble),
        memory_bytes=state.bytes,
    )
