"""Whether an answer may be said, once all of it is there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.replies import notice
from glmbot.dialogue.settings import InForce
from glmbot.host import Direction
from glmbot.messages import Reply, ReplyState

__all__ = ["approve"]


async def approve(in_force: InForce, exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    message, ticket, task, reply = exchange.message, exchange.ticket, exchange.task, exchange.reply
    if ticket is None or task is None or reply is None:
        return
    # Of one that failed there is only what has been seen.
    if reply.state is not ReplyState.FAILED:
        allows = partial(in_force.moderation.allows_in, message, Direction.ANSWER)
        # What goes on may end a word that the earlier answer began.
        allowed = not reply.text or await allows(reply.text if task.whole else task.begun + reply.text)
        if reply.thought and not await allows(reply.thought):
            exchange.reply = replace(reply, thought="")
        ticket.check()
        if not allowed:
            exchange.reply, exchange.task = notice(exchange.language, "answer.refused"), None
    async with aclosing(following(exchange)) as replies:
        async for each in replies:
            yield each
