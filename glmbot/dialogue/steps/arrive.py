"""First: a question takes its place in its conversation, before anything is awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from glmbot.dialogue.commands import Commands
from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.lanes import Lanes
from glmbot.dialogue.typed import Typed
from glmbot.errors import StoreError
from glmbot.messages import Announce, Edit, Message, Press, Reply, ReplyState
from glmbot.store.base import Anchors

__all__ = ["arrive"]


async def arrive(
    commands: Commands,
    lanes: Lanes,
    store: Anchors,
    typed: Typed,
    exchange: Exchange,
    following: Follows,
) -> AsyncGenerator[Reply, None]:
    """The order of arrival is the order of answers. Commands wait for nobody, and neither does what a tool asked
    for; /ask, /retry and /continue ask."""
    message = exchange.message
    if isinstance(message.intent, Announce):
        yield Reply("", ReplyState.FINAL, message.text)
        return
    if isinstance(message.intent, Edit):
        lanes.stop(message.conversation, message.ref)
    command, pressed = message.command, isinstance(message.intent, Press)
    wish = commands.asks(command.name) if command is not None else ""
    if command is not None and wish:
        exchange.asked_by = command.name
    if command is not None and wish == "ask":
        message = exchange.message = replace(message, text=command.argument)
    elif wish:
        exchange.wish = wish
    elif command is not None or typed.wants(message):
        exchange.command, exchange.typed = command, command is None
        async with aclosing(following(exchange)) as replies:
            async for reply in replies:
                yield reply
        return
    ticket = exchange.ticket = lanes.join(
        message.conversation, message.user, message.ref, first=pressed, source=message.source
    )
    try:
        async with aclosing(following(exchange)) as replies:
            async for reply in replies:
                if pressed and not reply.text and reply.state is ReplyState.FAILED:
                    reply = await _beside_earlier(store, message, reply)
                ticket.reply = reply
                yield reply
    finally:
        lanes.leave(ticket)


async def _beside_earlier(store: Anchors, message: Message, reply: Reply) -> Reply:
    """A button that fails must not wipe out the answer that it stands under."""
    try:
        turn = await store.turn_of(message.conversation, message.about)
    except StoreError:
        return reply
    return reply if turn is None else replace(reply, text=turn.answer)
