"""What is deleted from SQLite a little at a time: who wants to be forgotten, and what has had its time."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from glmbot.keys import ConversationKey, UserKey
from glmbot.store.base import HOUR_S
from glmbot.store.private_chats import is_alone
from glmbot.store.sqlite_blobs import references_left, remove_before_reset, remove_references
from glmbot.store.sqlite_connection import SqliteConnection
from glmbot.store.sqlite_notes import remove_notes
from glmbot.store.sqlite_turns import counters, remove_turn, set_counters

__all__ = ["CLEARED", "begin_reset", "expire", "forget", "reset", "to_forget", "to_reset"]

CLEARED = (
    "message = NULL, user = NULL, answer = NULL, turn = NULL, dead = NULL, conversation = NULL, marks = '{}'"
)
# So little that who waits for it does not notice.
_TURNS_AT_ONCE = 20
_HELD_AT_MOST_S = 0.002
_PAUSE_S = 0.002
_ROWS_AT_ONCE = 100


async def forget(
    connection: SqliteConnection, numbers: Sequence[UserKey], erase: Callable[[], Awaitable[None]]
) -> int:
    """See `Removal.forget`: one person, by all numbers. What is begun is finished by `to_forget` and the next
    process. `erase` deletes contents of files that nobody refers to any more."""
    await connection.write(
        lambda db: db.executemany(
            "INSERT OR IGNORE INTO forgetting VALUES (?)", [(str(number),) for number in numbers]
        )
    )
    removed = sum([await _forget(connection, number) for number in numbers])
    await erase()
    await connection.erase_log()
    return removed


async def _forget(connection: SqliteConnection, user: UserKey) -> int:
    removed = 0
    while True:
        # An answer in progress can't come back: `finish` needs the inbox message that is cleared here.
        while await connection.write(lambda db: _clear_inbox(db, user), durable=False):
            pass
        while found := await connection.write(lambda db: _remove_turns(db, user), durable=False):
            removed += found
            await asyncio.sleep(_PAUSE_S)
        while await connection.write(lambda db: remove_references(db, user), durable=False):
            pass
        while await connection.write(lambda db: remove_notes(db, user), durable=False):
            pass
        while await connection.write(lambda db: _clear_settings(db, user), durable=False):
            pass
        while await connection.write(lambda db: _clear_places(db, user), durable=False):
            pass
        if await connection.write(lambda db: _end(db, user)):
            return removed


def to_forget(db: sqlite3.Connection) -> UserKey | None:
    """Somebody whose wish was not carried out to the end."""
    for (user,) in db.execute("SELECT user FROM forgetting LIMIT 100"):
        # One that is damaged is nobody.
        with suppress(ValueError):
            return UserKey.parse(user)
    return None


def expire(db: sqlite3.Connection, update_ids_before: float, turns_before: float | None, now: float) -> bool:
    """Delete some of what is older than these times, and counts of questions that count no more.

    True when there was something."""
    changes = db.total_changes
    db.execute(
        "DELETE FROM inbox WHERE arrival IN (SELECT arrival FROM inbox"
        " WHERE message IS NULL AND accepted_at < ? ORDER BY accepted_at LIMIT ?)",
        (update_ids_before, _ROWS_AT_ONCE),
    )
    # The clock may have gone back: what was asked in the future is not of the last hour either.
    for old in ("at <= ?", "at > ?"):
        db.execute(
            "DELETE FROM asked WHERE (owner, question) IN"
            f" (SELECT owner, question FROM asked WHERE {old} LIMIT {_ROWS_AT_ONCE})",
            (now - HOUR_S if "<" in old else now + HOUR_S,),
        )
    if turns_before is not None:
        rows = db.execute(
            "SELECT conversation, id FROM turns WHERE at < ? ORDER BY at LIMIT ?",
            (turns_before, _TURNS_AT_ONCE),
        ).fetchall()
        _remove_some(db, rows)
    return db.total_changes > changes


def begin_reset(db: sqlite3.Connection, conversation: str) -> None:
    """From now on nothing of it is found from its head, and what is asked has a higher id."""
    epoch, last_id, _ = counters(db, conversation)
    set_counters(db, conversation, epoch + 1, last_id, 0)
    db.execute(
        "INSERT OR REPLACE INTO resetting VALUES (?, ?, COALESCE((SELECT MAX(seq) FROM blob_refs), 0))",
        (conversation, last_id),
    )


async def reset(connection: SqliteConnection, conversation: str) -> int:
    """Remove what was said before. Returns how many turns went."""
    removed = 0
    while found := await connection.write(lambda db: _remove_reset(db, conversation), durable=False):
        removed += found
        await asyncio.sleep(_PAUSE_S)
    now = time.time()
    while await connection.write(lambda db: remove_before_reset(db, conversation, now), durable=False):
        pass
    await connection.write(
        lambda db: db.execute("DELETE FROM resetting WHERE conversation = ?", (conversation,)), durable=False
    )
    return removed


def to_reset(db: sqlite3.Connection) -> list[str]:
    """Conversations whose reset was not carried out to the end."""
    return [str(row[0]) for row in db.execute("SELECT conversation FROM resetting LIMIT 10")]


def _remove_reset(db: sqlite3.Connection, conversation: str) -> int:
    rows = db.execute(
        "SELECT id FROM turns WHERE conversation = ?1"
        " AND id <= (SELECT upto FROM resetting WHERE conversation = ?1) ORDER BY id LIMIT ?2",
        (conversation, _TURNS_AT_ONCE),
    ).fetchall()
    return _remove_some(db, [(conversation, turn) for (turn,) in rows])


def _clear_inbox(db: sqlite3.Connection, user: UserKey) -> int:
    return db.execute(
        f"UPDATE inbox SET {CLEARED} WHERE arrival IN (SELECT arrival FROM inbox WHERE user = ? LIMIT ?)",
        (str(user), _ROWS_AT_ONCE),
    ).rowcount


def _remove_turns(db: sqlite3.Connection, user: UserKey) -> int:
    rows = db.execute(
        "SELECT conversation, id FROM turns WHERE user = ? ORDER BY conversation, at LIMIT ?",
        (str(user), _TURNS_AT_ONCE),
    ).fetchall()
    return _remove_some(db, rows)


def _remove_some(db: sqlite3.Connection, turns: Sequence[tuple[str, int]]) -> int:
    """As many as can be removed before somebody would notice. Returns how many."""
    until = time.perf_counter() + _HELD_AT_MOST_S
    for done, (conversation, turn) in enumerate(turns, 1):
        remove_turn(db, conversation, turn)
        if time.perf_counter() > until:
            return done
    return len(turns)


def _clear_settings(db: sqlite3.Connection, user: UserKey) -> int:
    """Their own, and those of their private chats."""
    gone = 0
    for table, name in (("settings", "name"), ("asked", "question")):
        inside = "owner = ?1 OR (owner >= ?1 || ':chat:' AND owner < ?1 || ':chat;')"
        gone += db.execute(
            f"DELETE FROM {table} WHERE (owner, {name}) IN"
            f" (SELECT owner, {name} FROM {table} WHERE {inside} LIMIT {_ROWS_AT_ONCE})",
            (str(user),),
        ).rowcount
    return gone


def _clear_places(db: sqlite3.Connection, user: UserKey) -> int:
    rows = db.execute(
        "SELECT conversation FROM places WHERE user = ? LIMIT ?", (str(user), _ROWS_AT_ONCE)
    ).fetchall()
    for (conversation,) in rows:
        db.execute("DELETE FROM places WHERE user = ? AND conversation = ?", (str(user), conversation))
        try:
            alone = is_alone(ConversationKey.parse(conversation), user)
        except ValueError:
            alone = False
        if alone:
            # The last row of a private conversation is its counter, whose key holds the person's id.
            for table in ("epochs", "resetting"):
                db.execute(f"DELETE FROM {table} WHERE conversation = ?", (conversation,))
            db.execute("DELETE FROM shifts WHERE old = ?1 OR new = ?1", (conversation,))
    return len(rows)


def _end(db: sqlite3.Connection, user: UserKey) -> bool:
    """False when something was written meanwhile."""
    for table in ("turns", "inbox", "places"):
        if db.execute(f"SELECT 1 FROM {table} WHERE user = ? LIMIT 1", (str(user),)).fetchone() is not None:
            return False
    if references_left(db, user) or remove_notes(db, user) or _clear_settings(db, user):
        return False
    db.execute("DELETE FROM moves WHERE old = ?1 OR new = ?1", (str(user),))
    db.execute("DELETE FROM forgetting WHERE user = ?", (str(user),))
    return True
