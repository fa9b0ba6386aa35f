"""What is done to histories within one transaction of SQLite; the rows, and what they become."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glmbot.keys import ChatKey, ConversationKey, UserKey, in_chat
from glmbot.store.records import Turn

__all__ = [
    "TURN",
    "anchor",
    "conversation_of",
    "counters",
    "followers",
    "insert_turn",
    "lead",
    "names_in",
    "note_place",
    "places",
    "remove_turn",
    "set_counters",
    "turns_of",
]

_log = logging.getLogger(__name__)

_MOST_FOLLOWERS = 5000

TURN = "id, user, question, answer, at, parent, ref, thought, parts"


def counters(db: sqlite3.Connection, conversation: str) -> tuple[int, int, int]:
    """Epoch, last turn id given out, head."""
    row = db.execute(
        "SELECT epoch, last_id, head FROM epochs WHERE conversation = ?", (conversation,)
    ).fetchone()
    return (0, 0, 0) if row is None else (row[0], row[1], row[2])


def set_counters(db: sqlite3.Connection, conversation: str, epoch: int, last_id: int, head: int) -> None:
    db.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?)", (conversation, epoch, last_id, head))


def insert_turn(db: sqlite3.Connection, conversation: str, turn: Turn) -> None:
    said = (turn.question, turn.answer)
    fields = (turn.id, str(turn.user), *said, turn.at, turn.parent, turn.ref, turn.thought, turn.parts)
    marks = ", ".join("?" * (1 + len(fields)))
    db.execute(f"INSERT INTO turns (conversation, {TURN}) VALUES ({marks})", (conversation, *fields))
    if turn.ref:
        anchor(db, conversation, turn.ref, turn.id, 0)


def anchor(db: sqlite3.Connection, conversation: str, ref: str, turn: int, place: int) -> None:
    db.execute("INSERT OR REPLACE INTO anchors VALUES (?, ?, ?, ?)", (conversation, ref, turn, place))


def followers(db: sqlite3.Connection, conversation: str, turns: Sequence[int]) -> dict[int, list[int]]:
    """Ids by the id of what they follow, in order; without those that a reset is about to remove."""
    rows = db.execute(
        "SELECT parent, id FROM turns WHERE conversation = ?1 AND parent IN (SELECT value FROM json_each(?2))"
        " AND id > COALESCE((SELECT upto FROM resetting WHERE conversation = ?1), 0) ORDER BY id DESC LIMIT ?3",
        (conversation, json.dumps(list(turns)), _MOST_FOLLOWERS),
    )
    found: dict[int, list[int]] = {}
    for parent, turn in reversed(rows.fetchall()):
        found.setdefault(parent, []).append(turn)
    return found


def lead(db: sqlite3.Connection, conversation: str, head: int, refs: Mapping[str, int]) -> bool:
    """See `Histories.lead`."""
    moved = db.execute(
        "UPDATE epochs SET head = ?2 WHERE conversation = ?1"
        " AND EXISTS (SELECT 1 FROM turns WHERE conversation = ?1 AND id = ?2"
        " AND id > COALESCE((SELECT upto FROM resetting WHERE conversation = ?1), 0))",
        (conversation, head),
    )
    if moved.rowcount != 1:
        return False
    for ref, turn in refs.items():
        anchor(db, conversation, ref, turn, 0)
    return True


def remove_turn(db: sqlite3.Connection, conversation: str, turn: int) -> None:
    """What followed it follows its parent; a head that was removed gives way to its parent."""
    row = db.execute(
        "SELECT parent FROM turns WHERE conversation = ? AND id = ?", (conversation, turn)
    ).fetchone()
    if row is None:
        return
    here = (row[0], conversation, turn)
    db.execute("UPDATE turns SET parent = ? WHERE conversation = ? AND parent = ?", here)
    db.execute("UPDATE epochs SET head = ? WHERE conversation = ? AND head = ?", here)
    db.execute("DELETE FROM turns WHERE conversation = ? AND id = ?", here[1:])


def names_in(chat: ChatKey) -> tuple[str, str]:
    """The names of its conversations are between these two, the first included."""
    begin = in_chat(chat.platform, chat.id)
    return begin, f"{begin[:-1]};"


def note_place(db: sqlite3.Connection, user: str, conversation: str, at: float) -> None:
    """They have been here, even when no turn comes of it."""
    db.execute("INSERT OR IGNORE INTO places VALUES (?, ?, 0, ?)", (user, conversation, at))


def places(db: sqlite3.Connection, user: UserKey) -> list[str]:
    """The conversations where this person has written."""
    rows = db.execute("SELECT conversation FROM places WHERE user = ? ORDER BY 1", (str(user),))
    return [str(row[0]) for row in rows]


def conversation_of(text: object) -> ConversationKey | None:
    """None, and a word in the log, for what nobody can have written there but damage."""
    try:
        return ConversationKey.parse(str(text))
    except ValueError:
        _log.error("the store holds a conversation that is none, which is left out: %.100r", text)
        return None


def turns_of(rows: Iterable[tuple[Any, ...]]) -> list[Turn]:
    """Damaged rows are left out: one of them must not cost the whole history."""
    found: list[Turn] = []
    for row in rows:
        try:
            number, user, question, answer, at, parent, ref, thought, parts = row
            if not all(isinstance(text, str) for text in (question, answer, ref, thought, parts)):
                raise ValueError("a text is none")
            who, place = UserKey.parse(user), int(parent)
            found.append(Turn(int(number), who, question, answer, float(at), place, ref, thought, parts))
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            _log.error("turn %.40r in the store is damaged and is left out: %s", row[0], type(error).__name__)
    return found
