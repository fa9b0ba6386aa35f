"""The embedded store: one SQLite file, each method one transaction in one worker thread.

Write-ahead log with synchronous=FULL, so what `accept` returned for survives a power cut
(https://www.sqlite.org/pragma.html#pragma_synchronous). secure_delete overwrites what /forget removes.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import sqlite3
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, TypeVar

from glmbot.errors import StoreError
from glmbot.messages import ChatKey, ConversationKey, Message, Unfinished, UserKey
from glmbot.store.base import (
    HOUR_S,
    Backlog,
    Claim,
    DeadLetter,
    ExportedConversation,
    StoredAnswer,
    StoredConversation,
    Turn,
    message_from_json,
    message_to_json,
)
from glmbot.store.ownership import owner_name

__all__ = ["SqliteStore"]

_T = TypeVar("_T")

# Each step makes a database of the version before it one of its own (PRAGMA user_version). What stands here was
# released and never changes again.
_MIGRATIONS = (
    """
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
""",
    """
ALTER TABLE inbox ADD COLUMN turn INTEGER;
ALTER TABLE turns ADD COLUMN parent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN ref TEXT NOT NULL DEFAULT '';
UPDATE turns SET parent = COALESCE(
    (SELECT MAX(id) FROM turns AS t WHERE t.conversation = turns.conversation AND t.id < turns.id), 0);
ALTER TABLE epochs ADD COLUMN head INTEGER NOT NULL DEFAULT 0;
UPDATE epochs SET head = COALESCE(
    (SELECT MAX(id) FROM turns WHERE turns.conversation = epochs.conversation), 0);
CREATE INDEX turns_at ON turns (at);
-- place: 0 is the question's message, the answer's messages count from 1.
CREATE TABLE anchors (
    conversation TEXT NOT NULL, ref TEXT NOT NULL, turn INTEGER NOT NULL, place INTEGER NOT NULL,
    PRIMARY KEY (conversation, ref)
) WITHOUT ROWID;
CREATE INDEX anchors_turn ON anchors (conversation, turn);
CREATE TRIGGER turn_gone AFTER DELETE ON turns BEGIN
    DELETE FROM anchors WHERE conversation = OLD.conversation AND turn = OLD.id;
END;
ALTER TABLE settings RENAME COLUMN user TO owner;
""",
    """
ALTER TABLE inbox ADD COLUMN conversation TEXT;
ALTER TABLE inbox ADD COLUMN dead TEXT;
ALTER TABLE inbox ADD COLUMN dead_at REAL;
UPDATE inbox SET conversation = json_extract(message, '$.conversation') WHERE message IS NOT NULL;
CREATE INDEX inbox_conversation ON inbox (conversation, arrival) WHERE message IS NOT NULL;
""",
    """
