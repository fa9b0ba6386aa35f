"""The dialogue manager: one for all platforms. What happens to a message, in order, is `respond`."""

from __future__ import annotations

import asyncio
import logging
import time
import unicodedata
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from glmbot import i18n
from glmbot.dialogue import commands
from glmbot.dialogue.access import Access
from glmbot.dialogue.actions import CommandActions
from glmbot.dialogue.completion import sampling_for, split_turns
from glmbot.dialogue.lanes import Lanes, Ticket
from glmbot.dialogue.prompt import Prompt, fit
from glmbot.engine.base import ChatTurn, Engine, FinishReason, Progress, Sampling
from glmbot.errors import EngineError, EngineStopped, PromptTooLong, QueueFull, StoreError
from glmbot.messages import (
    ChatKind,
    CommandInfo,
    Completion,
    Health,
    Message,
    Reply,
    ReplyState,
    Role,
    Unfinished,
    Usage,
)
from glmbot.metrics import exposition
from glmbot.store.base import Store, StoredAnswer, Turn

__all__ = ["DialogueManager", "DialogueSettings"]

_log = logging.getLogger(__name__)

# A text this long takes the tokenizer long enough to be noticed by everybody else's stream.
_LONG_TEXT = 20_000
_RETRY_TEMPERATURE = 0.7


@dataclass(frozen=True, slots=True)
class DialogueSettings:
    """`sampling.max_tokens` is what is kept free for the answer. `language` "auto" follows the user."""

    sampling: Sampling
    system_prompt: str = ""
    turn_limit: int = 20
    language: str = "auto"
    pending_per_user: int = 5
    deadline_s: float = 300.0


