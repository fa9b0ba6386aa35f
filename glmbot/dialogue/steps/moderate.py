"""What may not be asked is refused, and what may not be said is not shown while it grows."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from glmbot.dialogue.exchange import Exchange, Follows, Task
from glmbot.dialogue.moderation import Moderation
from glmbot.dialogue.replies import kept, notice
from glmbot.dialogue.settings import InForce
from glmbot.host import Direction, Finding
from glmbot.messages import Reply
from glmbot.store.base import Answers

__all__ = ["moderate"]


async def moderate(
    in_force: InForce, store: Answers, exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    message, task, moderation = exchange.message, exchange.task, in_force.moderation
    if task is None:
        return
    exchange.moderation = moderation
    refusal = ""
    if exchange.system_prompt and moderation.finds(exchange.system_prompt):
        # It was allowed when it was set, and what may not be said has grown since.
        refusal = "answer.prompt_refused"
    elif not await moderation.allows_in(message, Direction.QUESTION, task.question):
        refusal = "answer.question_refused"
    if refusal:
        reply = notice(exchange.language, refusal)
        await store.finish(message, kept(reply))
        yield reply
        return
    veil: _Veil | None = None
    async with aclosing(following(exchange)) as replies:
        async for reply in replies:
            veil = veil or _Veil(moderation, task)
            yield veil.over(reply)


class _Veil:
    """What may be seen of a growing answer that was not looked at as a whole yet."""

    def __init__(self, moderation: Moderation, task: Task) -> None:
        self._holds = moderation.holds_answers
        self._watch = moderation.watch()
        # Another message's answer goes on here, whose words may end in this one.
        self._before = "" if task.whole else task.begun
        self._begun = self._seen = task.begun if task.whole else ""
        self._thoughts = moderation.watch()
        self._thought = ""

    def over(self, reply: Reply) -> Reply:
        if reply.state.ended:
            return reply
        reply = replace(reply, thought=self._over_thought(reply.thought))
        if not reply.text:
            return reply
        if self._holds:
            return replace(reply, text=self._begun)
        finding = self._watch.look(self._before + reply.text)
        if finding is Finding.WORD:
            return replace(reply, text=self._begun)
        if finding is Finding.NOTHING:
            self._seen = reply.text
        return replace(reply, text=self._seen)

    def _over_thought(self, thought: str) -> str:
        """As far as it was seen, or nothing of one that holds what may not be said."""
        finding = Finding.WORD if self._holds else self._thoughts.look(thought)
        if finding is Finding.WORD:
            self._thought = ""
        elif finding is Finding.NOTHING:
            self._thought = thought
        return self._thought
