"""One generation of an engine as replies, until it ends or is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace

from glmbot import i18n
from glmbot.dialogue.exchange import Exchange, Task
from glmbot.dialogue.lanes import Ticket
from glmbot.dialogue.models import Talk
from glmbot.dialogue.replies import snapshot
from glmbot.engine.base import CallSoFar, FinishReason, Prepared, Progress, Sampling
from glmbot.engine.thoughts import joined
from glmbot.messages import Reply, ReplyState

__all__ = ["Generated", "generated"]

_RETRY_TEMPERATURE = 0.7


@dataclass(frozen=True, slots=True)
class Generated:
    """`calls`: of a generation that has ended, and waits for what comes of them."""

    reply: Reply
    calls: tuple[CallSoFar, ...] = ()


async def generated(
    talk: Talk,
    exchange: Exchange,
    task: Task,
    prompt: Prepared,
    ticket: Ticket,
    *,
    deadline_s: float,
    most_tokens: int | None = None,
) -> AsyncGenerator[Generated, None]:
    """Snapshots, the last one ended; a stop ends it with the text so far. Raises EngineError and ClaimLost."""
    room = talk.engine.context_length - prompt.prompt_tokens
    sampling = _sampling(talk.sampling, task, room if most_tokens is None else min(room, most_tokens))
    # The engine says again what an answer begins with that goes on.
    known = len(prompt.beginning)
    generation = talk.engine.generate(
        prompt, sampling, user=str(exchange.message.user), deadline_s=deadline_s
    )
    last, calls = Reply("", ReplyState.QUEUED), tuple[CallSoFar, ...]()
    async with aclosing(generation), aclosing(_until_stopped(generation, ticket)) as steps:
        async for progress in steps:
            if progress is None:
                words = i18n.text(exchange.language, "answer.stopped")
                last = replace(last, state=ReplyState.STOPPED, place=None, notice=words)
            else:
                calls = progress.calls if progress.finish is FinishReason.TOOL_CALLS else ()
                last = _shown(progress, exchange.language, sampling, known, task)
            whole = replace(last, thought=joined(task.thought, last.thought))
            yield Generated(replace(whole, text=task.begun + whole.text) if task.whole else whole, calls)
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
    if progress.finish is FinishReason.TOOL_CALLS:
        return reply
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
