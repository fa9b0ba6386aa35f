"""Files beside SQLite: references in tables, contents in a folder (see blob_folder.py).

Whatever touches a content under its name is done inside a transaction, whose lock all processes share. A content
takes its place before its reference is committed, and leaves it after its last reference has; so a crash leaves
contents that nobody refers to, which `tidy` finds, and never a reference without its content.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, ParamSpec, TypeVar

from glmbot.content import is_digest
from glmbot.errors import StoreError, StoreUnavailable
from glmbot.keys import ConversationKey, UserKey
from glmbot.store.blob_folder import BlobFolder, NewBlob, next_piece
from glmbot.store.blobs import ACCEPTED_WITHIN_S, MOST_OF_A_PERSON, BlobLimits
from glmbot.store.records import Blob, StoredBlob
from glmbot.store.sqlite_connection import IN_MEMORY
from glmbot.store.sqlite_part import SqlitePart
from glmbot.store.sqlite_turns import conversation_of, note_place

__all__ = ["SqliteBlobs", "move_references", "references_left", "remove_before_reset", "remove_references"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_AT_ONCE = 100
_ERASED_AT_ONCE = 20
# Longer than the slowest content takes to be written.
_WRITTEN_WITHIN_S = 3600.0
_SWEPT_EVERY_S = 86400.0
_MEANT = "digest, media_type, name, size, at"


class SqliteBlobs(SqlitePart):
    def __init__(self, path: Path, limits: BlobLimits) -> None:
        super().__init__(path, limits)
        self._memory = TemporaryDirectory(prefix="glmbot-") if path == IN_MEMORY else None
        folder = Path(self._memory.name) / "files" if self._memory is not None else path
        self._folder = BlobFolder(folder.with_name(f"{folder.name}.blobs"))
        self._to_sweep: list[str] = []
        self._swept_at: float | None = None

    async def put_blob(
        self,
        conversation: ConversationKey,
        user: UserKey,
        blob: Blob,
        pieces: AsyncIterable[bytes],
        *,
        update_id: str = "",
    ) -> None:
        self._limits.refuse_large(blob)
        reference = (str(conversation), blob.digest, str(user))
        # Nothing large is written that would be refused.
        await self._read(lambda db: self._refuse(db, reference, user, blob.size, 0))
        new = await self._on_disk(self._folder.begin)
        try:
            async for piece in pieces:
                await self._on_disk(new.write, piece)
                self._limits.refuse_longer(new.size)
            await self._on_disk(new.finish)
            await self._run(lambda db: self._refer(db, reference, user, blob, new, update_id))
        finally:
            new.discard()

    def _refuse(
        self, db: sqlite3.Connection, reference: tuple[str, str, str], user: UserKey, size: int, stored: int
    ) -> None:
        """Raises BlobRefused."""
        used, count = db.execute(
            "SELECT COALESCE(SUM(size), 0), COUNT(*) FROM blob_refs WHERE user = ?", (str(user),)
        ).fetchone()
        same = db.execute(
            "SELECT size FROM blob_refs WHERE conversation = ? AND digest = ? AND user = ?", reference
        ).fetchone()
        if same is None and (used + size > self._limits.person or count >= MOST_OF_A_PERSON):
            raise self._limits.refused("person_full", user)
        everybody = _count(db.execute("SELECT stored FROM blobs_total WHERE id = 1").fetchone())
        there = _count(db.execute("SELECT stored FROM blobs WHERE digest = ?", reference[1:2]).fetchone())
        if everybody + max(size, stored) - there > self._limits.everybody:
            raise self._limits.refused("store_full", user)

    def _refer(
        self,
        db: sqlite3.Connection,
        reference: tuple[str, str, str],
        user: UserKey,
        blob: Blob,
        new: NewBlob,
        update_id: str,
    ) -> None:
        self._refuse(db, reference, user, blob.size, new.size)
        db.execute(
            "INSERT INTO blob_refs (conversation, digest, user, media_type, name, size, at, update_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET media_type = excluded.media_type,"
            " name = excluded.name, at = excluded.at, update_id = excluded.update_id",
            (*reference, blob.media_type, blob.name, blob.size, blob.at, update_id),
        )
        db.execute("UPDATE blobs SET stored = ? WHERE digest = ?", (new.size, blob.digest))
        note_place(db, str(user), reference[0], blob.at)
        self._folder.place(new, blob.digest)

    async def blob(self, conversation: ConversationKey, digest: str) -> Blob | None:
        if not is_digest(digest):
            return None
        query = (
            f"SELECT {_MEANT} FROM blob_refs WHERE conversation = ? AND digest = ? ORDER BY at DESC LIMIT 1"
        )
        row = await self._read(lambda db: db.execute(query, (str(conversation), digest)).fetchone())
        return None if row is None else _blob(row)

    async def blob_pieces(self, conversation: ConversationKey, digest: str) -> AsyncGenerator[bytes, None]:
        if await self.blob(conversation, digest) is None:
            raise StoreError(f"{conversation} has no file {digest[:64]!r}")
        file = await self._on_disk(self._content, digest)
        try:
            while piece := await self._on_disk(next_piece, file):
                yield piece
        except ValueError as error:
            raise StoreError(f"{self._folder.path}: the file {digest} is damaged: {error}") from error
        finally:
            file.close()

    def _content(self, digest: str) -> IO[bytes]:
        try:
            return self._folder.open(digest)
        except FileNotFoundError as error:
            raise StoreError(
                f"{self._folder.path}: the file {digest} is missing; take the folder from a backup"
            ) from error

    async def remove_blob(self, conversation: ConversationKey, digest: str) -> bool:
        if not is_digest(digest):
            return False
        query = "DELETE FROM blob_refs WHERE conversation = ? AND digest = ?"
        gone = await self._run(lambda db: db.execute(query, (str(conversation), digest)).rowcount)
        await self._erase_blobs()
        return gone > 0

    async def blob_bytes(self, user: UserKey) -> int:
        query = "SELECT COALESCE(SUM(size), 0) FROM blob_refs WHERE user = ?"
        return await self._read(lambda db: int(db.execute(query, (str(user),)).fetchone()[0]))

    async def blobs(self, user: UserKey | None = None) -> AsyncGenerator[StoredBlob, None]:
        whose, given = ("user = ? AND", (str(user),)) if user is not None else ("", ())
        query = (
            f"SELECT {_MEANT}, conversation, user, seq FROM blob_refs WHERE {whose} (digest, seq) > (?, ?)"
            " ORDER BY digest, seq LIMIT ?"
        )
        after = ("", 0)
        while rows := await self._read(
            lambda db, a=after: db.execute(query, (*given, *a, _AT_ONCE)).fetchall()
        ):
            for row in rows:
                if (found := _stored(row)) is not None:
                    yield found
            after = (rows[-1][0], rows[-1][7])

    async def _erase_blobs(self) -> None:
        """Contents that nobody refers to any more, a few at a time."""
        while await self._run(self._erase_some, durable=False):
            pass

    def _erase_some(self, db: sqlite3.Connection) -> int:
        some = "SELECT digest FROM blobs WHERE refs <= 0 ORDER BY refs, digest LIMIT ?"
        for (digest,) in db.execute(some, (_ERASED_AT_ONCE,)).fetchall():
            self._folder.remove(digest)
        # By themselves, for a damaged one may be read as another.
        return db.execute(f"DELETE FROM blobs WHERE digest IN ({some})", (_ERASED_AT_ONCE,)).rowcount

    async def _tidy_blobs(self, now: float) -> bool:
        """True when there is more."""
        kept_s, old = self._limits.kept_s, 0
        if kept_s:
            old = await self._run(lambda db: _remove_older(db, now - kept_s), durable=False)
        await self._erase_blobs()
        return await self._sweep(now) or old > 0

    async def _sweep(self, now: float) -> bool:
        """Once a day, a subfolder at a time: contents that a crash left. True when there is more."""
        if not self._to_sweep:
            if self._swept_at is not None and 0 <= now - self._swept_at < _SWEPT_EVERY_S:
                return False
            self._swept_at = now
            for path in await self._on_disk(lambda: list(self._folder.unfinished(now - _WRITTEN_WITHIN_S))):
                await self._on_disk(path.unlink, missing_ok=True)
            self._to_sweep = await self._on_disk(self._folder.subfolders)
        if self._to_sweep:
            subfolder = self._to_sweep.pop()
            names = await self._on_disk(self._folder.digests, subfolder)
            for start in range(0, len(names), _AT_ONCE):
                page = names[start : start + _AT_ONCE]
                await self._run(lambda db, page=page: self._remove_strays(db, page), durable=False)
        return bool(self._to_sweep)

    def _remove_strays(self, db: sqlite3.Connection, names: list[str]) -> None:
        for name in names:
            if db.execute("SELECT 1 FROM blobs WHERE digest = ?", (name,)).fetchone() is None:
                self._folder.remove(name)

    async def _on_disk(self, work: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
        """In a thread, for a disk may be slow. Raises StoreUnavailable."""
        try:
            return await asyncio.to_thread(work, *given, **named)
        except OSError as error:
            raise StoreUnavailable(f"{self._folder.path}: {error}") from error


def remove_references(db: sqlite3.Connection, user: UserKey) -> int:
    """Some of a person's. Returns how many."""
    return db.execute(
        "DELETE FROM blob_refs WHERE seq IN (SELECT seq FROM blob_refs WHERE user = ? LIMIT ?)",
        (str(user), _AT_ONCE),
    ).rowcount


