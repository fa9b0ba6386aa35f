"""What came along with a message, as text that a model reads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace

from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.guard import Clock, complain, hurried
from glmbot.dialogue.replies import stopped
from glmbot.messages import Message, Reply
from glmbot.registered import RegisteredTransform

__all__ = ["transform"]


def transform(
    transforms: Mapping[str, RegisteredTransform], exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    """By what plug-ins have registered for it; where that fails, the message stays as it was."""
    found = transforms.get(exchange.message.media)
    if found is None or exchange.command is not None:
        return following(exchange)
    return _transformed(found, exchange, following)


async def _transformed(
    found: RegisteredTransform, exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    message, ticket = exchange.message, exchange.ticket
    clock = Clock(exchange.settings.deadline_s)
    try:
        async with hurried(clock, ticket):
            text: object = await clock.run(found.transform(message))
        if not isinstance(text, str):
            raise TypeError(f"a transform returned {type(text).__name__}, and no text")
        exchange.message = _read(message, text)
    except Exception as error:
        complain(found.log, f"the transform of {message.media}", exchange, error)
        if ticket is not None and ticket.stop.is_set():
            ticket.check()
            yield stopped(exchange.language)
            return
    async with aclosing(following(exchange)) as replies:
        async for reply in replies:
            yield reply


def _read(message: Message, text: str) -> Message:
    if not text.strip():
        return message
    return replace(message, text="\n\n".join(filter(None, (message.text.strip(), text))), media="")
