"""Who had which tool called where, and what came of it: kept for the operator, without what was said.

It holds no arguments, only their digest: whoever has a call before them can find it here, and nobody else learns
of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, dataclass
from hashlib import sha256

from glmbot.errors import BookFull
from glmbot.messages import Message
from glmbot.notes import Note
from glmbot.store.notes import NOTES_AT_ONCE, Notes, book_in

__all__ = ["LOG", "LoggedCall", "ToolLog", "logged_calls"]

LOG = "tool_log"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """`at` in Unix time; `outcome`: "done", "failed", "unknown", "stopped", or why it was not made."""

    at: float
    user: str
    conversation: str
    tool: str
    digest: str
    outcome: str


class ToolLog:
    def __init__(self, store: Notes, clock: Callable[[], float]) -> None:
        self._book = book_in(store, LOG)
        self._clock = clock

    async def add(self, message: Message, call: str, tool: str, arguments: str, outcome: str) -> None:
        """Raises StoreError. Where it is full, the oldest go."""
        at = self._clock()
        digest = sha256(arguments.encode()).hexdigest()[:16]
        line = LoggedCall(at, str(message.user), str(message.conversation), tool, digest, outcome)
        name = f"{max(0, int(at * 1e6)):017d} {sha256(f'{message.conversation} {call}'.encode()).hexdigest()[:16]}"
        note = Note(name, json.dumps(asdict(line)), line.user)
        for _ in range(2):
            try:
                await self._book.put(note)
                return
            except BookFull:
                for old in await self._book.page(limit=NOTES_AT_ONCE):
                    await self._book.remove(old)
        _log.error("the log of tools is full, and a call of %s is not in it", tool)


async def logged_calls(store: Notes) -> AsyncGenerator[LoggedCall, None]:
    """All that are kept, the oldest first. Raises StoreError."""
    book, after = book_in(store, LOG), ""
    while page := await book.page(after=after, limit=NOTES_AT_ONCE):
        for note in page:
            try:
                yield LoggedCall(**json.loads(note.text))
            except (ValueError, TypeError) as error:
                _log.error("a line of the log of tools is damaged, and left out: %s", error)
        after = page[-1].name
