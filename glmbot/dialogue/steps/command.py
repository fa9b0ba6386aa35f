"""A command is obeyed; what is none is handed on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from glmbot.dialogue import commands
from glmbot.dialogue.actions import CommandActions
from glmbot.dialogue.commands import Command
from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.replies import notice
from glmbot.messages import Reply
from glmbot.store.base import Store, StoredAnswer

__all__ = ["command"]


def command(
    actions: CommandActions, store: Store, exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    given = exchange.command
    return following(exchange) if given is None else _obeyed(actions, store, exchange, given)


async def _obeyed(
    actions: CommandActions, store: Store, exchange: Exchange, given: Command
) -> AsyncGenerator[Reply, None]:
    async with aclosing(_replies(actions, exchange, given)) as replies:
        async for reply in replies:
            if reply.state.ended and reply.attachment is None:
                await store.finish(exchange.message, StoredAnswer(reply.text, reply.state, reply.notice))
            yield reply


async def _replies(
    actions: CommandActions, exchange: Exchange, given: Command
) -> AsyncGenerator[Reply, None]:
    message, language, standing = exchange.message, exchange.language, exchange.standing
    if standing is None or standing.role is None:
        return
    if not given.known:
        yield notice(language, "command.unknown", name=given.name)
        return
    obstacle = commands.obstacle(given, standing.role, message.chat_kind, message.visibility)
    if obstacle is not None:
        if message.anonymous and obstacle == "command.admin_only":
            obstacle = "command.admin_anonymous"
        yield notice(language, obstacle, name=given.name)
        return
    obeyed = actions.run(given, message, standing.role, language, exchange.system_prompt)
    async with aclosing(obeyed) as replies:
        async for reply in replies:
            yield reply