CREATE TABLE asked (
    owner TEXT NOT NULL,
    question TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (owner, question)
) WITHOUT ROWID;
""",
)
_OPEN = "message IS NOT NULL AND dead IS NULL"
_CLEARED = (
    "message = NULL, user = NULL, answer = NULL, turn = NULL, dead = NULL, conversation = NULL, marks = '{}'"
)
_TURN = "id, user, question, answer, at, parent, ref"


class SqliteStore:
    """See `glmbot.store.base.Store`."""

    def __init__(self, path: Path, *, update_ids_kept_s: float = 7 * 86400, turns_kept_s: float = 0) -> None:
        """Times in seconds; turns_kept_s 0 keeps turns for ever."""
        self._path = path
        self._update_ids_kept_s = update_ids_kept_s
        self._turns_kept_s = turns_kept_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self.owner = owner_name()
        self._lock: IO[bytes] | None = None
        self._announced: dict[str, dict[ConversationKey, None]] = defaultdict(dict)
        self._news = asyncio.Condition()
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
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            for number, migration in enumerate(_MIGRATIONS[version:], version + 1):
                self._db.executescript(f"BEGIN; {migration} PRAGMA user_version = {number}; COMMIT;")

        await self._run(connect, transaction=False)

    async def close(self) -> None:
        def disconnect(db: sqlite3.Connection) -> None:
            db.close()

        await self._run(disconnect, transaction=False)
        self._thread.shutdown()
        if self._lock is not None:
            self._lock.close()

    async def warnings(self) -> Sequence[str]:
        return []

    async def accept(self, message: Message, at: float, *, announce: bool = True) -> bool:
        def write(db: sqlite3.Connection) -> bool:
            db.execute(
                "DELETE FROM inbox WHERE message IS NULL AND accepted_at < ?", (at - self._update_ids_kept_s,)
            )
            if self._turns_kept_s:
                db.execute("DELETE FROM turns WHERE at < ?", (at - self._turns_kept_s,))
            cursor = db.execute(
                "INSERT OR IGNORE INTO inbox (platform, update_id, accepted_at, user, conversation, message)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    message.user.platform,
                    message.update_id,
                    at,
                    str(message.user),
                    str(message.conversation),
                    json.dumps(message_to_json(message)),
                ),
            )
            return cursor.rowcount == 1

        new = await self._run(write)
        if new and announce:
            await self._announce(message.conversation)
        return new

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE inbox SET marks = json_patch(marks, ?)"
                " WHERE platform = ? AND update_id = ? AND message IS NOT NULL",
                (json.dumps(dict(marks)), message.user.platform, message.update_id),
            )

        await self._run(write)

    async def delivered(self, message: Message, shown: Sequence[str] = ()) -> None:
        def write(db: sqlite3.Connection) -> None:
            update = (message.user.platform, message.update_id)
            row = db.execute("SELECT turn FROM inbox WHERE platform = ? AND update_id = ?", update).fetchone()
            if row is not None and row[0] is not None:
                turn = (str(message.conversation), row[0])
                if db.execute("SELECT 1 FROM turns WHERE conversation = ? AND id = ?", turn).fetchone():
                    for place, ref in enumerate(shown, 1):
                        _anchor(db, message.conversation, ref, row[0], place)
            db.execute(f"UPDATE inbox SET {_CLEARED} WHERE platform = ? AND update_id = ?", update)

        await self._run(write)

    async def unfinished(self, platform: str) -> Sequence[Unfinished]:
        def read(db: sqlite3.Connection) -> list[Unfinished]:
            rows = db.execute(
                f"SELECT message, marks FROM inbox WHERE platform = ? AND {_OPEN} ORDER BY arrival",
                (platform,),
            )
            return [_unfinished(row) for row in rows]

        return await self._run(read)

    async def set_aside(self, message: Message, reason: str, at: float) -> None:
        await self._run(
            lambda db: db.execute(
                f"UPDATE inbox SET dead = ?, dead_at = ? WHERE platform = ? AND update_id = ? AND {_OPEN}",
                (" ".join(reason.split()), at, message.user.platform, message.update_id),
            )
        )

    async def dead_letters(self) -> Sequence[DeadLetter]:
        def read(db: sqlite3.Connection) -> list[DeadLetter]:
            rows = db.execute(
                "SELECT message, dead, dead_at FROM inbox WHERE dead IS NOT NULL ORDER BY dead_at, arrival"
            )
            return [DeadLetter(message_from_json(json.loads(row[0])), row[1], row[2]) for row in rows]

        return await self._run(read)

    async def replay(self, message: Message) -> bool:
        replayed = await self._run(
            lambda db: (
                db.execute(
                    "UPDATE inbox SET dead = NULL, marks = json_remove(marks, '$.tries')"
                    " WHERE platform = ? AND update_id = ? AND dead IS NOT NULL",
                    (message.user.platform, message.update_id),
                ).rowcount
            )
        )
        if replayed:
            await self._announce(message.conversation)
        return bool(replayed)

    async def drop(self, message: Message) -> bool:
        dropped = await self._run(
            lambda db: (
                db.execute(
                    f"UPDATE inbox SET {_CLEARED} WHERE platform = ? AND update_id = ? AND dead IS NOT NULL",
                    (message.user.platform, message.update_id),
                ).rowcount
            )
        )
        return bool(dropped)

    @property
    def journaled(self) -> int:
        return 0

    async def backlog(self) -> Backlog:
        def read(db: sqlite3.Connection) -> Backlog:
            waiting = db.execute(f"SELECT COUNT(DISTINCT conversation) FROM inbox WHERE {_OPEN}").fetchone()
            dead = db.execute("SELECT COUNT(*) FROM inbox WHERE dead IS NOT NULL").fetchone()
            return Backlog(waiting[0], dead[0])

        return await self._run(read)

    # One process has the file, so claims need not outlive it.

    async def waiting(self, platform: str, wait_s: float) -> Sequence[ConversationKey]:
        self._be_the_only_one()
        announced = self._announced[platform]
        async with self._news:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._news.wait_for(lambda: announced)
        found = list(announced)
        announced.clear()
        return found

    async def open_conversations(self, platform: str) -> Sequence[ConversationKey]:
        self._be_the_only_one()
        rows = await self._run(
            lambda db: db.execute(
                f"SELECT conversation FROM inbox WHERE platform = ? AND {_OPEN}"
                " GROUP BY conversation ORDER BY MIN(arrival)",
                (platform,),
            ).fetchall()
        )
        return [ConversationKey.parse(row[0]) for row in rows]

    async def claim(self, conversation: ConversationKey, lasts_s: float) -> Claim:
        def read(db: sqlite3.Connection) -> list[Unfinished]:
            rows = db.execute(
                f"SELECT message, marks FROM inbox WHERE conversation = ? AND {_OPEN} ORDER BY arrival",
                (str(conversation),),
            )
            return [_unfinished(row) for row in rows]

        return Claim(self.owner, await self._run(read))

    async def leave_to(self, conversation: ConversationKey, owner: str) -> None:
        pass

    async def release(self, conversation: ConversationKey) -> None:
        await self._announce(conversation)

    async def keep(self) -> None:
        pass

    async def lease(self, name: str, lasts_s: float) -> str:
        self._be_the_only_one()
        return self.owner

    async def end_lease(self, name: str) -> None:
        pass

    async def signal(self, words: str) -> None:
        pass

    async def signals(self, wait_s: float) -> Sequence[str]:
        await asyncio.sleep(wait_s)
        return []

    async def _announce(self, conversation: ConversationKey) -> None:
        async with self._news:
            self._announced[conversation.platform][conversation] = None
            self._news.notify_all()

    def _be_the_only_one(self) -> None:
        """Two processes that answer from one file would answer everything twice. Raises StoreError."""
        if self._lock is not None:
            return
        path = self._path.with_name(f"{self._path.name}.lock")
        lock = path.open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise StoreError(
                f"{self._path}: another glmbot answers from this file;"
                ' several processes need [store] kind = "redis"'
            ) from error
        self._lock = lock

    async def answer(self, message: Message) -> StoredAnswer | None:
        def read(db: sqlite3.Connection) -> StoredAnswer | None:
            row = db.execute(
                "SELECT answer FROM inbox WHERE platform = ? AND update_id = ? AND answer IS NOT NULL",
                (message.user.platform, message.update_id),
            ).fetchone()
            return None if row is None else StoredAnswer(**json.loads(row[0]))

        return await self._run(read)

    async def epoch(self, conversation: ConversationKey) -> int:
        return (await self._run(lambda db: _counters(db, conversation)))[0]

    async def last_turns(
        self, conversation: ConversationKey, limit: int, *, upto: int | None = None
    ) -> Sequence[Turn]:
        def read(db: sqlite3.Connection) -> list[Turn]:
            end = _counters(db, conversation)[2] if upto is None else upto
            rows = db.execute(
                "WITH RECURSIVE branch (id, depth) AS ("
                " SELECT ?2, 1 UNION ALL SELECT turns.parent, depth + 1 FROM turns JOIN branch"
                " ON turns.id = branch.id WHERE turns.conversation = ?1 AND depth < ?3)"
                f" SELECT {_TURN} FROM turns WHERE conversation = ?1 AND id IN (SELECT id FROM branch)"
                " ORDER BY id",
                (str(conversation), end, limit),
            )
            return [_turn(row) for row in rows] if limit > 0 else []

        return await self._run(read)

    async def turn_of(self, conversation: ConversationKey, ref: str) -> Turn | None:
        def read(db: sqlite3.Connection) -> Turn | None:
            row = db.execute(
                f"SELECT {_TURN} FROM turns WHERE conversation = ?1"
                " AND id = (SELECT turn FROM anchors WHERE conversation = ?1 AND ref = ?2)",
                (str(conversation), ref),
            ).fetchone()
            return None if row is None else _turn(row)

        return await self._run(read)

    async def shown(self, conversation: ConversationKey, turn: int) -> Sequence[str]:
        def read(db: sqlite3.Connection) -> list[str]:
            rows = db.execute(
                "SELECT ref FROM anchors WHERE conversation = ? AND turn = ? AND place > 0 ORDER BY place",
                (str(conversation), turn),
            )
            return [str(row[0]) for row in rows]

        return await self._run(read)

    async def finish(
        self,
        message: Message,
        answer: StoredAnswer,
        *,
        question: str | None = None,
        epoch: int = 0,
        at: float = 0.0,
        parent: int | None = None,
        ref: str = "",
        turn_answer: str | None = None,
    ) -> bool:
        def write(db: sqlite3.Connection) -> bool:
            cursor = db.execute(
                "UPDATE inbox SET answer = ?"
                " WHERE platform = ? AND update_id = ? AND message IS NOT NULL AND answer IS NULL",
                (json.dumps(asdict(answer)), message.user.platform, message.update_id),
            )
            now, last_id, head = _counters(db, message.conversation)
            if question is None or cursor.rowcount != 1 or now != epoch:
                return False
            text = answer.text if turn_answer is None else turn_answer
            before = head if parent is None else parent
            turn = Turn(last_id + 1, message.user, question, text, at, before, ref)
            _insert_turn(db, message.conversation, turn)
            _set_counters(db, message.conversation, epoch, turn.id, turn.id)
            db.execute(
                "UPDATE inbox SET turn = ? WHERE platform = ? AND update_id = ?",
                (turn.id, message.user.platform, message.update_id),
            )
            return True

        return await self._run(write)

    async def reset(self, conversation: ConversationKey) -> int:
        def write(db: sqlite3.Connection) -> int:
            epoch, last_id, _ = _counters(db, conversation)
            _set_counters(db, conversation, epoch + 1, last_id, 0)
            return db.execute("DELETE FROM turns WHERE conversation = ?", (str(conversation),)).rowcount

        return await self._run(write)

    async def remove_turn(self, conversation: ConversationKey, turn: int) -> None:
        await self._run(lambda db: _remove_turn(db, conversation, turn))

    async def conversations(self, user: UserKey) -> Sequence[ConversationKey]:
        return await self._run(lambda db: _conversations(db, user))

    async def export(self, user: UserKey) -> Sequence[ExportedConversation]:
        def read(db: sqlite3.Connection) -> list[ExportedConversation]:
            found: list[ExportedConversation] = []
            for conversation in _conversations(db, user):
                rows = db.execute(
                    f"SELECT {_TURN} FROM turns WHERE conversation = ? AND user = ? ORDER BY id",
                    (str(conversation), str(user)),
                )
                found.append(ExportedConversation(conversation, [_turn(row) for row in rows]))
            return found

        return await self._run(read)

    async def forget(self, user: UserKey) -> int:
        def write(db: sqlite3.Connection) -> int:
            # An answer in progress can't come back: `finish` needs the inbox message that is cleared here.
            turns = db.execute("SELECT conversation, id FROM turns WHERE user = ?", (str(user),)).fetchall()
            for conversation, turn in turns:
                _remove_turn(db, ConversationKey.parse(conversation), turn)
            private = str(ChatKey(user.platform, user.id))
            db.execute("DELETE FROM settings WHERE owner IN (?, ?)", (str(user), private))
            db.execute("DELETE FROM asked WHERE owner IN (?, ?)", (str(user), private))
            db.execute(f"UPDATE inbox SET {_CLEARED} WHERE user = ?", (str(user),))
            # The last row of a private conversation is its counter, whose key holds the person's id.
            db.execute(
                "DELETE FROM epochs WHERE conversation LIKE ? OR conversation LIKE ?",
                (f"{user.platform}:%:{user.id}:%", f"{user.platform}:{user.id}:0:%"),
            )
            return len(turns)

        removed = await self._run(write)
        # The write-ahead log still holds the old pages until it is folded in.
        await self._run(
            lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall(), transaction=False
        )
        return removed

    async def recent(self, since: float) -> Sequence[ConversationKey]:
        def read(db: sqlite3.Connection) -> list[ConversationKey]:
            rows = db.execute("SELECT DISTINCT conversation FROM turns WHERE at >= ? ORDER BY 1", (since,))
            return [ConversationKey.parse(row[0]) for row in rows]

        return await self._run(read)

    async def count(self, question: str, limits: Mapping[str, int], at: float) -> float:
        def write(db: sqlite3.Connection) -> float:
            db.execute("DELETE FROM asked WHERE at <= ?", (at - HOUR_S,))
            waits = [0.0]
            for owner, limit in limits.items():
                known = "SELECT 1 FROM asked WHERE owner = ? AND question = ?"
                if db.execute(known, (owner, question)).fetchone():
                    return 0.0
                # The question that has to be an hour old before another one is within the limit.
                last = "SELECT at FROM asked WHERE owner = ? ORDER BY at DESC LIMIT 1 OFFSET ?"
                row = db.execute(last, (owner, limit - 1)).fetchone() if limit else None
                if row is not None:
                    waits.append(row[0] + HOUR_S - at)
            if (wait := max(waits)) > 0:
                return wait
            db.executemany("INSERT INTO asked VALUES (?, ?, ?)", [(owner, question, at) for owner in limits])
            return 0.0

        return await self._run(write)

    async def counted(self, owner: str, at: float) -> int:
        def read(db: sqlite3.Connection) -> int:
            row = db.execute("SELECT COUNT(*) FROM asked WHERE owner = ? AND at > ?", (owner, at - HOUR_S))
            return int(row.fetchone()[0])

        return await self._run(read)

    async def settings(self, owner: UserKey | ChatKey) -> Mapping[str, str]:
        def read(db: sqlite3.Connection) -> dict[str, str]:
            rows = db.execute("SELECT name, value FROM settings WHERE owner = ?", (str(owner),))
            return dict(rows.fetchall())

        return await self._run(read)

    async def set_setting(self, owner: UserKey | ChatKey, name: str, value: str) -> None:
        def write(db: sqlite3.Connection) -> None:
            if value:
                db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?, ?)", (str(owner), name, value))
            else:
                db.execute("DELETE FROM settings WHERE owner = ? AND name = ?", (str(owner), name))

        await self._run(write)

    async def all_settings(self) -> Mapping[str, Mapping[str, str]]:
        def read(db: sqlite3.Connection) -> dict[str, dict[str, str]]:
            found: dict[str, dict[str, str]] = defaultdict(dict)
            for owner, name, value in db.execute("SELECT owner, name, value FROM settings ORDER BY 1, 2"):
                found[owner][name] = value
            return dict(found)

        return await self._run(read)

    async def everything(self) -> AsyncGenerator[StoredConversation, None]:
        names = await self._run(
            lambda db: db.execute("SELECT DISTINCT conversation FROM turns ORDER BY 1").fetchall()
        )
        for (name,) in names:
            conversation = ConversationKey.parse(name)

            def read(
                db: sqlite3.Connection, conversation: ConversationKey = conversation
            ) -> StoredConversation:
                rows = db.execute(
                    f"SELECT {_TURN} FROM turns WHERE conversation = ? ORDER BY id",
                    (str(conversation),),
                )
                turns = [_turn(row) for row in rows]
                return StoredConversation(conversation, turns, _counters(db, conversation)[2])

            yield await self._run(read)

    async def put(self, stored: StoredConversation) -> bool:
        def write(db: sqlite3.Connection) -> bool:
            name = (str(stored.conversation),)
            if db.execute("SELECT 1 FROM turns WHERE conversation = ?", name).fetchone():
                return False
            for turn in stored.turns:
                _insert_turn(db, stored.conversation, turn)
            epoch, last_id, _ = _counters(db, stored.conversation)
            last_id = max(last_id, *(turn.id for turn in stored.turns))
            _set_counters(db, stored.conversation, epoch + 1, last_id, stored.head)
            return True

        return bool(stored.turns) and await self._run(write)

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


def _counters(db: sqlite3.Connection, conversation: ConversationKey) -> tuple[int, int, int]:
    """Epoch, last turn id given out, head."""
    row = db.execute(
        "SELECT epoch, last_id, head FROM epochs WHERE conversation = ?", (str(conversation),)
    ).fetchone()
    return (0, 0, 0) if row is None else (row[0], row[1], row[2])


def _set_counters(
    db: sqlite3.Connection, conversation: ConversationKey, epoch: int, last_id: int, head: int
) -> None:
    db.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?)", (str(conversation), epoch, last_id, head))


def _insert_turn(db: sqlite3.Connection, conversation: ConversationKey, turn: Turn) -> None:
    fields = (turn.id, str(turn.user), turn.question, turn.answer, turn.at, turn.parent, turn.ref)
    db.execute(
        f"INSERT INTO turns (conversation, {_TURN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (str(conversation), *fields),
    )
    if turn.ref:
        _anchor(db, conversation, turn.ref, turn.id, 0)


def _anchor(db: sqlite3.Connection, conversation: ConversationKey, ref: str, turn: int, place: int) -> None:
    db.execute("INSERT OR REPLACE INTO anchors VALUES (?, ?, ?, ?)", (str(conversation), ref, turn, place))


def _remove_turn(db: sqlite3.Connection, conversation: ConversationKey, turn: int) -> None:
    """A head that was removed gives way to its parent."""
    name = str(conversation)
    row = db.execute("SELECT parent FROM turns WHERE conversation = ? AND id = ?", (name, turn)).fetchone()
    if row is None:
        return
    db.execute("UPDATE turns SET parent = ? WHERE conversation = ? AND parent = ?", (row[0], name, turn))
    db.execute("UPDATE epochs SET head = ? WHERE conversation = ? AND head = ?", (row[0], name, turn))
    db.execute("DELETE FROM turns WHERE conversation = ? AND id = ?", (name, turn))


def _conversations(db: sqlite3.Connection, user: UserKey) -> list[ConversationKey]:
    rows = db.execute("SELECT DISTINCT conversation FROM turns WHERE user = ? ORDER BY 1", (str(user),))
    return [ConversationKey.parse(row[0]) for row in rows]


def _unfinished(row: tuple[str, str]) -> Unfinished:
    return Unfinished(message_from_json(json.loads(row[0])), json.loads(row[1]))


def _turn(row: tuple[int, str, str, str, float, int, str]) -> Turn:
    return Turn(row[0], UserKey.parse(row[1]), *row[2:])
