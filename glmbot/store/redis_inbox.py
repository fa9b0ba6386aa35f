"""The inbox's fields in Redis, and what they become; damaged ones with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glmbot.keys import NOBODY, ConversationKey, UserKey
from glmbot.messages import Message, Unfinished
from glmbot.store.message_json import kept_json, marks_from_json, message_from_json
from glmbot.store.records import DeadLetter

__all__ = ["Entry", "dead_letter", "entries", "user_of"]


@dataclass(frozen=True, slots=True)
class Entry:
    """`unfinished` None: it can't be read, for that `reason`. `order`: by time, then by the inbox's own count."""

    update_id: str
    unfinished: Unfinished | None
    order: tuple[float, int] = (0.0, 0)
    reason: str = ""


def entries(conversation: ConversationKey, fields: Sequence[str]) -> list[Entry]:
    """fields: update id, message and marks of each, as the script `claim` returns them."""
    return [_entry(conversation, *each) for each in zip(fields[::3], fields[1::3], fields[2::3], strict=True)]


def _entry(conversation: ConversationKey, update_id: str, value: str, marks: str) -> Entry:
    try:
        head, _, body = value.partition("\n")
        arrival, _, at = head.partition(" ")
        message = _message(conversation, update_id, body)
        return Entry(update_id, Unfinished(message, marks_from_json(marks)), (float(at), int(arrival)))
    except (ValueError, TypeError) as error:
        return Entry(update_id, None, reason=f"damaged in the store: {error}"[:300])


def dead_letter(conversation: ConversationKey, update_id: str, value: str) -> DeadLetter:
    """Of a damaged one what its place says: enough to drop it by."""
    head, _, rest = value.partition("\n")
    at, _, reason = head.partition(" ")
    try:
        message = _message(conversation, update_id, rest.partition("\n")[2])
    except (ValueError, TypeError):
        message = Message(
            update_id, conversation, UserKey(conversation.platform, conversation.user or NOBODY), ""
        )
    try:
        return DeadLetter(message, reason, float(at))
    except ValueError:
        return DeadLetter(message, reason, 0.0)


def user_of(value: str) -> str:
    """Whose message it is; "" when that can't be read."""
    try:
        found = kept_json(value.rpartition("\n")[2])
        return str(found.get("user", "")) if isinstance(found, dict) else ""
    except ValueError:
        return ""


def _message(conversation: ConversationKey, update_id: str, body: str) -> Message:
    message = message_from_json(kept_json(body))
    if (message.conversation, message.update_id) != (conversation, update_id):
        raise ValueError("a message is filed as another one")
    return message
