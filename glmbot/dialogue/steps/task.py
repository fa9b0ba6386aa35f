"""Which question is asked: the message's own, in other words than before, or one that was answered already."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from glmbot.dialogue.exchange import Exchange, Follows, Task
from glmbot.dialogue.question import is_blank
from glmbot.dialogue.replies import notice
from glmbot.engine.thoughts import parted
from glmbot.messages import Edit, Message, Press, Reply
from glmbot.store.base import Anchors, Histories

__all__ = ["task"]


class _Kept(Anchors, Histories, Protocol):
    """Turns, by their place in a branch and by the messages that they stand in."""


async def task(store: _Kept, exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    message, wish = exchange.message, exchange.wish
    exchange.epoch = await store.epoch(message.conversation)
    exchange.task = await (_asked(store, exchange) if wish == "ask" else _repeated(store, message, wish))
    if exchange.task is None:
        yield notice(
            exchange.language, "button.gone" if isinstance(message.intent, Press) else f"{wish}.nothing"
        )
        return
    async with aclosing(following(exchange)) as replies:
        async for reply in replies:
            yield reply


async def _repeated(store: _Kept, message: Message, wish: str) -> Task | None:
    """None when there is nothing to repeat or to go on from."""
    if message.about:
        target = await store.turn_of(message.conversation, message.about)
    else:
        newest = await store.last_turns(message.conversation, 1)
        target = newest[-1] if newest else None
    if target is None:
        return None
    whole = isinstance(message.intent, Press)
    if wish == "retry":
        return Task(target.question, target.ref, target.parent, again=True, whole=whole)
    thought, begun = parted(target.thought, target.answer)
    return Task(target.question, target.ref, target.parent, begun=begun, whole=whole, thought=thought)


async def _asked(store: _Kept, exchange: Exchange) -> Task:
    message = exchange.message
    conversation, question = message.conversation, message.text.strip()
    if isinstance(message.intent, Edit) and (earlier := await store.turn_of(conversation, message.ref)):
        quotes = earlier.question.startswith("> ") or earlier.question == message.quoted.strip()
        question = exchange.asked if quotes or is_blank(question) else question
        return Task(question, message.ref, earlier.parent)
    if message.about and (answered := await store.turn_of(conversation, message.about)):
        question = exchange.asked if is_blank(question) else question
        return Task(question, message.ref, answered.id)
    return Task(exchange.asked, message.ref, None)
