"""Answering one question: which turns it follows, the prompt, the stream, and what is recorded of it."""

from __future__ import annotations

import asyncio
import logging
import unicodedata
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from glmbot import i18n
from glmbot.dialogue.lanes import Ticket
from glmbot.dialogue.moderation import Direction, Moderation
from glmbot.dialogue.off_loop import OffLoop
from glmbot.dialogue.prompt import Prompt, fit
from glmbot.dialogue.words import Finding
from glmbot.engine.base import ChatTurn, Engine, FinishReason, Progress, Sampling
from glmbot.errors import EngineError, EngineStopped, QueueFull
from glmbot.messages import HIDDEN, Action, Message, Reply, ReplyState, Usage
from glmbot.store.base import Store, StoredAnswer, Turn
from glmbot.tracing import Span, span

__all__ = [
    "Answering",
    "DialogueSettings",
    "asked_text",
    "failed",
    "is_blank",
    "notice",
    "snapshot",
    "stored_reply",
    "with_actions",
]

_log = logging.getLogger(__name__)

_RETRY_TEMPERATURE = 0.7
_LONGEST_QUOTE = 2000


@dataclass(frozen=True, slots=True)
class DialogueSettings:
    """`sampling.max_tokens` is what is kept free for the answer. `language` "auto" follows the user.

    user_per_hour and the like: questions, and strangers; 0 is no limit. See [limits] in `glmbot.config`.
    """

    sampling: Sampling
    system_prompt: str = ""
    turn_limit: int = 20
    language: str = "auto"
    pending_per_user: int = 5
    pending_per_source: int = 16
    deadline_s: float = 300.0
    user_per_hour: int = 0
    chat_per_hour: int = 0
    total_per_hour: int = 0
    source_per_hour: int = 0
    strangers_per_hour: int = 0


@dataclass(frozen=True, slots=True)
class _Task:
    """What to ask the model. `after`: the turn that this one follows, None for the head.

    `begun` is an answer to go on from; `whole`: it is shown again in front of what comes.
    """

    question: str
    ref: str
    history: Sequence[Turn]
    after: int | None
    again: bool = False
    begun: str = ""
    whole: bool = False


