"""What SQLite keeps of people and chats beside their histories: their settings, and what they asked of late."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from glmbot.keys import ChatKey, UserKey
from glmbot.store.base import HOUR_S
from glmbot.store.sqlite_part import SqlitePart

__all__ = ["SqliteOwners"]

_COUNTED_AT_MOST = 2**31
_OWNERS_AT_ONCE = 1000


class SqliteOwners(SqlitePart):
    async def count(self, question: str, limits: Mapping[str, int], at: float) -> float:
        def write(db: sqlite3.Connection) -> float:
            wait = 0.0
            for owner, limit in limits.items():
                known = "SELECT 1 FROM asked WHERE owner = ? AND question = ?"
                if db.execute(known, (owner, question)).fetchone():
                    return 0.0
                if limit <= 0:
                    continue
                # The question that has to be an hour old before another one is within the limit. What the clock
                # says of the future does not count: it has been put back.
                row = db.execute(
                    "SELECT at FROM asked WHERE owner = ? AND at <= ? ORDER BY at DESC LIMIT 1 OFFSET ?",
                    (owner, at + HOUR_S, min(limit, _COUNTED_AT_MOST) - 1),
                ).fetchone()
                if row is not None:
                    wait = max(wait, min(HOUR_S, row[0] + HOUR_S - at))
            if wait > 0:
                return wait
            db.executemany("INSERT INTO asked VALUES (?, ?, ?)", [(owner, question, at) for owner in limits])
            return 0.0

        return await self._run(write)

    async def counted(self, owner: str, at: float) -> int:
        window = (owner, at - HOUR_S, at + HOUR_S)
        query = "SELECT COUNT(*) FROM asked WHERE owner = ? AND at > ? AND at <= ?"
        return int(await self._read(lambda db: db.execute(query, window).fetchone()[0]))

    async def settings(self, owner: UserKey | ChatKey) -> Mapping[str, str]:
        query = "SELECT name, value FROM settings WHERE owner = ?"
        return dict(await self._read(lambda db: db.execute(query, (str(owner),)).fetchall()))

    async def set_setting(self, owner: UserKey | ChatKey, name: str, value: str) -> None:
        def write(db: sqlite3.Connection) -> None:
            if value:
                db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?, ?)", (str(owner), name, value))
            else:
                db.execute("DELETE FROM settings WHERE owner = ? AND name = ?", (str(owner), name))

        await self._run(write)

    async def all_settings(self) -> Mapping[str, Mapping[str, str]]:
        found: dict[str, Mapping[str, str]] = {}
        while page := await self._owners("1", (), max(found, default=""), _OWNERS_AT_ONCE):
            found |= page
        return found

    async def people(self, limit: int, after: str = "") -> Mapping[str, Mapping[str, str]]:
        return await self._owners("instr(owner, ':chat:') = 0", (), after, limit)

    async def having(self, name: str, limit: int) -> Mapping[str, Mapping[str, str]]:
        return await self._owners("name = ?", (name,), "", limit)

    async def _owners(
        self, condition: str, values: tuple[str, ...], after: str, limit: int
    ) -> dict[str, dict[str, str]]:
        """Settings by owner, a page of them."""

        def read(db: sqlite3.Connection) -> dict[str, dict[str, str]]:
            found: dict[str, dict[str, str]] = {}
            owners = db.execute(
                f"SELECT DISTINCT owner FROM settings WHERE {condition} AND owner > ? ORDER BY owner LIMIT ?",
                (*values, after, limit),
            ).fetchall()
            for (owner,) in owners:
                rows = db.execute("SELECT name, value FROM settings WHERE owner = ?", (owner,))
                found[owner] = dict(rows.fetchall())
            return found

        return await self._read(read)
