"""The turns that a question follows, and the prompt that is made of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.fitting import Fitting
from glmbot.dialogue.replies import failed, kept
from glmbot.dialogue.tool_desk import ToolDesk
from glmbot.errors import EngineError
from glmbot.messages import Reply
from glmbot.store.base import Answers, Histories
from glmbot.tracing import span

__all__ = ["recall"]

_log = logging.getLogger(__name__)


class _Kept(Answers, Histories, Protocol):
    """What was said, and where the end of an answer is recorded."""


async def recall(
    store: _Kept, fitting: Fitting, desk: ToolDesk, exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    message, task, talk = exchange.message, exchange.task, exchange.talk
    if task is None or talk is None:
        return
    with span("history", parent=exchange.span):
        history = await store.last_turns(
            message.conversation, exchange.settings.turn_limit + 1, upto=task.after
        )
    with span("prompt", parent=exchange.span) as traced:
        traced.set_attribute("glmbot.turns", len(history))
        try:
            if exchange.standing is not None and not task.begun:
                exchange.offered = desk.offered(message, exchange.standing, talk.engine)
            conversation, exchange.prompt = await fitting.fit(
                message,
                talk,
                history,
                task.question,
                exchange.system_prompt,
                task.begun,
                exchange.offered.offer,
            )
            exchange.conversation = None if task.begun else conversation
        except (EngineError, ValueError) as error:
            # It would end so each time: a template that refuses this history, a system prompt that is too long
            # for the model that runs now.
            _log.error("%s: no prompt can be made: %s", message.conversation, str(error)[:500])
    if exchange.prompt is None:
        reply = failed(exchange.language, "answer.failed")
        await store.finish(message, kept(reply))
        yield reply
        return
    async with aclosing(following(exchange)) as replies:
        async for reply in replies:
            yield reply
