"""What the bot says without having been asked: kept in the inbox like a question, so that it arrives once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import sha256
from typing import Protocol

from glmbot.keys import NOBODY, ConversationKey, UserKey, kind_of
from glmbot.messages import LONGEST_REF, Announce, ChatKind, Message, Role
from glmbot.store.base import Messages, Places

__all__ = ["Reach", "announcement", "broadcast", "question_of"]


class Reach(Messages, Places, Protocol):
    """Where people are, and where what they are told is put."""


async def broadcast(
    store: Reach,
    words: str,
    *,
    name: str,
    since: float,
    clock: Callable[[], float],
    unreachable: Collection[str],
) -> int:
    """Say `words` once in each chat that has had a turn since then. Returns how many there are.

    name: of this broadcast; one that is repeated after a crash says nothing twice. unreachable: platforms where
    nothing can be sent that was not asked for. Raises StoreError.
    """
    chats = await asyncio.to_thread(_chats, await store.recent(since), unreachable)
    for chat in chats:
        await store.accept(announcement(chat, words, f"broadcast {name} {chat}"), clock())
    return len(chats)


def announcement(conversation: ConversationKey, words: str, name: str) -> Message:
    return Message(
        update_id=_update_id(name),
        conversation=_for_everybody(conversation),
        user=UserKey(conversation.platform, NOBODY),
        text=words,
        vouched=Role.USER,
        intent=Announce(),
    )


def question_of(
    conversation: ConversationKey,
    user: UserKey,
    question: str,
    name: str,
    kind: ChatKind,
    *,
    known_there: bool,
) -> Message:
    """known_there: the platform itself says who its people are, and the access lists do not."""
    return Message(
        update_id=_update_id(name),
        conversation=conversation,
        user=user,
        # A command is obeyed by who gives it, now.
        text=f"/ask {question}",
        chat_kind=kind,
        vouched=Role.USER if known_there else None,
    )


def _update_id(name: str) -> str:
    return name if len(name) <= LONGEST_REF else f"{name[:40]} {sha256(name.encode()).hexdigest()}"


def _for_everybody(conversation: ConversationKey) -> ConversationKey:
    return ConversationKey(conversation.platform, conversation.chat, thread=conversation.thread)


def _chats(
    conversations: Iterable[ConversationKey], unreachable: Collection[str]
) -> Sequence[ConversationKey]:
    reachable = (each for each in conversations if kind_of(each.platform) not in unreachable)
    return sorted({_for_everybody(each) for each in reachable}, key=str)
