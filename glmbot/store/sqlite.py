"""The embedded store: one SQLite file, each method one transaction in one worker thread.

Write-ahead log with synchronous=FULL, so what `accept` returned for survives a power cut
(https://www.sqlite.org/pragma.html#pragma_synchronous). secure_delete overwrites what /forget removes.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from glmbot.errors import StoreError
from glmbot.messages import ConversationKey, Message, Unfinished, UserKey
from glmbot.store.base import (
    ExportedConversation,
    StoredAnswer,
    Turn,
    message_from_json,
    message_to_json,
)

__all__ = ["SqliteStore"]

_T = TypeVar("_T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS inbox (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT,
    platform TEXT NOT NULL,
    update_id TEXT NOT NULL,
    accepted_at REAL NOT NULL,
    user TEXT,
    message TEXT,
    marks TEXT NOT NULL DEFAULT '{}',
    answer TEXT,
    UNIQUE (platform, update_id)
);
CREATE INDEX IF NOT EXISTS inbox_open ON inbox (platform, arrival) WHERE message IS NOT NULL;
CREATE TABLE IF NOT EXISTS turns (
    conversation TEXT NOT NULL,
    id INTEGER NOT NULL,
    user TEXT NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (conversation, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS turns_user ON turns (user);
CREATE TABLE IF NOT EXISTS epochs (conversation TEXT PRIMARY KEY, epoch INTEGER NOT NULL, last_id INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settings (
    user TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (user, name)
) WITHOUT ROWID;
"""


