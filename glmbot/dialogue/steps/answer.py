"""The model's answer, snapshot after snapshot. What follows is handed its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from glmbot import i18n
from glmbot.dialogue.exchange import Exchange, Follows, Task
from glmbot.dialogue.lanes import Ticket
from glmbot.dialogue.models import Talk
from glmbot.dialogue.replies import failed, snapshot
from glmbot.engine.base import Engine, FinishReason, Prepared, Progress, Sampling
from glmbot.engine.thoughts import joined
from glmbot.errors import EngineError, EngineStopped, QueueFull
from glmbot.messages import HIDDEN, Reply, ReplyState
from glmbot.tracing import Span, span

__all__ = ["answer"]

_log = logging.getLogger(__name__)

_RETRY_TEMPERATURE = 0.7


async def answer(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    ticket, task, prompt, talk = exchange.ticket, exchange.task, exchange.prompt, exchange.talk
    if ticket is None or task is None or prompt is None or talk is None:
        return
    language = exchange.language
    hints = _hints(exchange, prompt)
    last = Reply("", ReplyState.QUEUED)
    try:
        with span("chat", {"gen_ai.operation.name": "chat"}, exchange.span) as traced:
            async with aclosing(_stream(talk, exchange, task, prompt, ticket)) as replies:
                async for last in replies:
                    last = replace(last, notice="\n".join(filter(None, (last.notice, *hints))))
                    if not last.state.ended:
                        yield last
            _trace(traced, talk.engine, last)
    except EngineStopped:
        # Nothing is recorded, so the next start answers this message.
        seen = ticket.reply
        stopping = failed(language, "answer.stopping")
        yield replace(stopping, text=seen.text, thought=seen.thought, resumes=True)
        return
    except QueueFull as error:
        known = error.expected_wait_s is not None
        key = "answer.queue_full" if known else "answer.queue_full_unknown"
        last = failed(language, key, seconds=error.again_after_s)
    except EngineError as error:
        _log.error("%s: %s", exchange.message.conversation, error)
        # What has been seen of it, which was allowed.
        seen = ticket.reply
        last = replace(failed(language, "answer.failed"), text=seen.text, thought=seen.thought)
    exchange.reply = last
    async with aclosing(following(exchange)) as replies:
        async for reply in replies:
            yield reply


def _hints(exchange: Exchange, prompt: Prepared) -> list[str]:
    language, media = exchange.language, exchange.message.media
    hints = [*exchange.hints, *([i18n.text(language, "answer.question_cut")] if prompt.question_cut else [])]
    if media and exchange.wish == "ask":
        hints.append(i18n.text(language, "answer.hidden" if media == HIDDEN else "answer.media"))
    return hints


def _trace(traced: Span, engine: Engine, last: Reply) -> None:
    traced.set_attribute("gen_ai.request.model", engine.model_name)
    traced.set_attribute("gen_ai.response.finish_reasons", [last.finish_reason or str(last.state)])
    if last.usage is not None:
        traced.set_attribute("gen_ai.usage.input_tokens", last.usage.prompt_tokens)
        traced.set_attribute("gen_ai.usage.output_tokens", last.usage.completion_tokens)


async def _stream(
    talk: Talk, exchange: Exchange, task: Task, prompt: Prepared, ticket: Ticket
) -> AsyncGenerator[Reply, None]:
    """Snapshots of one generation, the last one ended; a stop ends it with the text so far."""
    sampling = _sampling(talk.sampling, task, talk.engine.context_length - prompt.prompt_tokens)
    # The engine says again what an answer begins with that goes on.
    known = len(prompt.beginning)
    generation = talk.engine.generate(
        prompt, sampling, user=str(exchange.message.user), deadline_s=exchange.settings.deadline_s
    )
    last = Reply("", ReplyState.QUEUED)
    async with aclosing(generation), aclosing(_until_stopped(generation, ticket)) as steps:
        async for progress in steps:
            if progress is None:
                words = i18n.text(exchange.language, "answer.stopped")
                last = replace(last, state=ReplyState.STOPPED, place=None, notice=words)
            else:
                last = _shown(progress, exchange.language, sampling, known, task)
            whole = replace(last, thought=joined(task.thought, last.thought))
            yield replace(whole, text=task.begun + whole.text) if task.whole else whole
            if last.state.ended:
                return


async def _until_stopped(
    generation: AsyncIterator[Progress], ticket: Ticket
) -> AsyncGenerator[Progress | None, None]:
    """What the engine says, and None when the ticket is stopped. Raises ClaimLost."""
    stopped = asyncio.ensure_future(ticket.stop.wait())
    try:
        while True:
            step = asyncio.ensure_future(anext(generation))
            try:
                await asyncio.wait({step, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not step.done():
                    step.cancel()
                    await asyncio.wait({step})
                # Who is stopped, or goes away, does not ask whether it failed at that moment.
                if not step.cancelled():
                    step.exception()
            ticket.check()
            yield None if stopped.done() else step.result()
    finally:
        stopped.cancel()


def _sampling(configured: Sampling, task: Task, room: int) -> Sampling:
    sampling = replace(configured, max_tokens=min(configured.max_tokens, room))
    if task.again and sampling.temperature == 0:
        # The likeliest answer was not wanted.
        sampling = replace(sampling, temperature=_RETRY_TEMPERATURE)
    return sampling


def _shown(progress: Progress, language: str, sampling: Sampling, known: int, task: Task) -> Reply:
    """`known` characters of an answer that goes on are left out here."""
    reply = snapshot(progress)
    reply = replace(reply, text=reply.text[known:])
    words = ""
    if progress.place is not None:
        words = i18n.text(language, "answer.place", place=progress.place)
    elif reply.thought and not reply.text and progress.finish is None:
        words = i18n.text(language, "answer.thinking")
    elif reply.thought and not reply.text and progress.finish is not FinishReason.DEADLINE:
        words = i18n.text(language, "answer.only_thought", tokens=progress.completion_tokens)
    elif progress.finish is FinishReason.LENGTH:
        words = i18n.text(language, "answer.length", tokens=sampling.max_tokens)
    elif progress.finish is FinishReason.DEADLINE:
        words = i18n.text(language, "answer.deadline")
    elif progress.finish is not None and not reply.text:
        words = i18n.text(language, "continue.ended" if task.begun else "answer.silent")
    return replace(reply, notice=words)