class DialogueManager:
    """See `glmbot.messages.Dialogue`."""

    def __init__(
        self,
        *,
        store: Store,
        engine: Engine,
        access: Access,
        settings: DialogueSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises ValueError when the system prompt leaves no room for a question."""
        self._store = store
        self._engine = engine
        self._access = access
        self._settings = settings
        self._clock = clock
        self._lanes = Lanes()
        self._actions = CommandActions(
            store=store, engine=engine, lanes=self._lanes, measure=self._fit_history
        )
        self._fit((), "")

    async def accept(self, message: Message) -> bool:
        return await self._store.accept(message, self._clock())

    async def respond(self, message: Message) -> AsyncGenerator[Reply, None]:
        role = self._access.role(message)
        command = commands.parse(message.text)
        if role is not None and (command is None or command.name == "retry"):
            # Before the first await, so that the order of arrival is the order of answers.
            ticket = self._lanes.join(message.conversation, message.user)
            try:
                async with aclosing(self._answer(message, ticket, retry=command is not None)) as replies:
                    async for reply in replies:
                        yield reply
            finally:
                self._lanes.leave(message.conversation, ticket)
            return
        language = await self._language(message)
        if role is None:
            if message.chat_kind is ChatKind.PRIVATE or (command and command.name == "start"):
                yield self._notice(language, "access.denied", user=message.user)
            return
        if command is None:
            return
        if not command.known:
            if message.chat_kind is ChatKind.PRIVATE:
                yield self._notice(language, "command.unknown", name=command.name)
            return
        if not commands.allowed(command, role):
            yield self._notice(language, "command.admin_only", name=command.name)
            return
        try:
            async with aclosing(self._actions.run(command, message, role, language)) as replies:
                async for reply in replies:
                    yield reply
        except StoreError as error:
            _log.error("/%s of %s: %s", command.name, message.user, error)
            yield self._failed(language, "answer.store_failed")

    async def complete(self, request: Completion) -> AsyncGenerator[Reply, None]:
        system, turns, question = split_turns(request.turns)
        limit = self._engine.context_length
        sampling = sampling_for(request, self._settings.sampling, limit)
        total = min(limit, request.max_total_tokens or limit)
        room = total - sampling.max_tokens if request.trim else total - 1
        prompt = await self._off_loop(
            question,
            lambda: fit(
                self._engine.chat_format,
                system=system or self._settings.system_prompt,
                turns=turns,
                question=question,
                budget=max(1, room),
                turn_limit=len(turns),
            ),
        )
        if not request.trim and (prompt.dropped or prompt.question_cut):
            raise PromptTooLong(limit + 1, limit)
        sampling = replace(sampling, max_tokens=min(sampling.max_tokens, total - len(prompt.tokens)))
        generation = self._engine.generate(
            prompt.tokens, sampling, user=str(request.user), deadline_s=self._settings.deadline_s
        )
        async with aclosing(generation):
            async for progress in generation:
                yield _snapshot(progress)

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        await self._store.mark(message, marks)

    async def delivered(self, message: Message) -> None:
        await self._store.delivered(message)

    async def unfinished(self, platform: str) -> Sequence[Unfinished]:
        return await self._store.unfinished(platform)

    def commands(self, language: str, role: Role = Role.USER) -> Sequence[CommandInfo]:
        return commands.listing(i18n.choose_language(language), role)

    def text(self, language: str, key: str, **values: object) -> str:
        return i18n.text(self._preferred(language), key, **values)

    def health(self) -> Health:
        stats = self._engine.stats()
        return Health(stats.alive, stats.model, str(stats.precision), stats.running, stats.waiting)

    def metrics(self) -> bytes:
        return exposition(self._engine.stats())

    # ---- answering ------------------------------------------------------------------------------------------

    async def _answer(self, message: Message, ticket: Ticket, *, retry: bool) -> AsyncGenerator[Reply, None]:
        language = await self._language(message)
        if self._lanes.pending(message.user) > self._settings.pending_per_user:
            yield self._failed(language, "answer.too_many", count=self._settings.pending_per_user)
            return
        if _is_blank(message.text):
            yield self._notice(language, "answer.empty")
            return
        yield Reply("", ReplyState.QUEUED)
        await ticket.wait()
        try:
            stored = await self._store.answer(message)
            if stored is not None:
                yield _stored_reply(stored)
                return
            if ticket.stop.is_set():
                yield await self._record(
                    message, Reply("", ReplyState.STOPPED, self._say(language, "answer.stopped"))
                )
                return
            async with aclosing(self._generate_turn(message, ticket, language, retry=retry)) as replies:
                async for reply in replies:
                    yield reply
        except StoreError as error:
            _log.error("%s: %s", message.conversation, error)
            yield self._failed(language, "answer.store_failed")

    async def _generate_turn(
        self, message: Message, ticket: Ticket, language: str, *, retry: bool
    ) -> AsyncGenerator[Reply, None]:
        epoch = await self._store.epoch(message.conversation)
        history = await self._store.last_turns(message.conversation, self._settings.turn_limit + 1)
        question, replaced = message.text.strip(), None
        if retry:
            if not history:
                yield self._notice(language, "retry.nothing")
                return
            history, replaced = history[:-1], history[-1]
            question = replaced.question
        turns = [ChatTurn(turn.question, turn.answer) for turn in history]
        prompt = await self._off_loop(question, lambda: self._fit(turns, question))
        cut_notice = self._say(language, "answer.question_cut") if prompt.question_cut else ""
        last = Reply("", ReplyState.QUEUED)
        try:
            async with aclosing(self._stream(prompt, message, ticket, language, again=retry)) as replies:
                async for last in replies:
                    last = replace(last, notice="\n".join(filter(None, (last.notice, cut_notice))))
                    if not last.state.ended:
                        yield last
        except EngineStopped:
            # Nothing is recorded, so the next start answers this message.
            yield replace(self._failed(language, "answer.stopping"), text=last.text, resumes=True)
            return
        except QueueFull as error:
            last = self._failed(language, "answer.queue_full", seconds=round(error.expected_wait_s))
        except EngineError as error:
            _log.error("%s: %s", message.conversation, error)
            last = replace(self._failed(language, "answer.failed"), text=last.text)
        yield await self._record(message, last, question=question, epoch=epoch, replaced=replaced)

    async def _stream(
        self, prompt: Prompt, message: Message, ticket: Ticket, language: str, *, again: bool
    ) -> AsyncGenerator[Reply, None]:
        """Snapshots of one generation, the last one ended; a stop ends it with the text so far."""
        room = self._engine.context_length - len(prompt.tokens)
        sampling = replace(self._settings.sampling, max_tokens=min(self._settings.sampling.max_tokens, room))
        if again and sampling.temperature == 0:
            # The likeliest answer was not wanted.
            sampling = replace(sampling, temperature=_RETRY_TEMPERATURE)
        generation = self._engine.generate(
            prompt.tokens, sampling, user=str(message.user), deadline_s=self._settings.deadline_s
        )
        stopped = asyncio.ensure_future(ticket.stop.wait())
        last = Reply("", ReplyState.QUEUED)
        try:
            async with aclosing(generation):
                while not last.state.ended:
                    step = asyncio.ensure_future(anext(generation))
                    try:
                        await asyncio.wait({step, stopped}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        if not step.done():
                            step.cancel()
                            await asyncio.wait({step})
                    if stopped.done():
                        state = ReplyState.STOPPED
                        last = replace(
                            last, state=state, place=None, notice=self._say(language, "answer.stopped")
                        )
                    else:
                        last = self._shown(step.result(), language, sampling)
                    yield last
        finally:
            stopped.cancel()

    def _shown(self, progress: Progress, language: str, sampling: Sampling) -> Reply:
        reply = _snapshot(progress)
        notice = ""
        if progress.place is not None:
            notice = self._say(language, "answer.place", place=progress.place)
        elif progress.finish is FinishReason.LENGTH:
            notice = self._say(language, "answer.length", tokens=sampling.max_tokens)
        elif progress.finish is FinishReason.DEADLINE:
            notice = self._say(language, "answer.deadline")
        elif progress.finish is not None and not reply.text:
            notice = self._say(language, "answer.silent")
        return replace(reply, notice=notice)

    async def _record(
        self,
        message: Message,
        reply: Reply,
        *,
        question: str = "",
        epoch: int = 0,
        replaced: Turn | None = None,
    ) -> Reply:
        """Store the end of an answer, with its turn when the model said something. Returns `reply`."""
        keeps_turn = bool(question and reply.text) and reply.state is not ReplyState.FAILED
        await self._store.finish(
            message,
            StoredAnswer(reply.text, reply.state, reply.notice, reply.finish_reason or ""),
            question=question if keeps_turn else None,
            epoch=epoch,
            at=self._clock(),
            replaces=None if replaced is None else replaced.id,
        )
        return reply

    # ---- prompt and words -----------------------------------------------------------------------------------

    def _fit(self, turns: Sequence[ChatTurn], question: str) -> Prompt:
        return fit(
            self._engine.chat_format,
            system=self._settings.system_prompt,
            turns=turns,
            question=question,
            budget=self._engine.context_length - self._settings.sampling.max_tokens,
            turn_limit=self._settings.turn_limit,
        )

    async def _fit_history(self, message: Message) -> tuple[Prompt, int]:
        """For /context: the prompt as it stands without a question, and the tokens kept for the answer."""
        turns = await self._store.last_turns(message.conversation, self._settings.turn_limit + 1)
        prompt = self._fit([ChatTurn(turn.question, turn.answer) for turn in turns], "")
        return prompt, self._settings.sampling.max_tokens

    @staticmethod
    async def _off_loop(text: str, work: Callable[[], Prompt]) -> Prompt:
        return await asyncio.to_thread(work) if len(text) > _LONG_TEXT else work()

    async def _language(self, message: Message) -> str:
        try:
            chosen = (await self._store.settings(message.user)).get("language", "")
        except StoreError:
            chosen = ""
        return chosen or self._preferred(message.language)

    def _preferred(self, language: str) -> str:
        configured = self._settings.language
        return i18n.choose_language("" if configured == "auto" else configured, language)

    def _say(self, language: str, key: str, **values: object) -> str:
        return i18n.text(language, key, **values)

    def _notice(self, language: str, key: str, **values: object) -> Reply:
        return Reply("", ReplyState.FINAL, self._say(language, key, **values))

    def _failed(self, language: str, key: str, **values: object) -> Reply:
        return Reply("", ReplyState.FAILED, self._say(language, key, **values))


def _snapshot(progress: Progress) -> Reply:
    if progress.place is not None:
        return Reply("", ReplyState.QUEUED, place=progress.place)
    return Reply(
        progress.text,
        ReplyState.STREAMING if progress.finish is None else ReplyState.FINAL,
        finish_reason=None if progress.finish is None else str(progress.finish),
        usage=Usage(progress.prompt_tokens, progress.completion_tokens),
    )


def _stored_reply(stored: StoredAnswer) -> Reply:
    return Reply(
        stored.text, ReplyState(stored.state), stored.notice, finish_reason=stored.finish_reason or None
    )


def _is_blank(text: str) -> bool:
    """Nothing but white space and invisible format characters (zero-width space, direction marks)."""
    return all(char.isspace() or unicodedata.category(char) in ("Cf", "Cc") for char in text)