class Answering:
    def __init__(
        self,
        store: Store,
        engine: Engine,
        settings: DialogueSettings,
        moderation: Moderation,
        clock: Callable[[], float],
    ) -> None:
        """Raises ValueError when the system prompt leaves no room for a question."""
        self._store = store
        self.engine = engine
        self._clock = clock
        self.settings = settings
        self.moderation = moderation
        self.off_loop = OffLoop()
        self.fit((), "", "")

    def fit(self, turns: Sequence[Turn], question: str, system: str, begun: str = "") -> Prompt:
        """Raises ValueError when the system prompt leaves no room for a question."""
        return fit(
            self.engine.chat_format,
            system=system or self.settings.system_prompt,
            turns=[ChatTurn(turn.question, turn.answer) for turn in turns],
            question=question,
            budget=self.engine.context_length - self.settings.sampling.max_tokens,
            turn_limit=self.settings.turn_limit,
            begun=begun,
        )

    async def measure(self, message: Message, system: str) -> tuple[Prompt, int]:
        """For /context: the prompt as it stands without a question, and the tokens kept for the answer."""
        turns = await self._store.last_turns(message.conversation, self.settings.turn_limit + 1)
        prompt = await self.fit_apart(message, turns, "", system)
        return prompt, self.settings.sampling.max_tokens

    async def fit_apart(
        self, message: Message, turns: Sequence[Turn], question: str, system: str, begun: str = ""
    ) -> Prompt:
        """`fit`, beside everybody else's answers however long the texts are."""
        history = sum(len(turn.question) + len(turn.answer) for turn in turns)
        characters = history + len(question) + len(system or self.settings.system_prompt) + len(begun)
        return await self.off_loop.run(
            str(message.user), characters, lambda: self.fit(turns, question, system, begun)
        )

    async def answer(
        self, message: Message, ticket: Ticket, language: str, system: str, wish: str
    ) -> AsyncGenerator[Reply, None]:
        """Snapshots of the answer, the last one recorded. `wish`: "ask", "retry" or "continue".

        Raises StoreError.
        """
        epoch = await self._store.epoch(message.conversation)
        with span("history", parent=ticket.span):
            task = await self._task(message, wish)
        if task is None:
            yield notice(language, "button.gone" if message.in_place else f"{wish}.nothing")
            return
        if self.moderation.has_word(system):
            # It was allowed when it was set, and the list has grown since.
            yield await self._record(message, notice(language, "answer.prompt_refused"))
            return
        if not await self.allows(Direction.QUESTION, task.question, message):
            yield await self._record(message, notice(language, "answer.question_refused"))
            return
        with span("prompt", parent=ticket.span) as traced:
            try:
                prompt = await self.fit_apart(message, task.history, task.question, system, task.begun)
            except (EngineError, ValueError) as error:
                # It would end so each time: a template that refuses this history, a system prompt that is too
                # long for the model that runs now.
                _log.error("%s: no prompt can be made: %s", message.conversation, str(error)[:500])
                yield await self._record(message, failed(language, "answer.failed"))
                return
            traced.set_attribute("glmbot.turns", len(task.history))
        hints = [i18n.text(language, "answer.question_cut")] if prompt.question_cut else []
        if message.media and wish == "ask":
            hints.append(i18n.text(language, "answer.hidden" if message.media == HIDDEN else "answer.media"))
        last = Reply("", ReplyState.QUEUED)
        try:
            with span("chat", {"gen_ai.operation.name": "chat"}, ticket.span) as traced:
                async with aclosing(self._stream(prompt, task, message, ticket, language)) as replies:
                    async for last in replies:
                        last = replace(last, notice="\n".join(filter(None, (last.notice, *hints))))
                        if not last.state.ended:
                            yield last
                self._trace(traced, last)
            # What goes on may end a word that the earlier answer began.
            whole = last.text if task.whole else task.begun + last.text
            allowed = not last.text or await self.allows(Direction.ANSWER, whole, message)
            ticket.check()
            if not allowed:
                yield await self._record(message, notice(language, "answer.refused"))
                return
        except EngineStopped:
            # Nothing is recorded, so the next start answers this message.
            yield replace(failed(language, "answer.stopping"), text=last.text, resumes=True)
            return
        except QueueFull as error:
            known = error.expected_wait_s is not None
            key = "answer.queue_full" if known else "answer.queue_full_unknown"
            last = failed(language, key, seconds=error.again_after_s)
        except EngineError as error:
            _log.error("%s: %s", message.conversation, error)
            last = replace(failed(language, "answer.failed"), text=last.text)
        yield await self._record(message, last, task=task, epoch=epoch)

    def _trace(self, traced: Span, last: Reply) -> None:
        traced.set_attribute("gen_ai.request.model", self.engine.model_name)
        traced.set_attribute("gen_ai.response.finish_reasons", [last.finish_reason or str(last.state)])
        if last.usage is not None:
            traced.set_attribute("gen_ai.usage.input_tokens", last.usage.prompt_tokens)
            traced.set_attribute("gen_ai.usage.output_tokens", last.usage.completion_tokens)

    async def stopped(self, message: Message, language: str) -> Reply:
        """The recorded end of a question that was stopped before it was its turn."""
        reply = Reply("", ReplyState.STOPPED, i18n.text(language, "answer.stopped"))
        return await self._record(message, reply)

    async def _task(self, message: Message, wish: str) -> _Task | None:
        """None when there is nothing to repeat or to go on from."""
        conversation, limit = message.conversation, self.settings.turn_limit + 1
        if wish != "ask":
            if message.replies_to:
                target = await self._store.turn_of(conversation, message.replies_to)
            else:
                newest = await self._store.last_turns(conversation, 1)
                target = newest[-1] if newest else None
            if target is None:
                return None
            history = await self._store.last_turns(conversation, limit, upto=target.parent)
            begun = target.answer if wish == "continue" else ""
            return _Task(
                target.question,
                target.ref,
                history,
                target.parent,
                again=wish == "retry",
                begun=begun,
                whole=message.in_place,
            )
        after, question = None, message.text.strip()
        if message.edits and (earlier := await self._store.turn_of(conversation, message.ref)):
            after = earlier.parent
            quotes = earlier.question.startswith("> ") or earlier.question == message.quoted.strip()
            question = asked_text(message) if quotes or is_blank(question) else question
        elif message.replies_to and (answered := await self._store.turn_of(conversation, message.replies_to)):
            after = answered.id
            question = asked_text(message) if is_blank(question) else question
        else:
            question = asked_text(message)
        history = await self._store.last_turns(conversation, limit, upto=after)
        return _Task(question, message.ref, history, after)

    async def _stream(
        self, prompt: Prompt, task: _Task, message: Message, ticket: Ticket, language: str
    ) -> AsyncGenerator[Reply, None]:
        """Snapshots of one generation, the last one ended; a stop ends it with the text so far."""
        room = self.engine.context_length - len(prompt.tokens)
        sampling = self.settings.sampling
        sampling = replace(sampling, max_tokens=min(sampling.max_tokens, room))
        if task.again and sampling.temperature == 0:
            # The likeliest answer was not wanted.
            sampling = replace(sampling, temperature=_RETRY_TEMPERATURE)
        # The engine repeats what the prompt holds of an answer that goes on.
        chat_format = self.engine.chat_format
        begun = prompt.tokens[len(prompt.tokens) - prompt.begun :]
        known = len(chat_format.finish_text(chat_format.decode(begun))) if begun else 0
        generation = self.engine.generate(
            prompt.tokens,
            sampling,
            user=str(message.user),
            deadline_s=self.settings.deadline_s,
            begun=prompt.begun,
        )
        stopped = asyncio.ensure_future(ticket.stop.wait())
        veil = _Veil(self.moderation, task)
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
                    ticket.check()
                    if stopped.done():
                        words = i18n.text(language, "answer.stopped")
                        last = replace(last, state=ReplyState.STOPPED, place=None, notice=words)
                    else:
                        last = _shown(step.result(), language, sampling, known, task)
                    yield veil.over(_with_beginning(last, task))
        finally:
            stopped.cancel()

    async def allows(self, direction: Direction, text: str, message: Message) -> bool:
        return await self.moderation.allows(
            direction, text, user=str(message.user), conversation=str(message.conversation)
        )

    async def _record(
        self, message: Message, reply: Reply, *, task: _Task | None = None, epoch: int = 0
    ) -> Reply:
        """Store the end of an answer, with its turn when the model said something. Returns what to show."""
        said = task is not None and bool(reply.text) and reply.state is not ReplyState.FAILED
        await self._store.finish(
            message,
            StoredAnswer(reply.text, reply.state, reply.notice, reply.finish_reason or ""),
            question=task.question if task is not None and said else None,
            epoch=epoch,
            at=self._clock(),
            parent=task.after if task is not None else None,
            ref=task.ref if task is not None else "",
            turn_answer=task.begun + reply.text if task is not None and not task.whole else None,
        )
        return reply


