"""Notes of plug-ins and tools in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Sequence

from glmbot.errors import BookFull, MessageGone
from glmbot.keys import UserKey
from glmbot.messages import Message
from glmbot.notes import MOST_NOTES, Note
from glmbot.store.notes import NOTES_AT_ONCE, StoredNote
from glmbot.store.sqlite_part import OPEN, SqlitePart

__all__ = ["SqliteNotes", "move_notes", "remove_notes"]

_FIELDS = "name, text, user, version"
_ROWS_AT_ONCE = 100
# The second half names the index: https://www.sqlite.org/partialindex.html#queries_using_partial_indexes
_OF_ONE = "user = ? AND user <> ''"


class SqliteNotes(SqlitePart):
    async def note(self, book: str, name: str) -> Note | None:
        query = f"SELECT {_FIELDS} FROM notes WHERE book = ? AND name = ?"
        row = await self._read(lambda db: db.execute(query, (book, name)).fetchone())
        return None if row is None else Note(*row)

    async def put_note(self, book: str, note: Note, version: int, *, asked: Message | None = None) -> bool:
        def write(db: sqlite3.Connection) -> bool:
            if asked is not None and not _is_open(db, asked):
                raise MessageGone(asked.conversation)
            this = (book, note.name)
            row = db.execute("SELECT version FROM notes WHERE book = ? AND name = ?", this).fetchone()
            if (0 if row is None else row[0]) != note.version:
                return False
            if not note.text:
                db.execute("DELETE FROM notes WHERE book = ? AND name = ?", this)
                return True
            if row is None:
                count = db.execute("SELECT COUNT(*) FROM notes WHERE book = ?", (book,)).fetchone()[0]
                if count >= MOST_NOTES:
                    raise BookFull(book)
            values = (book, note.name, note.text, note.user, version)
            db.execute(
                "INSERT OR REPLACE INTO notes (book, name, text, user, version) VALUES (?, ?, ?, ?, ?)",
                values,
            )
            return True

        return await self._run(write)

    async def notes(self, book: str, limit: int, after: str = "", upto: str = "") -> Sequence[Note]:
        query = (
            f"SELECT {_FIELDS} FROM notes WHERE book = ?1 AND name > ?2 AND (?3 = '' OR name <= ?3)"
            " ORDER BY name LIMIT ?4"
        )
        rows = await self._read(lambda db: db.execute(query, (book, after, upto, limit)).fetchall())
        return [Note(*row) for row in rows]

    async def notes_of(self, user: UserKey, book: str = "") -> Sequence[StoredNote]:
        query = (
            f"SELECT book, {_FIELDS} FROM notes WHERE {_OF_ONE} AND (?2 = '' OR book = ?2)"
            " ORDER BY book, name"
        )
        rows = await self._read(lambda db: db.execute(query, (str(user), book)).fetchall())
        return [StoredNote(each, Note(*row)) for each, *row in rows]

    async def all_notes(self) -> AsyncGenerator[StoredNote, None]:
        query = f"SELECT book, {_FIELDS} FROM notes WHERE (book, name) > (?, ?) ORDER BY book, name LIMIT ?"
        last = ("", "")
        while rows := await self._read(
            lambda db, at=last: db.execute(query, (*at, NOTES_AT_ONCE)).fetchall()
        ):
            for book, *row in rows:
                yield StoredNote(book, Note(*row))
            last = (rows[-1][0], rows[-1][1])


def _is_open(db: sqlite3.Connection, message: Message) -> bool:
    waits = f"SELECT 1 FROM inbox WHERE platform = ? AND update_id = ? AND {OPEN}"
    return db.execute(waits, (message.user.platform, message.update_id)).fetchone() is not None


def remove_notes(db: sqlite3.Connection, user: UserKey) -> int:
    """Some of a person's. Returns how many."""
    return db.execute(
        f"DELETE FROM notes WHERE (book, name) IN (SELECT book, name FROM notes WHERE {_OF_ONE} LIMIT ?)",
        (str(user), _ROWS_AT_ONCE),
    ).rowcount


def move_notes(db: sqlite3.Connection, old: UserKey, new: UserKey) -> None:
    db.execute(f"UPDATE notes SET user = ? WHERE {_OF_ONE}", (str(new), str(old)))
