"""The model that is to answer is there, loaded if need be, until the answer is recorded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

from glmbot import i18n
from glmbot.bot import words_for
from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.lanes import Ticket
from glmbot.dialogue.models import Chosen, Talk, chosen_model
from glmbot.dialogue.replies import failed, kept, stopped
from glmbot.engine.base import Engine
from glmbot.engine.pool import Engines
from glmbot.errors import EngineStopped, ModelUnavailable
from glmbot.messages import ChatKind, Reply, ReplyState
from glmbot.store.base import Answers

__all__ = ["choose_model"]

_log = logging.getLogger(__name__)


async def choose_model(
    engines: Engines, store: Answers, exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    message, language = exchange.message, exchange.language
    ticket, standing = exchange.ticket, exchange.standing
    if ticket is None or standing is None:
        return
    wishes = standing.user if message.chat_kind is ChatKind.PRIVATE else standing.chat
    chosen = chosen_model(engines, message, standing.role, wishes, exchange.settings)
    if not engines.ready(chosen.name):
        yield Reply("", ReplyState.QUEUED, i18n.text(language, "model.loading", model=chosen.name))
    async with AsyncExitStack() as stack:
        ended: Reply | None = None
        try:
            engine = await _unless_stopped(engines, chosen.name, stack, ticket)
        except EngineStopped:
            # Nothing is recorded, so the next start answers this message.
            yield Reply("", ReplyState.FAILED, i18n.text(language, "answer.stopping"), resumes=True)
            return
        except ModelUnavailable as error:
            _log.error("%s: %s", message.conversation, error)
            key, values = words_for(error)
            ended = failed(language, key, **values)
        else:
            if engine is None:
                ended = stopped(language)
            else:
                sampling = exchange.settings.sampling_of(chosen.name, engine)
                exchange.talk = Talk(engine, sampling)
        ticket.check()
        if ended is not None:
            await store.finish(message, kept(ended))
            yield ended
            return
        exchange.hints = _hints(chosen, language)
        async with aclosing(following(exchange)) as replies:
            async for reply in replies:
                yield reply


async def _unless_stopped(
    engines: Engines, name: str, stack: AsyncExitStack, ticket: Ticket
) -> Engine | None:
    """The engine, which leaves with the stack; None when the ticket is stopped first. Raises EngineError."""
    opening = asyncio.ensure_future(stack.enter_async_context(engines.use(name)))
    stopped = asyncio.ensure_future(ticket.stop.wait())
    try:
        await asyncio.wait({opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return opening.result() if opening.done() else None
    finally:
        stopped.cancel()
        if not opening.done():
            opening.cancel()
            await asyncio.wait({opening})


def _hints(chosen: Chosen, language: str) -> list[str]:
    if not chosen.gone:
        return []
    return [i18n.text(language, "model.gone", model=chosen.gone, default=chosen.name)]
