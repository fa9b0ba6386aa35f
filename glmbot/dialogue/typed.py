"""What somebody types because a tool asks them: the next that they say there. It is kept nowhere, so that nothing
that is said after a restart is taken for it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from glmbot.messages import Ask, Message

__all__ = ["Typed"]


class Typed:
    """One answer at a time is written in a conversation, by this process; so all that is waited for is here."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], asyncio.Future[str]] = {}

    @contextmanager
    def expected(self, message: Message) -> Generator[asyncio.Future[str]]:
        """Of the author of this message, in its conversation."""
        who = _who(message)
        words: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[who] = words
        try:
            yield words
        finally:
            if self._waiting.get(who) is words:
                del self._waiting[who]

    def wants(self, message: Message) -> bool:
        """Whether this is what somebody waits for, and no question. Words of others, an edit and what has no
        words are not."""
        words = self._waiting.get(_who(message))
        own = isinstance(message.intent, Ask) and not message.act.forwarded
        return own and bool(message.text.strip()) and words is not None and not words.done()

    def take(self, message: Message, text: str) -> bool:
        """False where nobody waits for it (any more), or nothing is said."""
        words = self._waiting.get(_who(message))
        if words is None or words.done() or not text.strip():
            return False
        words.set_result(text.strip())
        return True


def _who(message: Message) -> tuple[str, str]:
    return str(message.conversation), str(message.user)