def asked_text(message: Message) -> str:
    """The question with what it quotes in front, as Markdown; where it says nothing else, what it quotes."""
    said, quoted = message.text.strip(), message.quoted.strip()
    if not quoted:
        return said
    whose = f"{message.quoted_from.strip()}:\n" if message.quoted_from.strip() else ""
    if is_blank(said):
        return whose + quoted
    quoted = (whose + quoted[:_LONGEST_QUOTE]).replace("\n", "\n> ")
    return f"> {quoted}\n\n{said}"


def is_blank(text: str) -> bool:
    """Nothing but white space and invisible format characters (zero-width space, direction marks)."""
    return all(char.isspace() or unicodedata.category(char) in ("Cf", "Cc") for char in text)


def notice(language: str, key: str, **values: object) -> Reply:
    return Reply("", ReplyState.FINAL, i18n.text(language, key, **values))


def failed(language: str, key: str, **values: object) -> Reply:
    return Reply("", ReplyState.FAILED, i18n.text(language, key, **values))


def snapshot(progress: Progress) -> Reply:
    if progress.place is not None:
        return Reply("", ReplyState.QUEUED, place=progress.place)
    return Reply(
        progress.text,
        ReplyState.STREAMING if progress.finish is None else ReplyState.FINAL,
        finish_reason=None if progress.finish is None else str(progress.finish),
        usage=Usage(progress.prompt_tokens, progress.completion_tokens),
    )


def stored_reply(stored: StoredAnswer) -> Reply:
    return Reply(
        stored.text, ReplyState(stored.state), stored.notice, finish_reason=stored.finish_reason or None
    )


def with_actions(reply: Reply, language: str) -> Reply:
    """The commands that make sense under this snapshot."""

    def actions(*names: str) -> tuple[Action, ...]:
        return tuple(Action(name, i18n.text(language, f"button.{name}")) for name in names)

    if not reply.state.ended:
        return replace(reply, actions=actions("stop"))
    if not reply.text or reply.state is ReplyState.FAILED:
        return reply
    unfinished = reply.state is ReplyState.STOPPED or reply.finish_reason in (
        FinishReason.LENGTH,
        FinishReason.DEADLINE,
    )
    return replace(reply, actions=actions("retry", "continue") if unfinished else actions("retry"))


class _Veil:
    """What may be seen of a growing answer that was not looked at as a whole yet."""

    def __init__(self, moderation: Moderation, task: _Task) -> None:
        self._holds = moderation.holds_answers
        self._watch = moderation.watch()
        # Another message's answer goes on here, whose words may end in this one.
        self._before = "" if task.whole else task.begun
        self._begun = self._seen = task.begun if task.whole else ""

    def over(self, reply: Reply) -> Reply:
        if reply.state.ended or not reply.text:
            return reply
        if self._holds:
            return replace(reply, text=self._begun)
        finding = self._watch.look(self._before + reply.text)
        if finding is Finding.WORD:
            return replace(reply, text=self._begun)
        if finding is Finding.NOTHING:
            self._seen = reply.text
        return replace(reply, text=self._seen)


def _shown(progress: Progress, language: str, sampling: Sampling, known: int, task: _Task) -> Reply:
    """`known` characters of an answer that goes on are left out here."""
    reply = snapshot(progress)
    reply = replace(reply, text=reply.text[known:])
    words = ""
    if progress.place is not None:
        words = i18n.text(language, "answer.place", place=progress.place)
    elif progress.finish is FinishReason.LENGTH:
        words = i18n.text(language, "answer.length", tokens=sampling.max_tokens)
    elif progress.finish is FinishReason.DEADLINE:
        words = i18n.text(language, "answer.deadline")
    elif progress.finish is not None and not reply.text:
        words = i18n.text(language, "continue.ended" if task.begun else "answer.silent")
    return replace(reply, notice=words)


def _with_beginning(reply: Reply, task: _Task) -> Reply:
    return replace(reply, text=task.begun + reply.text) if task.whole else reply
