"""What the bot says without having been asked: kept in the inbox like an answer, so that it arrives once."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable

from glmbot.messages import ConversationKey, Message, ReplyState, Role, UserKey
from glmbot.store.base import Store, StoredAnswer

__all__ = ["Outbox"]

# Their people come to them; nothing can be sent there.
_UNREACHABLE = frozenset({"web", "console"})


class Outbox:
    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[str, asyncio.Queue[Message]] = defaultdict(asyncio.Queue)

    async def broadcast(self, words: str, since: float) -> int:
        """Say `words` once in each chat that has had a turn since then. Returns how many there are."""
        name = secrets.token_hex(8)
        chats = {
            ConversationKey(each.platform, each.chat, 0, each.thread)
            for each in await self._store.recent(since)
            if each.platform not in _UNREACHABLE
        }
        for chat in sorted(chats, key=str):
            message = Message(
                update_id=f"broadcast {name} {chat}",
                conversation=chat,
                user=UserKey(chat.platform, 0),
                text=words,
                vouched=Role.USER,
            )
            await self._store.accept(message, self._clock())
            await self._store.finish(message, StoredAnswer("", ReplyState.FINAL, words))
            self._waiting[chat.platform].put_nowait(message)
        return len(chats)

    async def outgoing(self, platform: str) -> AsyncGenerator[Message, None]:
        while True:
            yield await self._waiting[platform].get()
