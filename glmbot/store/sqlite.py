"""The embedded store: one SQLite file, each method one transaction, each big work many small ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.store import sqlite_moves as moves
from glmbot.store import sqlite_removal as removal
from glmbot.store.blobs import BlobLimits
from glmbot.store.sqlite_blobs import SqliteBlobs
from glmbot.store.sqlite_claims import SqliteClaims
from glmbot.store.sqlite_histories import SqliteHistories
from glmbot.store.sqlite_notes import SqliteNotes
from glmbot.store.sqlite_owners import SqliteOwners
from glmbot.store.ways import Ways, check_move

__all__ = ["SqliteStore"]


class SqliteStore(SqliteClaims, SqliteHistories, SqliteOwners, SqliteNotes, SqliteBlobs):
    """See `glmbot.store.base.Store`."""

    def __init__(
        self,
        path: Path,
        *,
        update_ids_kept_s: float = 7 * 86400,
        turns_kept_s: float = 0,
        blobs: BlobLimits | None = None,
    ) -> None:
        """Times in seconds; turns_kept_s 0 keeps turns for ever."""
        super().__init__(path, blobs or BlobLimits())
        self._update_ids_kept_s = update_ids_kept_s
        self._turns_kept_s = turns_kept_s
        self._warnings: Sequence[str] = []
        # What is removed is not halfway to another name.
        self._moving = asyncio.Lock()

    async def open(self) -> None:
        """Raises StoreError that names the file when it is no database of ours or can't be written."""
        await self._connection.open()
        self._warnings = [*self._connection.warnings, *filter(None, [self._folder.keep_private()])]

    async def close(self) -> None:
        await self._connection.close()
        if self._memory is not None:
            self._memory.cleanup()

    async def warnings(self) -> Sequence[str]:
        return self._warnings

    async def check(self) -> None:
        await self._connection.check()

    @property
    def journaled(self) -> int:
        return 0

    async def reset(self, conversation: ConversationKey) -> int:
        way = Ways(await self._read(moves.under_way)).of_conversation(conversation)
        if len(way) == 1:
            return await self._reset(conversation)
        # Where it comes from, or goes to, is the same conversation.
        async with self._moving:
            return sum([await self._reset(each) for each in way])

    async def _reset(self, conversation: ConversationKey) -> int:
        name = str(conversation)
        await self._run(lambda db: removal.begin_reset(db, name))
        turns = await removal.reset(self._connection, name)
        await self._erase_blobs()
        return turns

    async def forget(self, user: UserKey) -> int:
        async with self._moving:
            # Who has another number now is the same person under both.
            numbers = Ways(await self._read(moves.under_way)).of_person(user)
            return await removal.forget(self._connection, numbers, self._erase_blobs)

    async def move(self, old: UserKey | ChatKey, new: UserKey | ChatKey, at: float) -> None:
        check_move(old, new)
        if old == new:
            return
        await self._run(
            lambda db: db.execute(
                "INSERT OR REPLACE INTO moves VALUES (?, ?, ?, ?)", (str(old), str(new), at, at)
            )
        )
        await self._move(old, new)

    async def _move(self, old: UserKey | ChatKey, new: UserKey | ChatKey) -> None:
        busy = self._claimed.__contains__
        async with self._moving:
            announced = await moves.move(self._connection, old, new, busy, self._claiming)
        for conversation in announced:
            await self._announce(conversation)

    async def tidy(self, now: float) -> bool:
        user = await self._read(removal.to_forget)
        if user is not None:
            await self.forget(user)
        for name in await self._read(removal.to_reset):
            await removal.reset(self._connection, name)
        for old, new in await self._read(lambda db: moves.pending(db, now)):
            await self._move(old, new)
            await self._run(lambda db, o=old: moves.followed(db, o, now))
        turns_before = now - self._turns_kept_s if self._turns_kept_s else None
        more = await self._run(
            lambda db: removal.expire(db, now - self._update_ids_kept_s, turns_before, now), durable=False
        )
        return await self._tidy_blobs(now) or more
