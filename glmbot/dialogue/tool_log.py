"""Who had which tool called where, and what came of it: kept for the operator, without what was said.

It holds no arguments, only their digest: whoever has a call before them can find it here, and nobody else learns
of it.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from heapq import heapify, heappop, heapreplace

from glmbot.errors import BookFull, MessageGone
from glmbot.messages import Message
from glmbot.notes import Note
from glmbot.overview import LoggedCall, LoggedCalls
from glmbot.store.notes import NOTES_AT_ONCE, Notes, book_in

__all__ = ["LOG", "ToolLog", "last_calls", "logged_calls", "to_leave"]

LOG = "tool_log"
_log = logging.getLogger(__name__)

_ON_A_PAGE = 50


class ToolLog:
    def __init__(self, store: Notes, clock: Callable[[], float]) -> None:
        self._store = store
        self._book = book_in(store, LOG)
        self._clock = clock

    async def add(self, message: Message, call: str, tool: str, arguments: str, outcome: str) -> None:
        """Raises StoreError. Where it is full, lines of whoever has most of them go. Nothing is written of who is
        forgotten by now."""
        at = self._clock()
        digest = sha256(arguments.encode()).hexdigest()[:16]
        line = LoggedCall(at, str(message.user), str(message.conversation), tool, digest, outcome)
        name = f"{max(0, int(at * 1e6)):017d} {sha256(f'{message.conversation} {call}'.encode()).hexdigest()[:16]}"
        note = Note(name, json.dumps(asdict(line)), line.user)
        for _ in range(2):
            try:
                await book_in(self._store, LOG, message).put(note)
                return
            except MessageGone:
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


async def logged_calls(store: Notes, matching: str = "") -> AsyncGenerator[LoggedCall, None]:
    """All that are kept and match, the oldest first. Raises StoreError."""
    async for _, call in _named(store, "", matching):
        yield call


async def last_calls(store: Notes, before: str = "", matching: str = "") -> LoggedCalls:
    """before: see `LoggedCalls`; matching: what stands in one of their fields. Raises StoreError."""
    found: deque[tuple[str, LoggedCall]] = deque(maxlen=_ON_A_PAGE + 1)
    async for each in _named(store, before, matching):
        found.append(each)
    page = list(found)[-_ON_A_PAGE:]
    more = page[0][0] if len(found) > _ON_A_PAGE else ""
    return LoggedCalls([call for _, call in reversed(page)], more)


async def _named(store: Notes, before: str, matching: str) -> AsyncGenerator[tuple[str, LoggedCall], None]:
    """Each with its name in the book, of which those come first that are older."""
    book, after, wanted = book_in(store, LOG), "", matching.casefold()
    while page := await book.page(after=after, upto=before, limit=NOTES_AT_ONCE):
        for note in page:
            try:
                call = LoggedCall(**json.loads(note.text))
                fields = (call.user, call.conversation, call.tool, call.digest, call.outcome)
                if note.name != before and any(wanted in each.casefold() for each in fields):
                    yield note.name, call
            except (ValueError, TypeError, AttributeError) as error:
                _log.error("a line of the log of tools is damaged, and left out: %s", error)
        after = page[-1].name