class SqliteStore:
    """See `glmbot.store.base.Store`."""

    def __init__(self, path: Path, *, update_ids_kept_s: float = 7 * 86400, turns_kept_s: float = 0) -> None:
        """Times in seconds; turns_kept_s 0 keeps turns for ever."""
        self._path = path
        self._update_ids_kept_s = update_ids_kept_s
        self._turns_kept_s = turns_kept_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._db: sqlite3.Connection

    async def open(self) -> None:
        """Raises StoreError that names the file when it is no database of ours or can't be written."""

        def connect(_: object) -> None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.execute("PRAGMA busy_timeout = 5000")
            self._db.executescript(_SCHEMA)

        await self._run(connect, transaction=False)

    async def close(self) -> None:
        def disconnect(db: sqlite3.Connection) -> None:
            db.close()

        await self._run(disconnect, transaction=False)
        self._thread.shutdown()

    async def warnings(self) -> Sequence[str]:
        return []

    async def accept(self, message: Message, at: float) -> bool:
        def write(db: sqlite3.Connection) -> bool:
            db.execute(
                "DELETE FROM inbox WHERE message IS NULL AND accepted_at < ?", (at - self._update_ids_kept_s,)
            )
            if self._turns_kept_s:
                db.execute("DELETE FROM turns WHERE at < ?", (at - self._turns_kept_s,))
            cursor = db.execute(
                "INSERT OR IGNORE INTO inbox (platform, update_id, accepted_at, user, message)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    message.user.platform,
                    message.update_id,
                    at,
                    str(message.user),
                    json.dumps(message_to_json(message)),
                ),
            )
            return cursor.rowcount == 1

        return await self._run(write)

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE inbox SET marks = json_patch(marks, ?)"
                " WHERE platform = ? AND update_id = ? AND message IS NOT NULL",
                (json.dumps(dict(marks)), message.user.platform, message.update_id),
            )

        await self._run(write)

    async def delivered(self, message: Message) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE inbox SET message = NULL, user = NULL, answer = NULL, marks = '{}'"
                " WHERE platform = ? AND update_id = ?",
                (message.user.platform, message.update_id),
            )

        await self._run(write)

    async def unfinished(self, platform: str) -> Sequence[Unfinished]:
        def read(db: sqlite3.Connection) -> list[Unfinished]:
            rows = db.execute(
                "SELECT message, marks FROM inbox WHERE platform = ? AND message IS NOT NULL ORDER BY arrival",
                (platform,),
            )
            return [Unfinished(message_from_json(json.loads(row[0])), json.loads(row[1])) for row in rows]

        return await self._run(read)

    async def answer(self, message: Message) -> StoredAnswer | None:
        def read(db: sqlite3.Connection) -> StoredAnswer | None:
            row = db.execute(
                "SELECT answer FROM inbox WHERE platform = ? AND update_id = ? AND answer IS NOT NULL",
                (message.user.platform, message.update_id),
            ).fetchone()
            return None if row is None else StoredAnswer(**json.loads(row[0]))

        return await self._run(read)

    async def epoch(self, conversation: ConversationKey) -> int:
        return (await self._run(lambda db: _epoch(db, conversation)))[0]

    async def last_turns(self, conversation: ConversationKey, limit: int) -> Sequence[Turn]:
        def read(db: sqlite3.Connection) -> list[Turn]:
            rows = db.execute(
                "SELECT id, user, question, answer, at FROM turns WHERE conversation = ?"
                " ORDER BY id DESC LIMIT ?",
                (str(conversation), limit),
            )
            return [_turn(row) for row in rows][::-1]

        return await self._run(read)

    async def finish(
        self,
        message: Message,
        answer: StoredAnswer,
        *,
        question: str | None = None,
        epoch: int = 0,
        at: float = 0.0,
        replaces: int | None = None,
    ) -> bool:
        def write(db: sqlite3.Connection) -> bool:
            cursor = db.execute(
                "UPDATE inbox SET answer = ?"
                " WHERE platform = ? AND update_id = ? AND message IS NOT NULL AND answer IS NULL",
                (json.dumps(asdict(answer)), message.user.platform, message.update_id),
            )
            now, last_id = _epoch(db, message.conversation)
            if question is None or cursor.rowcount != 1 or now != epoch:
                return False
            conversation = str(message.conversation)
            if replaces is not None:
                db.execute("DELETE FROM turns WHERE conversation = ? AND id >= ?", (conversation, replaces))
            _set_epoch(db, message.conversation, epoch, last_id + 1)
            db.execute(
                "INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?)",
                (conversation, last_id + 1, str(message.user), question, answer.text, at),
            )
            return True

        return await self._run(write)

    async def reset(self, conversation: ConversationKey) -> int:
        def write(db: sqlite3.Connection) -> int:
            epoch, last_id = _epoch(db, conversation)
            _set_epoch(db, conversation, epoch + 1, last_id)
            return db.execute("DELETE FROM turns WHERE conversation = ?", (str(conversation),)).rowcount

        return await self._run(write)

    async def conversations(self, user: UserKey) -> Sequence[ConversationKey]:
        return await self._run(lambda db: _conversations(db, user))

    async def export(self, user: UserKey) -> Sequence[ExportedConversation]:
        def read(db: sqlite3.Connection) -> list[ExportedConversation]:
            found: list[ExportedConversation] = []
            for conversation in _conversations(db, user):
                rows = db.execute(
                    "SELECT id, user, question, answer, at FROM turns WHERE conversation = ? AND user = ?"
                    " ORDER BY id",
                    (str(conversation), str(user)),
                )
                found.append(ExportedConversation(conversation, [_turn(row) for row in rows]))
            return found

        return await self._run(read)

    async def forget(self, user: UserKey) -> int:
        def write(db: sqlite3.Connection) -> int:
            # An answer in progress can't come back: `finish` needs the inbox message that is cleared here.
            removed = db.execute("DELETE FROM turns WHERE user = ?", (str(user),)).rowcount
            db.execute("DELETE FROM settings WHERE user = ?", (str(user),))
            db.execute(
                "UPDATE inbox SET message = NULL, user = NULL, answer = NULL, marks = '{}' WHERE user = ?",
                (str(user),),
            )
            # The last row of a private conversation is its counter, whose key holds the person's id.
            db.execute(
                "DELETE FROM epochs WHERE conversation LIKE ? OR conversation LIKE ?",
                (f"{user.platform}:%:{user.id}:%", f"{user.platform}:{user.id}:0:%"),
            )
            return removed

        removed = await self._run(write)
        # The write-ahead log still holds the old pages until it is folded in.
        await self._run(
            lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall(), transaction=False
        )
        return removed

    async def settings(self, user: UserKey) -> Mapping[str, str]:
        def read(db: sqlite3.Connection) -> dict[str, str]:
            rows = db.execute("SELECT name, value FROM settings WHERE user = ?", (str(user),))
            return dict(rows.fetchall())

        return await self._run(read)

    async def set_setting(self, user: UserKey, name: str, value: str) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?, ?)", (str(user), name, value))

        await self._run(write)

    async def _run(self, step: Callable[[sqlite3.Connection], _T], *, transaction: bool = True) -> _T:
        def work() -> _T:
            if not transaction:
                return step(getattr(self, "_db", None))  # pyright: ignore[reportArgumentType]
            # The connection's own context manager commits, or rolls back when the step raises.
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                return step(self._db)

        try:
            # Shielded: a caller that goes away must not leave a transaction half awaited.
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self._path}: {error}") from error


def _epoch(db: sqlite3.Connection, conversation: ConversationKey) -> tuple[int, int]:
    row = db.execute(
        "SELECT epoch, last_id FROM epochs WHERE conversation = ?", (str(conversation),)
    ).fetchone()
    return (0, 0) if row is None else (row[0], row[1])


def _set_epoch(db: sqlite3.Connection, conversation: ConversationKey, epoch: int, last_id: int) -> None:
    db.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?, ?)", (str(conversation), epoch, last_id))


def _conversations(db: sqlite3.Connection, user: UserKey) -> list[ConversationKey]:
    rows = db.execute("SELECT DISTINCT conversation FROM turns WHERE user = ? ORDER BY 1", (str(user),))
    return [ConversationKey.parse(row[0]) for row in rows]


def _turn(row: tuple[int, str, str, str, float]) -> Turn:
    return Turn(row[0], UserKey.parse(row[1]), row[2], row[3], row[4])
