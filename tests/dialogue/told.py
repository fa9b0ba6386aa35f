"""Messages as an adapter tells of them, with what makes them an act."""

from __future__ import annotations

from typing import Any

from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Act, Ask, Edit, Message

__all__ = ["HERE", "LONGEST", "cut", "said"]

HERE = ConversationKey("telegram", "7")
LONGEST = 4096


def said(number: int, text: str = "", *, user: int = 7, edits: bool = False, **act: Any) -> Message:
    """The message `number` of a private chat; an edit of it has another update id."""
    update = f"{number} edited {text}" if edits else str(number)
    known: dict[str, Any] = {"at": 1000, **act}
    facts = Act(**known)
    text, quoted = ("", text) if facts.forwarded else (text, "")
    author = UserKey("telegram", str(user))
    intent = Edit() if edits else Ask()
    return Message(update, HERE, author, text, ref=str(number), intent=intent, quoted=quoted, act=facts)


def cut(number: int, text: str, **act: Any) -> Message:
    return said(number, text, cut=LONGEST, **act)
