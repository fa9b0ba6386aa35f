"""What every part of the Redis store has in its hands."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from glmbot.errors import ClaimLost
from glmbot.keys import ConversationKey
from glmbot.messages import Message
from glmbot.store.ownership import owner_name
from glmbot.store.redis_claims import RedisClaims
from glmbot.store.redis_connection import RedisConnection
from glmbot.store.redis_keys import RedisKeys

__all__ = ["RedisPart"]

_T = TypeVar("_T")


class RedisPart:
    """The store is one object; its inbox and what it keeps of people and chats stand in files of their own."""

    def __init__(self, url: str, prefix: str, update_ids_kept_s: float, timeout_s: float) -> None:
        """Raises ValueError for an address that is none."""
        self.owner = owner_name()
        self._update_ids_kept_s = update_ids_kept_s
        # How long what is left of a conversation without turns is kept.
        self._left_s = str(int(update_ids_kept_s) + 1)
        self._connection = RedisConnection(url, timeout_s)
        self._redis = self._connection.client
        self._name = self._connection.name
        self._keys = RedisKeys(prefix)
        self._claims = RedisClaims(self._connection, prefix, self.owner)

    async def _change(self, script: str, message: Message, parts: Sequence[str], *arguments: str) -> Any:
        """Run a script that only the process that has the conversation may. Raises ClaimLost."""
        parts = ("inbox", "claim", *parts)
        done = await self._script(
            script, message.conversation, parts, self.owner, message.update_id, *arguments
        )
        if done == -1:
            raise ClaimLost(message.conversation)
        return done

    async def _script(
        self, name: str, conversation: ConversationKey, parts: Sequence[str], *arguments: str
    ) -> Any:
        return await self._connection.run(name, self._keys.all_of(conversation, parts), *arguments)

    async def _ask(self, answer: Awaitable[_T]) -> _T:
        return await self._connection.ask(answer)
