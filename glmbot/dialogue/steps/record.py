"""Last: the end of an answer is stored, with its turn when the model said something."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable

from glmbot.content import all_words_of, checked, of_words
from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.moderation import Moderation
from glmbot.dialogue.replies import kept
from glmbot.dialogue.settings import InForce
from glmbot.host import Direction
from glmbot.messages import Reply, ReplyState
from glmbot.store.base import Answers
from glmbot.store.content_json import parts_to_json

__all__ = ["record"]

_log = logging.getLogger(__name__)


async def record(
    store: Answers, in_force: InForce, clock: Callable[[], float], exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    reply, task = exchange.reply, exchange.task
    if reply is None:
        return
    turn = task if reply.text and reply.state is not ReplyState.FAILED else None
    parts = await _parts(in_force.moderation, exchange, turn.question) if turn is not None else ""
    await store.finish(
        exchange.message,
        kept(reply),
        question=turn.question if turn is not None else None,
        epoch=exchange.epoch,
        at=clock(),
        parent=task.after if task is not None else None,
        ref=task.ref if task is not None else "",
        turn_answer=task.begun + reply.text if task is not None and not task.whole else None,
        parts=parts,
    )
    exchange.recorded = reply
    yield reply


async def _parts(moderation: Moderation, exchange: Exchange, question: str) -> str:
    """Steps of plug-ins set them: what is wrong there, or may not be said, costs the answer nothing but these."""
    if not exchange.said:
        return ""
    try:
        came = checked(exchange.said)
        written, words = parts_to_json(of_words(question), came), all_words_of(came)
    except (ValueError, TypeError, RecursionError) as error:
        _log.error("%s: what came of the question is left out: %s", exchange.message.conversation, error)
        return ""
    # It reaches the model with the next question, and whoever exports it.
    if written and not await moderation.allows_in(exchange.message, Direction.ANSWER, words):
        _log.warning("%s: what came of the question is refused, and left out", exchange.message.conversation)
        written = ""
    if exchange.ticket is not None:
        exchange.ticket.check()
    return written
