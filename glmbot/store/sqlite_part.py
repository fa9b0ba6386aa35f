"""What every part of the embedded store has in its hands."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

from glmbot.keys import ConversationKey
from glmbot.store.blobs import BlobLimits
from glmbot.store.ownership import owner_name
from glmbot.store.sqlite_connection import SqliteConnection

__all__ = ["OPEN", "SqlitePart"]

OPEN = "message IS NOT NULL AND dead IS NULL"
"""Of the inbox: what still waits to be answered to the end."""


class SqlitePart:
    """The store is one object, and each of its protocols stands in a file of its own."""

    def __init__(self, path: Path, limits: BlobLimits) -> None:
        """limits: of files."""
        self._limits = limits
        self.owner = owner_name()
        self._connection = SqliteConnection(path)
        self._run, self._read = self._connection.write, self._connection.read
        self._announced: dict[str, dict[ConversationKey, None]] = defaultdict(dict)
        self._news = asyncio.Condition()

    async def _announce(self, conversation: ConversationKey) -> None:
        async with self._news:
            self._announced[conversation.platform][conversation] = None
            self._news.notify_all()