def remove_before_reset(db: sqlite3.Connection, conversation: str, now: float) -> int:
    """Some of what a conversation had when its reset began, and no message waits for. Returns how many."""
    return db.execute(
        "DELETE FROM blob_refs WHERE seq IN (SELECT seq FROM blob_refs WHERE conversation = ?1"
        " AND seq <= COALESCE((SELECT files_upto FROM resetting WHERE conversation = ?1), 0)"
        " AND NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.platform = ?3"
        " AND inbox.update_id = blob_refs.update_id AND message IS NOT NULL AND answer IS NULL)"
        " AND (update_id = '' OR at < ?2 OR EXISTS (SELECT 1 FROM inbox WHERE inbox.platform = ?3"
        " AND inbox.update_id = blob_refs.update_id)) LIMIT ?4)",
        (conversation, now - ACCEPTED_WITHIN_S, conversation.partition(":")[0], _AT_ONCE),
    ).rowcount


def move_references(db: sqlite3.Connection, old: str, new: str, whose: tuple[str, str] | None) -> int:
    """Some references of a conversation, to its new name, or of one person there to theirs. `whose`: the person's
    key before and after. Returns how many."""
    before, after = whose or ("", "")
    if old == new and whose is None:
        return 0
    only = "AND user = ?2" if old == new else "AND ?2 = ?2"
    rows = db.execute(
        f"SELECT seq, user FROM blob_refs WHERE conversation = ?1 {only} LIMIT ?3", (old, before, _AT_ONCE)
    ).fetchall()
    for seq, user in rows:
        owner = after if whose is not None and user == before else user
        # A trigger counts references, and sees no row that is replaced.
        db.execute(
            "INSERT INTO blob_refs (conversation, digest, user, media_type, name, size, at, update_id)"
            " SELECT ?2, digest, ?3, media_type, name, size, at, update_id FROM blob_refs WHERE seq = ?1"
            " ON CONFLICT DO NOTHING",
            (seq, new, owner),
        )
        db.execute("DELETE FROM blob_refs WHERE seq = ?", (seq,))
        db.execute(
            "INSERT OR IGNORE INTO places SELECT ?1, ?2, 0, COALESCE(MAX(at), 0) FROM blob_refs WHERE user = ?1"
            " AND conversation = ?2",
            (owner, new),
        )
    return len(rows)


def references_left(db: sqlite3.Connection, user: UserKey) -> bool:
    return db.execute("SELECT 1 FROM blob_refs WHERE user = ? LIMIT 1", (str(user),)).fetchone() is not None


def _remove_older(db: sqlite3.Connection, before: float) -> int:
    """Some of what was put before that Unix time. Returns how many."""
    return db.execute(
        "DELETE FROM blob_refs WHERE seq IN (SELECT seq FROM blob_refs WHERE at < ? LIMIT ?)",
        (before, _AT_ONCE),
    ).rowcount


def _count(row: tuple[Any, ...] | None) -> int:
    """0 for one that is not there, or damaged: it keeps nobody from putting files."""
    return row[0] if row is not None and isinstance(row[0], int) else 0


def _stored(row: tuple[Any, ...]) -> StoredBlob | None:
    conversation, blob = conversation_of(row[5]), _blob(row[:5])
    try:
        user = UserKey.parse(row[6])
    except ValueError:
        return None
    return None if conversation is None or blob is None else StoredBlob(conversation, user, blob)


def _blob(row: tuple[Any, ...]) -> Blob | None:
    """A damaged row is left out."""
    try:
        return Blob(*row)
    except (ValueError, TypeError):
        return None
