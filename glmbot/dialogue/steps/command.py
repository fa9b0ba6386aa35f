"""A command is obeyed, and what a tool asked for is handed to it; all else is handed on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

from glmbot.bot import Bot
from glmbot.dialogue.commands import Commands, obstacle
from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.guard import obeyed
from glmbot.dialogue.replies import kept, notice
from glmbot.host import Call
from glmbot.messages import Message, Reply
from glmbot.openings import SlashCommand
from glmbot.store.base import Answers

__all__ = ["command"]


def command(
    commands: Commands,
    bot: Callable[[Message], Bot],
    store: Answers,
    exchange: Exchange,
    following: Follows,
) -> AsyncGenerator[Reply, None]:
    """bot: by the message that a command answers."""
    given = exchange.command
    if given is None and not exchange.typed:
        return following(exchange)
    return _recorded(commands, bot(exchange.message), store, exchange, given)


async def _recorded(
    commands: Commands, bot: Bot, store: Answers, exchange: Exchange, given: SlashCommand | None
) -> AsyncGenerator[Reply, None]:
    replied = _taken(bot, exchange) if given is None else _replies(commands, bot, exchange, given)
    async with aclosing(replied) as replies:
        async for reply in replies:
            if reply.state.ended and reply.attachment is None:
                await store.finish(exchange.message, kept(reply))
            yield reply


async def _taken(bot: Bot, exchange: Exchange) -> AsyncGenerator[Reply, None]:
    done = bot.tell_tool(exchange.message, exchange.message.text)
    yield notice(exchange.language, "tools.told" if done else "tools.gone")


async def _replies(
    commands: Commands, bot: Bot, exchange: Exchange, given: SlashCommand
) -> AsyncGenerator[Reply, None]:
    message, language, standing = exchange.message, exchange.language, exchange.standing
    if standing is None or standing.role is None:
        return
    found = commands.registered(given.name)
    if found is None or found.command.obey is None:
        yield notice(language, "command.unknown", name=given.name)
        return
    why_not = obstacle(found.command, given.argument, standing.role, message.chat_kind, message.visibility)
    if why_not is not None:
        if message.anonymous and why_not == "command.admin_only":
            why_not = "command.admin_anonymous"
        yield notice(language, why_not, name=given.name)
        return
    call = Call(message, given.argument, standing.role, language, bot, found.words.text)
    outcome = obeyed(found.plugin, found.log, exchange, given.name, partial(found.command.obey, call))
    async with aclosing(outcome) as replies:
        async for reply in replies:
            yield reply
