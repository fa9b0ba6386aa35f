"""What keeps a question from being answered at all: too many, or nothing said."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from math import ceil

from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.question import readable
from glmbot.dialogue.quotas import Quotas, most_pending
from glmbot.dialogue.replies import failed, notice
from glmbot.engine.pool import Engines
from glmbot.messages import HIDDEN, Addressed, Message, Reply, Role

__all__ = ["quota"]


async def quota(
    quotas: Quotas, engines: Engines, exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    if (refusal := await _refusal(quotas, engines, exchange)) is not None:
        yield refusal
        return
    async with aclosing(following(exchange)) as replies:
        async for reply in replies:
            yield reply


async def _refusal(quotas: Quotas, engines: Engines, exchange: Exchange) -> Reply | None:
    message, settings, language = exchange.message, exchange.settings, exchange.language
    standing, ticket = exchange.standing, exchange.ticket
    if standing is None or ticket is None:
        return None
    if ticket.of_user > settings.pending_per_user:
        return failed(language, "answer.too_many", count=settings.pending_per_user)
    if message.source and standing.role is not Role.ADMIN:
        most = most_pending(settings, engines.queue_limit(engines.default))
        if ticket.of_source > most:
            return failed(language, "answer.too_many_here", count=most)
    exchange.asked = readable(message)
    if not exchange.asked:
        return notice(language, _nothing_said(message))
    if standing.role is Role.ADMIN:
        return None
    wait = await quotas.wait_of(message, standing, settings)
    return failed(language, "answer.quota", minutes=ceil(wait / 60)) if wait else None


def _nothing_said(message: Message) -> str:
    """What to say to whom said nothing that can be read, as the name of a line."""
    if message.media == HIDDEN:
        return "answer.hidden"
    if message.media:
        return "answer.no_text"
    return "answer.mentioned" if message.addressed is Addressed.BY_MENTION else "answer.empty"
