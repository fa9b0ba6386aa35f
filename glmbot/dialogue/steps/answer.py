"""The model's answer, snapshot after snapshot. What follows is handed its end."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from glmbot import i18n
from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.fitting import Fitting
from glmbot.dialogue.replies import failed
from glmbot.dialogue.tool_desk import ToolDesk
from glmbot.dialogue.tool_loop import answered
from glmbot.engine.base import Engine, Prepared
from glmbot.errors import EngineError, EngineStopped, QueueFull
from glmbot.messages import HIDDEN, Reply, ReplyState
from glmbot.tracing import Span, span

__all__ = ["answer"]

_log = logging.getLogger(__name__)


async def answer(
    desk: ToolDesk, fitting: Fitting, exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    ticket, task, prompt, talk = exchange.ticket, exchange.task, exchange.prompt, exchange.talk
    if ticket is None or task is None or prompt is None or talk is None:
        return
    language = exchange.language
    hints = _hints(exchange, prompt)
    last = Reply("", ReplyState.QUEUED)
    try:
        with span("chat", {"gen_ai.operation.name": "chat"}, exchange.span) as traced:
            async with aclosing(answered(desk, fitting, talk, exchange, task, prompt, ticket)) as replies:
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
    if exchange.journal is not None and exchange.recorded is not None:
        await exchange.journal.end()


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
