"""The inbox's rows in SQLite: what waits to be answered, and what was set aside, damaged rows among it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from math import isfinite
from typing import Any

from glmbot.keys import NOBODY, ConversationKey, UserKey
from glmbot.messages import Message, Unfinished
from glmbot.store.message_json import answer_from_json, kept_json, marks_from_json, message_from_json
from glmbot.store.records import DeadLetter, StoredAnswer
from glmbot.store.sqlite_removal import CLEARED

__all__ = [
    "ENTRY",
    "OPEN",
    "clear",
    "dead_letter",
    "entries",
    "is_whole",
    "set_damaged_aside",
    "stored_answer",
]

_log = logging.getLogger(__name__)

OPEN = "message IS NOT NULL AND dead IS NULL"
ENTRY = "arrival, platform, update_id, conversation, message, marks"

Damaged = list[tuple[int, str]]


def entries(rows: Iterable[tuple[Any, ...]]) -> tuple[list[Unfinished], Damaged]:
    """What can be read, and the rest by its arrival, with what is wrong."""
    found: list[Unfinished] = []
    damaged: Damaged = []
    for arrival, platform, update_id, conversation, text, marks in rows:
        try:
            found.append(
                Unfinished(_message(platform, update_id, conversation, text), marks_from_json(marks))
            )
        except (ValueError, TypeError) as error:
            damaged.append((arrival, f"damaged in the store: {error}"[:300]))
    return found, damaged


def set_damaged_aside(db: sqlite3.Connection, damaged: Damaged, at: float) -> None:
    """They are kept with the reason, and nobody waits for them."""
    for arrival, reason in damaged:
        db.execute("UPDATE inbox SET dead = ?, dead_at = ? WHERE arrival = ?", (reason, at, arrival))
        _log.error("a message in the store can't be read and is set aside: %s", reason)


def dead_letter(row: tuple[Any, ...]) -> DeadLetter | None:
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


def is_whole(row: tuple[Any, ...] | None) -> bool:
    return row is not None and not entries([row])[1]


def stored_answer(db: sqlite3.Connection, platform: str, update_id: str) -> tuple[StoredAnswer | None, bool]:
    """The recorded answer, and whether there is one that can't be read."""
    row = db.execute(
        "SELECT answer FROM inbox WHERE platform = ? AND update_id = ? AND answer IS NOT NULL",
        (platform, update_id),
    ).fetchone()
    if row is None:
        return None, False
    try:
        return answer_from_json(row[0]), False
    except (ValueError, TypeError):
        return None, True


def clear(db: sqlite3.Connection, platform: str, update_id: str, condition: str = "1") -> int:
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
