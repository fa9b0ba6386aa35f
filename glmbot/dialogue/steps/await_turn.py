"""A question waits for those before it in its conversation."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.inbox import Inbox
from glmbot.dialogue.replies import kept, stopped, with_actions
from glmbot.dialogue.settings import InForce
from glmbot.messages import Reply, ReplyState
from glmbot.store.base import Answers
from glmbot.tracing import span

__all__ = ["await_turn"]


async def await_turn(
    inbox: Inbox, store: Answers, in_force: InForce, exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    message, ticket, language = exchange.message, exchange.ticket, exchange.language
    if ticket is None:
        return
    yield with_actions(Reply("", ReplyState.QUEUED), language)
    with span("wait", parent=exchange.span):
        await ticket.wait()
    await inbox.count_try(message)
    if ticket.stop.is_set():
        # A claim that was lost meanwhile is nobody's stop, and would be recorded as the answer.
        ticket.check()
        reply = stopped(language)
        await store.finish(message, kept(reply))
        yield reply
        return
    exchange.settings = in_force.settings
    async with aclosing(following(exchange)) as replies:
        async for reply in replies:
            yield with_actions(reply, language)
