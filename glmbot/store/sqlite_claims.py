"""Claims in SQLite: one process has the file, so they need not outlive it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from glmbot.keys import ConversationKey
from glmbot.store.base import CLAIMED_AT_ONCE
from glmbot.store.blobs import BlobLimits
from glmbot.store.records import Claim
from glmbot.store.sqlite_inbox import SqliteInbox
from glmbot.store.sqlite_part import OPEN
from glmbot.store.sqlite_turns import conversation_of

__all__ = ["SqliteClaims"]


class SqliteClaims(SqliteInbox):
    def __init__(self, path: Path, limits: BlobLimits) -> None:
        super().__init__(path, limits)
        self._claimed: set[ConversationKey] = set()
        self._claiming = asyncio.Lock()

    async def waiting(self, platform: str, wait_s: float) -> Sequence[ConversationKey]:
        self._connection.own()
        announced = self._announced[platform]
        async with self._news:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._news.wait_for(lambda: announced)
        found = list(announced)
        announced.clear()
        return found

    async def open_conversations(self, platform: str) -> Sequence[ConversationKey]:
        self._connection.own()
        rows = await self._read(
            lambda db: db.execute(
                f"SELECT conversation FROM inbox WHERE platform = ? AND {OPEN}"
                " GROUP BY conversation ORDER BY MIN(arrival)",
                (platform,),
            ).fetchall()
        )
        found = {row[0]: conversation_of(row[0]) for row in rows}
        for name in (name for name, conversation in found.items() if conversation is None):
            # Reading what is filed under no conversation sets it aside.
            await self._entries("conversation IS ?", name, -1)
        return [conversation for conversation in found.values() if conversation is not None]

    async def claim(self, conversation: ConversationKey, lasts_s: float) -> Claim:
        self._connection.own()
        async with self._claiming:
            found = await self._entries("conversation = ?", str(conversation), CLAIMED_AT_ONCE)
            (self._claimed.add if found else self._claimed.discard)(conversation)
        return Claim(self.owner, found)

    async def leave_to(self, conversation: ConversationKey, owner: str) -> None:
        pass

    async def release(self, conversation: ConversationKey) -> None:
        self._claimed.discard(conversation)
        await self._announce(conversation)

    async def keep(self) -> None:
        pass

    async def lease(self, name: str, lasts_s: float) -> str:
        self._connection.own()
        return self.owner

    async def end_lease(self, name: str) -> None:
        pass

    async def signal(self, words: str) -> None:
        pass

    async def signals(self, wait_s: float) -> Sequence[str]:
        await asyncio.sleep(wait_s)
        return []
