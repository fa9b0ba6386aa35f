"""Who had which tool called where, and what came of it: kept for the operator, without what was said.

It holds no arguments, only their digest: whoever has a call before them can find it here, and nobody else learns
of it.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from heapq import heapify, heappop, heapreplace

from glmbot.errors import BookFull
from glmbot.messages import Message
from glmbot.notes import Note
from glmbot.store.notes import NOTES_AT_ONCE, Notes, book_in

__all__ = ["LOG", "LoggedCall", "ToolLog", "logged_calls", "to_leave"]

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
        """Raises StoreError. Where it is full, lines of whoever has most of them go."""
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
                for old in to_leave(await self._all(), NOTES_AT_ONCE):
                    await self._book.remove(old)
        _log.error("the log of tools is full, and a call of %s is not in it", tool)

    async def _all(self) -> Sequence[Note]:
        """Without their texts."""
        found: list[Note] = []
        while page := await self._book.page(after=found[-1].name if found else "", limit=NOTES_AT_ONCE):
            found += [replace(note, text="-") for note in page]
        return found


def to_leave(lines: Sequence[Note], count: int) -> Sequence[Note]:
    """So many of them, the oldest first: so that nobody pushes out what others did, each is one of whoever has
    most then."""
    of_each: defaultdict[str, deque[Note]] = defaultdict(deque)
    for line in sorted(lines, key=lambda line: line.name):
        of_each[line.user].append(line)
    most = [(-len(own), own[0].name, user) for user, own in of_each.items()]
    heapify(most)
    leaving: list[Note] = []
    while most and len(leaving) < count:
        user = most[0][2]
        own = of_each[user]
        leaving.append(own.popleft())
        if own:
            heapreplace(most, (-len(own), own[0].name, user))
        else:
            heappop(most)
    return leaving


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
