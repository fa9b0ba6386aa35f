"""Last: the end of an answer is stored, with its turn when the model said something."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.replies import kept
from glmbot.messages import Reply, ReplyState
from glmbot.store.base import Answers

__all__ = ["record"]


async def record(
    store: Answers, clock: Callable[[], float], exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    reply, task = exchange.reply, exchange.task
    if reply is None:
        return
    said = task is not None and bool(reply.text) and reply.state is not ReplyState.FAILED
    await store.finish(
        exchange.message,
        kept(reply),
        question=task.question if task is not None and said else None,
        epoch=exchange.epoch,
        at=clock(),
        parent=task.after if task is not None else None,
        ref=task.ref if task is not None else "",
        turn_answer=task.begun + reply.text if task is not None and not task.whole else None,
    )
    exchange.recorded = reply
    yield reply
