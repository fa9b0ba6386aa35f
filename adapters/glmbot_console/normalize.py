"""A typed line as a Message. The terminal's owner runs the bot, so they are its administrator. Pure."""

from __future__ import annotations

from uuid import uuid4

from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message, Role

__all__ = ["PLATFORM", "normalize"]

PLATFORM = "console"
# What the ChatGLM-6B projects' terminal chat calls its commands.
_HABITS = {"clear": "/new"}


def normalize(line: str, *, user_id: str, user_name: str, language: str) -> Message:
    return Message(
        update_id=uuid4().hex,
        conversation=ConversationKey(PLATFORM, user_id),
        user=UserKey(PLATFORM, user_id),
        text=_HABITS.get(line.strip().lower(), line),
        user_name=user_name,
        language=language,
        vouched=Role.ADMIN,
    )
