"""Last: the end of an answer is stored, with its turn when the model said something."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.messages import Reply, ReplyState
from glmbot.store.base import Store, StoredAnswer

__all__ = ["record"]

# Characters of a thought that are kept.
_LONGEST_THOUGHT = 32_000


async def record(
    store: Store, clock: Callable[[], float], exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    reply, task = exchange.reply, exchange.task
    if reply is None:
        return
    said = task is not None and bool(reply.text) and reply.state is not ReplyState.FAILED
    await store.finish(
        exchange.message,
        StoredAnswer(
            reply.text, reply.state, reply.notice, reply.finish_reason or "", _shortened(reply.thought)
        ),
        question=task.question if task is not None and said else None,
        epoch=exchange.epoch,
        at=clock(),
        parent=task.after if task is not None else None,
        ref=task.ref if task is not None else "",
        turn_answer=task.begun + reply.text if task is not None and not task.whole else None,
    )
    exchange.recorded = reply
    yield reply


def _shortened(thought: str) -> str:
    """What is kept of a long one: its beginning and its end."""
    half = _LONGEST_THOUGHT // 2
    return thought if len(thought) <= _LONGEST_THOUGHT else f"{thought[:half]}\n…\n{thought[-half:]}"
