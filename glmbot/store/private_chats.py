"""Whose a private chat is, by its key alone, or by who spoke there where the key does not say it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from glmbot.keys import ChatKey, ConversationKey, UserKey, kind_of

__all__ = ["is_alone", "owner_now", "person_of"]

# Their private chats have the numbers of their persons.
_NUMBERED = ("telegram", "console")


def owner_now(chat: ChatKey, spoke: Iterable[tuple[ConversationKey, UserKey]]) -> ChatKey | None:
    """Where settings of `chat` belong now; None for nobody's, since it can't be told whose words they are.

    spoke: who has turns in which conversation of that chat. On Telegram a private chat has its person's number; a
    conversation of Discord without a person in its key is a direct message; every chat of the page is private.
    """
    if chat.user:
        return chat
    if kind_of(chat.platform) in _NUMBERED:
        # Root's terminal stands for nobody (see `Message.chat`).
        return replace(chat, user=chat.id) if _is_person(chat.id) else chat
    if chat.platform == "web":
        people = {user.id for _, user in spoke}
        return replace(chat, user=people.pop()) if len(people) == 1 else None
    spoken = list(spoke)
    people = {user.id for _, user in spoken}
    direct = bool(spoken) and not any(conversation.user for conversation, _ in spoken)
    return replace(chat, user=people.pop()) if direct and len(people) == 1 else chat


def person_of(conversation: ConversationKey) -> UserKey | None:
    """The one person whose history it is, where its key says so."""
    if conversation.user:
        return UserKey(conversation.platform, conversation.user)
    if kind_of(conversation.platform) in _NUMBERED and _is_person(conversation.chat):
        return UserKey(conversation.platform, conversation.chat)
    return None


def is_alone(conversation: ConversationKey, user: UserKey) -> bool:
    """Whether nobody but `user` can have written there."""
    return conversation.platform == user.platform and (
        conversation.user == user.id or (not conversation.user and conversation.chat == user.id)
    )


def _is_person(chat: str) -> bool:
    """Telegram's groups have numbers below 0."""
    return chat.isascii() and chat.isdigit() and chat != "0"
