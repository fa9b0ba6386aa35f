"""One SQLite file: a thread that writes, one that reads, one that folds the write-ahead log in.

Write-ahead log with synchronous=FULL, so what a write returned for survives a power cut
(https://www.sqlite.org/pragma.html#pragma_synchronous). secure_delete overwrites what is deleted. A reader sees
the last commit and holds up no writer (https://www.sqlite.org/wal.html#concurrency); so does a passive checkpoint.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

from glmbot.errors import StoreError, StoreUnavailable
from glmbot.store.private_files import keep_private, make_private
from glmbot.store.sqlite_schema import bring_up_to_date

__all__ = ["IN_MEMORY", "SqliteConnection", "has_owner"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

IN_MEMORY = Path(":memory:")
_FOLD_IN_FROM = 4 * 2**20
_LOG_AT_MOST = 64 * 2**20
# As much as a long answer takes with all that is written beside it.
_TRIAL_BYTES = 256 * 1024
# What passes by itself or by the operator's help, while the stored data is as it was.
_PASSING = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
})  # fmt: skip
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_WHAT_TO_DO = "move the file away and put a backup in its place with `glmbot restore`"


_LOCK = ".lock"


def has_owner(path: Path) -> bool:
    """Whether another process answers from this file at the moment."""
    try:
        with _beside(path, _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


class SqliteConnection:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="sqlite-read")
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="sqlite-keep")
        self._folding = False
        self._in_doubt = False
        self._lock: IO[bytes] | None = None
        self._files: dict[Path, tuple[int, int]] = {}
        self._db: sqlite3.Connection
        self._read_db: sqlite3.Connection
        self._keep_db: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Raises StoreError that names the file when it is no database of ours or can't be written."""

        def connect() -> None:
            if self.path == IN_MEMORY:
                self._db = self._read_db = _connected(self.path)
                bring_up_to_date(self._db)
                return
            make_private(self.path)
            found = [keep_private(path) for path in (self.path, *map(self._beside, ("-wal", "-shm", _LOCK)))]
            self.warnings = [words for words in found if words]
            self._db = _connected(self.path)
            # The keeper does that, without holding anybody up.
            self._db.execute("PRAGMA wal_autocheckpoint = 0")
            # Else its size stays that of its worst moment, and it is folded in at each write.
            self._db.execute(f"PRAGMA journal_size_limit = {_FOLD_IN_FROM // 2}")
            bring_up_to_date(self._db)
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("INSERT OR REPLACE INTO health VALUES (1, 0)")
            self._db.execute("COMMIT")
            self._read_db, self._keep_db = _connected(self.path), _connected(self.path)
            self._read_db.execute("PRAGMA query_only = ON")
            self._files = {path: _identity(path) for path in (self.path, self._beside("-wal"))}

        await self._in(self._writer, connect)

    async def close(self) -> None:
        def disconnect() -> None:
            for each in (self._keep_db, getattr(self, "_read_db", None), getattr(self, "_db", None)):
                if each is not None:
                    each.close()

        await asyncio.to_thread(self._keeper.shutdown)
        await asyncio.to_thread(self._reader.shutdown)
        await self._in(self._writer, disconnect)
        self._writer.shutdown()
        if self._lock is not None:
            self._lock.close()

    async def write(self, step: Callable[[sqlite3.Connection], _T], *, durable: bool = True) -> _T:
        """Run `step` as one transaction. Raises StoreError.

        durable: a power cut can't undo it. What is begun again after one need not wait for the disk.
        """

        def work() -> _T:
            self._look_at_files()
            if not durable:
                self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                # The connection's own context manager commits, or rolls back when the step raises.
                with self._db:
                    return step(self._db)
            finally:
                if not durable:
                    self._db.execute("PRAGMA synchronous = FULL")

        try:
            done = await self._in(self._writer, work)
        except StoreUnavailable:
            self._in_doubt = True
            raise
        self._fold_in()
        return done

    async def read(self, step: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `step` on one state of the database. Raises StoreError."""
        if self.path == IN_MEMORY:
            return await self.write(step)

        def work() -> _T:
            self._look_at_files()
            self._read_db.execute("BEGIN")
            with self._read_db:
                return step(self._read_db)

        return await self._in(self._reader, work)

    async def erase_log(self) -> None:
        """The write-ahead log still holds the old pages until it is folded in."""
        if self._keep_db is None:
            return
        keeper = self._keep_db
        await self._in(self._keeper, lambda: keeper.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall())
        await self._in(self._writer, lambda: self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())

    def own(self) -> None:
        """Two processes that answer from one file would answer everything twice. Raises StoreError."""
        if self._lock is not None or self.path == IN_MEMORY:
            return
        path = self._beside(_LOCK)
        try:
            make_private(path)
            lock = path.open("ab")
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise StoreError(
                f"{self.path}: another glmbot answers from this file;"
                ' several processes need [store] kind = "redis"'
            ) from error
        self._lock = lock
        self._files[path] = _identity(path)

    async def check(self) -> None:
        """Write something: little, or as much as an answer where a write has failed. Raises StoreError with what
        keeps it from being written."""
        self.own()
        await self.write(lambda db: db.execute("UPDATE health SET asked = asked + 1").rowcount)
        if self._in_doubt:
            # A full disk still takes what is small.
            for step in (
                "DROP TABLE IF EXISTS trial",
                # Another check may have come in between.
                f"CREATE TABLE IF NOT EXISTS trial AS SELECT zeroblob({_TRIAL_BYTES})",
            ):
                await self.write(lambda db, step=step: db.execute(step).rowcount)
            await self.write(lambda db: db.execute("DROP TABLE IF EXISTS trial").rowcount)
            self._in_doubt = False

    def _beside(self, ending: str) -> Path:
        return _beside(self.path, ending)

    def _look_at_files(self) -> None:
        """What is written into a file that was deleted or replaced is lost. Raises StoreUnavailable."""
        for path, identity in list(self._files.items()):
            if _identity(path) != identity:
                raise StoreUnavailable(
                    f"{path}: was deleted or replaced while glmbot has it open; stop glmbot, put the right file"
                    " there, and start it again"
                )

    def _fold_in(self) -> None:
        """Have a write-ahead log that has grown folded in. Nobody waits for it, unless it grows without end."""
        if self._keep_db is None or self._folding:
            return
        try:
            size = self._beside("-wal").stat().st_size
        except OSError:
            return
        if size < _FOLD_IN_FROM:
            return
        self._folding = True
        keeper, executor = self._keep_db, self._keeper
        if size > _LOG_AT_MOST:
            keeper, executor = self._db, self._writer
        kind = "RESTART" if size > _LOG_AT_MOST else "PASSIVE"

        def work() -> None:
            try:
                keeper.execute(f"PRAGMA wal_checkpoint({kind})").fetchall()
            except sqlite3.Error as error:
                _log.warning("%s: its log could not be folded in: %s", self.path, error)
            finally:
                self._folding = False

        try:
            executor.submit(work)
        except RuntimeError:
            self._folding = False

    async def _in(self, executor: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        try:
            # Shielded: a caller that goes away must not leave a transaction half awaited.
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(executor, work))
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            words = f"{self.path}: {error}"
            if code in _DAMAGED:
                words += f"; {_WHAT_TO_DO}"
            raise (StoreUnavailable if code in _PASSING else StoreError)(words) from error
        except OSError as error:
            raise StoreUnavailable(f"{self.path}: {error}") from error
        except UnicodeDecodeError as error:
            # Of SQLite's own words, which name what is damaged.
            raise StoreError(f"{self.path}: the database is malformed; {_WHAT_TO_DO}") from error
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            # Such an error repeats the value that it is about, however large.
            raise StoreError(f"{self.path}: {str(error)[:300]}") from error


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    # Bytes that are no text are damage in one row, and not in all that is read with it.
    db.text_factory = _text
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA busy_timeout = 5000")
    return db


def _text(data: bytes) -> str:
    return str(data, "utf-8", "replace")


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}{ending}")
