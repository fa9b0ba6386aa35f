"""Last: the end of an answer is stored, with its turn when the model said something."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable

from glmbot.content import checked, of_words
from glmbot.dialogue.exchange import Exchange, Follows, Task
from glmbot.dialogue.replies import kept
from glmbot.messages import Reply, ReplyState
from glmbot.store.base import Answers
from glmbot.store.content_json import parts_to_json

__all__ = ["record"]

_log = logging.getLogger(__name__)


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
        **_parts(exchange, task),
    )
    exchange.recorded = reply
    yield reply


def _parts(exchange: Exchange, task: Task | None) -> dict[str, str]:
    """Steps of plug-ins set them: what is wrong there costs the answer nothing but these."""
    if task is None or not exchange.said:
        return {}
    try:
        written = parts_to_json(of_words(task.question), checked(exchange.said))
    except (ValueError, TypeError) as error:
        _log.error("%s: what came of the question is left out: %s", exchange.message.conversation, error)
        return {}
    return {"parts": written} if written else {}
