"""A chat that has another number now, or a person: everything of the old one goes to the new one, in small steps.

Turns get the ids that follow those of the new conversation, by a `shift` that is kept, so that a step that is
repeated does the same. What the new conversation has already follows what came from the old one.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from glmbot.keys import ChatKey, ConversationKey, UserKey, owner_from
from glmbot.store.message_json import kept_json, message_from_json, message_to_json
from glmbot.store.sqlite_blobs import move_references
from glmbot.store.sqlite_connection import SqliteConnection
from glmbot.store.sqlite_notes import move_notes
from glmbot.store.sqlite_removal import reset
from glmbot.store.sqlite_turns import conversation_of, counters, names_in, note_place, places, set_counters
from glmbot.store.ways import Move, moved_conversation

__all__ = ["followed", "move", "old_conversations", "pending", "shift_of", "under_way"]

_AT_ONCE = 40
_MOVES_AT_ONCE = 5
_LOOKED_AT_EVERY_S = 60.0
_FOLLOWED_S = 3600.0
# Ids kept free for answers that end in the old conversation while, or after, it is moved.
_LATE = 1000


async def move(
    connection: SqliteConnection,
    old: UserKey | ChatKey,
    new: UserKey | ChatKey,
    busy: Callable[[ConversationKey], bool],
    claiming: asyncio.Lock,
) -> list[ConversationKey]:
    """Returns the conversations that have something to be answered now. `busy`: what waits there stays there; that
    changes with the lock `claiming` alone.

    Raises StoreError.
    """
    await connection.write(lambda db: _move_settings(db, old, new))
    announced: list[ConversationKey] = []
    for conversation in await connection.read(lambda db: old_conversations(db, old)):
        target = moved_conversation(conversation, old, new)
        if target != conversation:
            # What was to be deleted must not come along.
            await reset(connection, str(conversation))
            await connection.write(lambda db, c=conversation, t=target: _begin(db, str(c), str(t)))
        moving = _Moving(conversation, target, old, new)
        while await connection.write(moving.turns) or await connection.write(moving.files):
            pass
        while True:
            async with claiming:
                if busy(conversation) or not await connection.write(moving.messages):
                    break
            if target not in announced:
                announced.append(target)
        await connection.write(moving.end)
    return announced


def old_conversations(db: sqlite3.Connection, old: UserKey | ChatKey) -> list[ConversationKey]:
    """Where there may be something of `old`."""
    if isinstance(old, UserKey):
        names = places(db, old)
    else:
        inside = "conversation >= ?1 AND conversation < ?2"
        rows = db.execute(
            f"SELECT conversation FROM epochs WHERE {inside} UNION"
            f" SELECT conversation FROM inbox WHERE {inside} AND message IS NOT NULL UNION"
            f" SELECT conversation FROM blob_refs WHERE {inside} ORDER BY 1",
            names_in(old),
        )
        names = [row[0] for row in rows]
    return [found for name in names if (found := conversation_of(name)) is not None]


def shift_of(db: sqlite3.Connection, conversation: str) -> tuple[str, int, int] | None:
    """Where the turns of a conversation went, what is added to their ids, and the last id with room there."""
    return db.execute("SELECT new, shift, upto FROM shifts WHERE old = ?", (conversation,)).fetchone()


def under_way(db: sqlite3.Connection) -> list[Move]:
    """All moves of late, some of which may still be going on."""
    return _moves(db.execute("SELECT old, new FROM moves").fetchall())


def pending(db: sqlite3.Connection, now: float) -> list[Move]:
    """Moves of late that were not looked at within the last minute: some answers may have ended there since."""
    rows = db.execute(
        "SELECT old, new FROM moves WHERE followed <= ? OR followed > ? ORDER BY followed LIMIT ?",
        (now - _LOOKED_AT_EVERY_S, now, _MOVES_AT_ONCE),
    ).fetchall()
    return _moves(rows)


def _moves(rows: Sequence[tuple[str, str]]) -> list[Move]:
    found: list[Move] = []
    for old, new in rows:
        # One that is damaged is nobody's.
        with suppress(ValueError):
            found.append((owner_from(old), owner_from(new)))
    return found


def followed(db: sqlite3.Connection, old: UserKey | ChatKey, now: float) -> None:
    """It was looked at; after a while nothing more is expected of the old one, and nothing tells of it."""
    row = db.execute("SELECT at FROM moves WHERE old = ?", (str(old),)).fetchone()
    if row is None or abs(now - row[0]) < _FOLLOWED_S:
        db.execute("UPDATE moves SET followed = ? WHERE old = ?", (now, str(old)))
        return
    for conversation in old_conversations(db, old):
        if db.execute("SELECT 1 FROM turns WHERE conversation = ?", (str(conversation),)).fetchone() is None:
            db.execute("DELETE FROM epochs WHERE conversation = ?", (str(conversation),))
            db.execute("DELETE FROM shifts WHERE old = ?", (str(conversation),))
    db.execute("DELETE FROM moves WHERE old = ?", (str(old),))


def _move_settings(db: sqlite3.Connection, old: UserKey | ChatKey, new: UserKey | ChatKey) -> None:
    """What the new owner has already stays as it is."""
    owners = [(str(old), str(new))]
    if isinstance(old, UserKey) and isinstance(new, UserKey):
        move_notes(db, old, new)
        start = f"{old}:chat:"
        private = db.execute(
            "SELECT DISTINCT owner FROM settings WHERE owner >= ? AND owner < ?", (start, f"{old}:chat;")
        ).fetchall()
        owners += [(owner, f"{new}:chat:{owner.removeprefix(start)}") for (owner,) in private]
    for before, after in owners:
        for table in ("settings", "asked"):
            db.execute(f"UPDATE OR IGNORE {table} SET owner = ? WHERE owner = ?", (after, before))
            db.execute(f"DELETE FROM {table} WHERE owner = ?", (before,))


def _begin(db: sqlite3.Connection, old: str, new: str) -> None:
    """Keep ids free in the new conversation, and have it follow the old one."""
    epoch, last_id, head = counters(db, old)
    if db.execute("SELECT 1 FROM turns WHERE conversation = ? LIMIT 1", (old,)).fetchone() is None:
        return
    known = db.execute("SELECT new, upto FROM shifts WHERE old = ?", (old,)).fetchone()
    if known is not None and known[0] == new and last_id <= known[1]:
        return
    now, shift, new_head = counters(db, new)
    upto = last_id + _LATE
    db.execute("INSERT OR REPLACE INTO shifts VALUES (?, ?, ?, ?)", (old, new, shift, upto))
    if head and new_head:
        db.execute("UPDATE turns SET parent = ? WHERE conversation = ? AND parent = 0", (head + shift, new))
    set_counters(db, new, max(epoch, now), shift + upto, new_head or (head and head + shift))


class _Moving:
    def __init__(
        self,
        conversation: ConversationKey,
        target: ConversationKey,
        old: UserKey | ChatKey,
        new: UserKey | ChatKey,
    ) -> None:
        self._old, self._new = str(conversation), str(target)
        self._target = target
        self._whose = (str(old), str(new)) if isinstance(old, UserKey) and isinstance(new, UserKey) else None

    def turns(self, db: sqlite3.Connection) -> bool:
        """Move some. False when there are none (any more)."""
        if self._old == self._new:
            return self._rename(db)
        rows = db.execute(
            "SELECT id, parent, user FROM turns WHERE conversation = ? ORDER BY id LIMIT ?",
            (self._old, _AT_ONCE),
        ).fetchall()
        moved = shift_of(db, self._old)
        if not rows or moved is None:
            return False
        shift, begun = moved[1], moved[2] - _LATE
        for number, parent, user in rows:
            user = self._whose[1] if self._whose is not None and user == self._whose[0] else user
            db.execute(
                "UPDATE turns SET conversation = ?, id = ?, parent = ?, user = ?"
                " WHERE conversation = ? AND id = ?",
                (self._new, number + shift, parent and parent + shift, user, self._old, number),
            )
            db.execute(
                "UPDATE OR REPLACE anchors SET conversation = ?, turn = ? WHERE conversation = ? AND turn = ?",
                (self._new, number + shift, self._old, number),
            )
            # An answer that came late: it is the newest where nobody has gone on meanwhile.
            if number > begun and parent > 0:
                db.execute(
                    "UPDATE epochs SET head = ? WHERE conversation = ? AND head = ?",
                    (number + shift, self._new, parent + shift),
                )
        return True

    def messages(self, db: sqlite3.Connection) -> bool:
        """Move some of what waits to be answered, or was set aside. False when there is none (any more)."""
        if self._old == self._new and self._whose is None:
            return False
        before, after = self._whose or ("", "")
        rows = db.execute(
            "SELECT arrival, message, turn, user, accepted_at FROM inbox WHERE conversation = ?1"
            " AND message IS NOT NULL AND (?2 = '' OR user = ?2) ORDER BY arrival LIMIT ?3",
            (self._old, before if self._old == self._new else "", _AT_ONCE),
        ).fetchall()
        moved = shift_of(db, self._old)
        for arrival, text, turn, user, at in rows:
            if turn is not None and moved is not None:
                turn += moved[1]
            user = after if self._whose is not None and user == before else user
            db.execute(
                "UPDATE inbox SET conversation = ?, user = ?, message = ?, turn = ? WHERE arrival = ?",
                (self._new, user, self._rewritten(text, user), turn, arrival),
            )
            note_place(db, user, self._new, at)
        return bool(rows)

    def files(self, db: sqlite3.Connection) -> bool:
        """Move some. False when there are none (any more)."""
        return move_references(db, self._old, self._new, self._whose) > 0

    def end(self, db: sqlite3.Connection) -> None:
        """Leave no mention of the old conversation that nothing is left in."""
        whose = self._whose[0] if self._whose is not None else None
        if self._old == self._new:
            db.execute(
                "DELETE FROM places WHERE conversation = ? AND user = ? AND turns <= 0", (self._old, whose)
            )
            return
        left = (
            "EXISTS (SELECT 1 FROM turns WHERE conversation = ?1)"
            " OR EXISTS (SELECT 1 FROM inbox WHERE conversation = ?1 AND message IS NOT NULL)"
        )
        if db.execute(f"SELECT {left}", (self._old,)).fetchone()[0]:
            return
        db.execute("DELETE FROM places WHERE conversation = ? AND turns <= 0", (self._old,))

    def _rename(self, db: sqlite3.Connection) -> bool:
        """A conversation of several people, one of whom has another number."""
        if self._whose is None:
            return False
        old, new = self._whose
        rows = db.execute(
            "SELECT id FROM turns WHERE user = ? AND conversation = ? LIMIT ?", (old, self._old, _AT_ONCE)
        ).fetchall()
        for (number,) in rows:
            db.execute(
                "UPDATE turns SET user = ? WHERE conversation = ? AND id = ?", (new, self._old, number)
            )
        return bool(rows)

    def _rewritten(self, text: str, user: str) -> str:
        """The message as of its new conversation. One that can't be read stays as it is: whoever meets it sets it
        aside."""
        try:
            message = message_from_json(kept_json(text))
            moved = replace(message, conversation=self._target, user=UserKey.parse(user))
        except ValueError:
            return text
        return json.dumps(message_to_json(moved))
