"""The inbox in SQLite: what waits to be answered, and what was set aside, damaged rows among it."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from glmbot.keys import NOBODY, ConversationKey, UserKey
from glmbot.messages import Message, Unfinished
from glmbot.store.base import CLAIMED_AT_ONCE
from glmbot.store.message_json import (
    answer_from_json,
    kept_json,
    marks_from_json,
    message_from_json,
    message_to_json,
)
from glmbot.store.records import Backlog, DeadLetter, StoredAnswer
from glmbot.store.sqlite_moves import shift_of
from glmbot.store.sqlite_part import OPEN, SqlitePart
from glmbot.store.sqlite_removal import CLEARED
from glmbot.store.sqlite_turns import anchor, note_place

__all__ = ["SqliteInbox"]

_log = logging.getLogger(__name__)

_ENTRY = "arrival, platform, update_id, conversation, message, marks"

_Damaged = list[tuple[int, str]]


class SqliteInbox(SqlitePart):
    async def accept(self, message: Message, at: float, *, announce: bool = True) -> bool:
        self._connection.own()
        fields = (
            message.user.platform,
            message.update_id,
            at,
            str(message.user),
            str(message.conversation),
            json.dumps(message_to_json(message)),
        )

        def write(db: sqlite3.Connection) -> bool:
            new = db.execute(
                "INSERT OR IGNORE INTO inbox (platform, update_id, accepted_at, user, conversation, message)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                fields,
            )
            if new.rowcount == 1:
                note_place(db, str(message.user), str(message.conversation), at)
            return new.rowcount == 1

        new = await self._run(write)
        if new and announce:
            await self._announce(message.conversation)
        return new

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        given = (json.dumps(dict(marks)), message.user.platform, message.update_id)
        await self._run(
            lambda db: db.execute(
                "UPDATE inbox SET marks = json_patch(CASE WHEN json_valid(marks) THEN marks ELSE '{}' END, ?)"
                " WHERE platform = ? AND update_id = ? AND message IS NOT NULL",
                given,
            )
        )

    async def delivered(self, message: Message, shown: Sequence[str] = ()) -> None:
        update = (message.user.platform, message.update_id)

        def write(db: sqlite3.Connection) -> None:
            row = db.execute("SELECT turn FROM inbox WHERE platform = ? AND update_id = ?", update).fetchone()
            if row is not None and row[0] is not None:
                self._anchor_answer(db, str(message.conversation), row[0], shown)
            _clear(db, *update)

        await self._run(write)

    def _anchor_answer(
        self, db: sqlite3.Connection, conversation: str, turn: int, shown: Sequence[str]
    ) -> None:
        exists = "SELECT 1 FROM turns WHERE conversation = ? AND id = ?"
        if db.execute(exists, (conversation, turn)).fetchone() is None:
            moved = shift_of(db, conversation)
            if moved is None:
                return
            conversation, turn = moved[0], turn + moved[1]
            if db.execute(exists, (conversation, turn)).fetchone() is None:
                return
        for place, ref in enumerate(shown, 1):
            anchor(db, conversation, ref, turn, place)

    async def unfinished(self, platform: str) -> Sequence[Unfinished]:
        return await self._entries("platform = ?", platform, -1)

    async def open_in(self, conversation: ConversationKey) -> Sequence[Unfinished]:
        return await self._entries("conversation = ?", str(conversation), CLAIMED_AT_ONCE)

    async def join(self, message: Message, others: Sequence[Message]) -> None:
        said = (json.dumps(message_to_json(message)), message.user.platform, message.update_id)

        def write(db: sqlite3.Connection) -> None:
            joined = db.execute(
                "UPDATE inbox SET message = ?, answer = NULL, turn = NULL"
                f" WHERE platform = ? AND update_id = ? AND {OPEN}",
                said,
            )
            for other in others if joined.rowcount == 1 else ():
                _clear(db, other.user.platform, other.update_id)

        await self._run(write)

    async def _entries(self, condition: str, value: str, limit: int) -> list[Unfinished]:
        query = f"SELECT {_ENTRY} FROM inbox WHERE {condition} AND {OPEN} ORDER BY arrival LIMIT {limit}"
        found, damaged = await self._read(lambda db: _parted(db.execute(query, (value,))))
        if damaged:
            await self._run(lambda db: _set_damaged_aside(db, damaged, time.time()))
        return found

    async def set_aside(self, message: Message, reason: str, at: float) -> None:
        await self._run(
            lambda db: db.execute(
                f"UPDATE inbox SET dead = ?, dead_at = ? WHERE platform = ? AND update_id = ? AND {OPEN}",
                (" ".join(reason.split()), at, message.user.platform, message.update_id),
            )
        )

    async def dead_letters(self) -> Sequence[DeadLetter]:
        def read(db: sqlite3.Connection) -> list[DeadLetter]:
            rows = db.execute(
                "SELECT platform, update_id, conversation, user, message, dead, dead_at FROM inbox"
                " WHERE dead IS NOT NULL ORDER BY dead_at, arrival"
            )
            return [letter for row in rows if (letter := _letter(row)) is not None]

        return await self._read(read)

    async def replay(self, message: Message) -> bool:
        update = (message.user.platform, message.update_id)

        def write(db: sqlite3.Connection) -> bool:
            dead = "platform = ? AND update_id = ? AND dead IS NOT NULL"
            if not _is_whole(db.execute(f"SELECT {_ENTRY} FROM inbox WHERE {dead}", update).fetchone()):
                return False
            db.execute(
                f"UPDATE inbox SET dead = NULL, marks = json_remove(marks, '$.tries') WHERE {dead}", update
            )
            return True

        replayed = await self._run(write)
        if replayed:
            await self._announce(message.conversation)
        return replayed

    async def drop(self, message: Message) -> bool:
        update = (message.user.platform, message.update_id)
        return bool(await self._run(lambda db: _clear(db, *update, "dead IS NOT NULL")))

    async def backlog(self) -> Backlog:
        def read(db: sqlite3.Connection) -> Backlog:
            waiting = db.execute(f"SELECT COUNT(DISTINCT conversation) FROM inbox WHERE {OPEN}").fetchone()
            dead = db.execute("SELECT COUNT(*) FROM inbox WHERE dead IS NOT NULL").fetchone()
            return Backlog(waiting[0], dead[0])

        return await self._read(read)

    async def answer(self, message: Message) -> StoredAnswer | None:
        update = (message.user.platform, message.update_id)
        found, damaged = await self._read(lambda db: _answer(db, *update))
        if damaged:
            # It is answered once more.
            await self._run(
                lambda db: db.execute(
                    "UPDATE inbox SET answer = NULL WHERE platform = ? AND update_id = ?", update
                )
            )
        return found


def _parted(rows: Iterable[tuple[Any, ...]]) -> tuple[list[Unfinished], _Damaged]:
    """What can be read, and the rest by its arrival, with what is wrong."""
    found: list[Unfinished] = []
    damaged: _Damaged = []
    for arrival, platform, update_id, conversation, text, marks in rows:
        try:
            found.append(
                Unfinished(_message(platform, update_id, conversation, text), marks_from_json(marks))
            )
        except (ValueError, TypeError) as error:
            damaged.append((arrival, f"damaged in the store: {error}"[:300]))
    return found, damaged


def _set_damaged_aside(db: sqlite3.Connection, damaged: _Damaged, at: float) -> None:
    """They are kept with the reason, and nobody waits for them."""
    for arrival, reason in damaged:
        db.execute("UPDATE inbox SET dead = ?, dead_at = ? WHERE arrival = ?", (reason, at, arrival))
        _log.error("a message in the store can't be read and is set aside: %s", reason)


def _letter(row: tuple[Any, ...]) -> DeadLetter | None:
    """Of a damaged row what its columns say: enough to drop it by. None where not even its platform is one."""
    platform, update_id, conversation, user, text, reason, at = row
    try:
        message = _message(platform, update_id, conversation, text)
    except (ValueError, TypeError):
        where = _or(ConversationKey.parse, conversation, ConversationKey("damaged", NOBODY))
        whose = _or(UserKey.parse, user, UserKey("damaged", NOBODY))
        try:
            message = Message(str(update_id), where, replace(whose, platform=platform), "")
        except ValueError as error:
            _log.error("a message that was set aside can't be told: %s", error)
            return None
    return DeadLetter(message, str(reason), at if isinstance(at, float) and isfinite(at) else 0.0)


def _is_whole(row: tuple[Any, ...] | None) -> bool:
    return row is not None and not _parted([row])[1]


def _answer(db: sqlite3.Connection, platform: str, update_id: str) -> tuple[StoredAnswer | None, bool]:
    """The recorded answer, and whether there is one that can't be read."""
    row = db.execute(
        "SELECT answer FROM inbox WHERE platform = ? AND update_id = ? AND answer IS NOT NULL",
        (platform, update_id),
    ).fetchone()
    if row is None:
        return None, False
    try:
        return answer_from_json(kept_json(row[0])), False
    except (ValueError, TypeError):
        return None, True


def _clear(db: sqlite3.Connection, platform: str, update_id: str, condition: str = "1") -> int:
    """Only the update id stays, against duplicates."""
    return db.execute(
        f"UPDATE inbox SET {CLEARED} WHERE platform = ? AND update_id = ? AND {condition}",
        (platform, update_id),
    ).rowcount


def _message(platform: str, update_id: str, conversation: str, text: str) -> Message:
    message = message_from_json(kept_json(text))
    filed = (platform, update_id, conversation)
    if (message.user.platform, message.update_id, str(message.conversation)) != filed:
        raise ValueError("a message is filed as another one")
    return message


def _or(parse: Any, text: object, otherwise: Any) -> Any:
    try:
        return parse(str(text))
    except ValueError:
        return otherwise
