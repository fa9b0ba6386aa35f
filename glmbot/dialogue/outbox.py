"""What the bot says without having been asked: kept in the inbox like a question, so that it arrives once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import sha256
from typing import Protocol

from glmbot.keys import NOBODY, ConversationKey, UserKey
from glmbot.messages import LONGEST_REF, Announce, Message, Role
from glmbot.store.base import Messages, Places

__all__ = ["Reach", "broadcast"]


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
        message = Message(
            update_id=_update_id(name, chat),
            conversation=chat,
            user=UserKey(chat.platform, NOBODY),
            text=words,
            vouched=Role.USER,
            intent=Announce(),
        )
        await store.accept(message, clock())
    return len(chats)


def _update_id(name: str, chat: ConversationKey) -> str:
    words = f"broadcast {name} {chat}"
    return words if len(words) <= LONGEST_REF else f"broadcast {sha256(words.encode()).hexdigest()}"


def _chats(
    conversations: Iterable[ConversationKey], unreachable: Collection[str]
) -> Sequence[ConversationKey]:
    reachable = (each for each in conversations if each.platform not in unreachable)
    return sorted(
        {ConversationKey(each.platform, each.chat, thread=each.thread) for each in reachable}, key=str
    )
