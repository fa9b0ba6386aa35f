"""Over an outage of Redis: what happens meanwhile is written to a file here, and told to Redis when it is back.

A message that comes is accepted (Discord and the page would not send it again), an answer that ends is recorded,
what was shown is noted; all in one order, which is kept. Nothing new is answered meanwhile, for that needs the
history. Every step may be repeated without harm, so a crash while telling loses and doubles nothing.

A server that takes the place of another one (after a failover, or a restart without persistence) may lack the last
of what that one had confirmed. So what was told lately is kept in mind, and told again to a server that is new.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from types import NoneType
from typing import IO, Any, TypeVar, cast

from glmbot.errors import ClaimLost, StoreError, StoreUnavailable
from glmbot.keys import ConversationKey, UserKey
from glmbot.locks import Locks
from glmbot.messages import Message
from glmbot.store.message_json import answer_from_json, kept_json, message_from_json, message_to_json
from glmbot.store.private_files import keep_private, make_private
from glmbot.store.records import Claim, StoredAnswer
from glmbot.store.redis import RedisStore

__all__ = ["JournaledRedisStore"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_TRY_AGAIN_S = 1.0
_TAKEN_S = 20.0
_PROCESSES = 64
_IN_MIND_S = 60.0
_IN_MIND = 5000
# What each kind of step holds beside its message.
_STEPS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "accept": {"at": (int, float)},
    "mark": {"marks": dict},
    "delivered": {"shown": list},
    "finish": {"answer": dict, "turn": dict},
}
_TURN: Mapping[str, type | tuple[type, ...]] = {
    "question": (str, NoneType),
    "epoch": int,
    "at": (int, float),
    "parent": (int, NoneType),
    "ref": str,
    "turn_answer": (str, NoneType),
    "parts": str,
}


# Whether what is asked now is part of what a new server is told.
_TELLING: ContextVar[bool] = ContextVar("telling", default=False)


class JournaledRedisStore(RedisStore):
    """See `glmbot.store.base.Store`."""

    def __init__(self, url: str, journal: Path, *, journal_limit: int = 10_000, **settings: Any) -> None:
        """journal: a file of this process alone; where another one has it, a number is added to the name.
        journal_limit: steps it may hold; one more is refused. settings: of RedisStore.
        """
        super().__init__(url, **settings)
        self._path = journal
        self._limit = journal_limit
        self._kept = 0
        self._away_until = 0.0
        self._order = asyncio.Lock()
        self._told_to = ""
        self._told: deque[tuple[float, dict[str, Any]]] = deque(maxlen=_IN_MIND)
        self._locks = Locks[ConversationKey]()
        self._lock_file: IO[bytes] | None = None
        self._db: sqlite3.Connection

    @property
    def journaled(self) -> int:
        """Steps that Redis does not know of yet."""
        return self._kept

    async def open(self) -> None:
        """Tells what earlier processes left. Raises StoreError when Redis or the file can't be used."""
        await super().open()
        self._told_to = self._connection.server
        # Between a look at the server and a step another one may have taken its place.
        self._connection.admits = lambda server: server == self._told_to or _TELLING.get()
        mine: Path | None = None
        try:
            for number in range(_PROCESSES):
                path = self._path.with_stem(f"{self._path.stem}-{number}") if number else self._path
                if mine is not None and not path.exists():
                    break
                make_private(path.with_name(f"{path.name}.lock"))
                lock = path.with_name(f"{path.name}.lock").open("ab")
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    lock.close()
                    continue
                self._db = _connect(path)
                async with self._order:
                    await self._tell()
                if mine is None:
                    mine, self._lock_file = path, lock
                else:
                    self._db.close()
                    lock.close()
            if mine is None:
                raise StoreError(f"{self._path}: {_PROCESSES} processes have a journal here already")
            self._db, self._path = _connect(mine), mine
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self._path}: {error}") from error

    async def close(self) -> None:
        await super().close()
        if self._lock_file is not None:
            # It was opened.
            self._db.close()
            self._lock_file.close()

    async def accept(self, message: Message, at: float, *, announce: bool = True) -> bool:
        step = {"do": "accept", "message": message_to_json(message), "at": at}
        return await self._now_or_later(
            step,
            message,
            lambda: super(JournaledRedisStore, self).accept(message, at, announce=announce),
            True,
        )

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        step = {"do": "mark", "message": message_to_json(message), "marks": dict(marks)}
        await self._now_or_later(
            step, message, lambda: super(JournaledRedisStore, self).mark(message, marks), None
        )

    async def join(self, message: Message, others: Sequence[Message]) -> None:
        """Raises StoreUnavailable rather than being written here: nothing is given out while Redis is away."""
        async with self._locks.of(message.conversation):
            await self._tell_first()
            await super().join(message, others)
            written = [message_to_json(other) for other in others]
            self._keep_in_mind({"do": "join", "message": message_to_json(message), "others": written})

    async def delivered(self, message: Message, shown: Sequence[str] = ()) -> None:
        step = {"do": "delivered", "message": message_to_json(message), "shown": list(shown)}
        await self._now_or_later(
            step, message, lambda: super(JournaledRedisStore, self).delivered(message, shown), None
        )

    async def finish(self, message: Message, answer: StoredAnswer, **turn: Any) -> bool:
        # Earlier releases refuse a field that they do not know, so it is there only where it says something.
        known = {name: value for name, value in turn.items() if value or name != "parts"}
        step = {"do": "finish", "message": message_to_json(message), "answer": asdict(answer), "turn": known}
        return await self._now_or_later(
            step, message, lambda: super(JournaledRedisStore, self).finish(message, answer, **turn), True
        )

    async def set_aside(self, message: Message, reason: str, at: float) -> None:
        await super().set_aside(message, reason, at)
        same = (message.conversation, message.update_id)
        self._put_out_of_mind(lambda told: (told.conversation, told.update_id) == same)

    async def reset(self, conversation: ConversationKey) -> int:
        turns = await super().reset(conversation)
        self._put_out_of_mind(lambda told: told.conversation == conversation)
        return turns

    async def remove_turn(self, conversation: ConversationKey, turn: int) -> None:
        await super().remove_turn(conversation, turn)
        self._put_out_of_mind(lambda told: told.conversation == conversation)

    async def forget(self, user: UserKey) -> int:
        turns = await super().forget(user)
        self._put_out_of_mind(lambda told: told.user == user)
        self._keep_in_mind({"do": "forget", "user": str(user)})
        return turns

    async def waiting(self, platform: str, wait_s: float) -> Sequence[ConversationKey]:
        await self._tell_first()
        return await super().waiting(platform, wait_s)

    async def claim(self, conversation: ConversationKey, lasts_s: float) -> Claim:
        """What this process knows of the conversation must be in Redis first."""
        await self._tell_first()
        return await super().claim(conversation, lasts_s)

    async def _now_or_later(
        self, step: dict[str, Any], message: Message, now: Callable[[], Awaitable[_T]], assumed: _T
    ) -> _T:
        # Within a conversation one step after the other, so that none overtakes one that is about to fail.
        async with self._locks.of(message.conversation):
            try:
                await self._tell_first()
                done = await now()
                self._keep_in_mind(step)
                return done
            except StoreUnavailable as error:
                if self._kept >= self._limit:
                    raise StoreUnavailable(f"{error}; and the journal {self._path} is full") from error
                if not self._kept:
                    _log.warning("%s; going on with the journal %s", error, self._path)
                self._away_until = max(self._away_until, time.monotonic() + _TRY_AGAIN_S)
                # In this thread: it is one small write, and its order matters.
                try:
                    self._db.execute("INSERT INTO steps (step) VALUES (?)", (json.dumps(step),))
                except sqlite3.Error as full:
                    raise StoreUnavailable(f"{error}; and the journal {self._path}: {full}") from error
                self._kept += 1
                return assumed

    async def _tell_first(self) -> None:
        if self._kept or self._told_to != self._connection.server:
            async with self._order:
                await self._tell_again()
                await self._tell()

    async def _tell_again(self) -> None:
        """Tell a server that is new what an earlier one was told. Call with the lock. Raises StoreUnavailable."""
        server, since = self._connection.server, time.monotonic() - _IN_MIND_S
        if server == self._told_to:
            return
        lately = [step for at, step in self._told if at > since]
        telling = _TELLING.set(True)
        try:
            for step in lately:
                if step["do"] == "forget":
                    await super().forget(UserKey.parse(step["user"]))
                else:
                    await self._repeat(step, announce=False)
            for conversation in {
                ConversationKey.parse(step["message"]["conversation"]) for step in lately if "message" in step
            }:
                await self._claims.announce(conversation)
        finally:
            _TELLING.reset(telling)
        self._told_to = server
        if lately:
            _log.warning("%s is a new server; told it the last %d steps again", self._name, len(lately))

    async def _tell(self) -> None:
        """Tell Redis what was written here, in order. Call with the lock. Raises StoreUnavailable."""
        if time.monotonic() < self._away_until:
            raise StoreUnavailable(f"{self._name} was away a moment ago")
        told = 0
        try:
            while steps := self._db.execute("SELECT id, step FROM steps ORDER BY id LIMIT 100").fetchall():
                for number, step in steps:
                    try:
                        await self._repeat(told_now := _checked(step))
                    except (ValueError, TypeError, KeyError, OverflowError) as error:
                        self._set_aside(number, error)
                        continue
                    self._db.execute("DELETE FROM steps WHERE id = ?", (number,))
                    self._keep_in_mind(told_now)
                    told += 1
        except StoreUnavailable:
            self._away_until = time.monotonic() + _TRY_AGAIN_S
            raise
        finally:
            self._kept = int(self._db.execute("SELECT COUNT(*) FROM steps").fetchone()[0])
            if told:
                _log.info("%s is back: %d steps told, %d left", self._name, told, self._kept)

    def _set_aside(self, number: int, error: Exception) -> None:
        """A damaged step stays in the file, in a table of its own, and nobody waits for it."""
        reason = f"{type(error).__name__}: {error}"[:300]
        self._db.execute(
            "INSERT OR REPLACE INTO damaged SELECT id, step, ? FROM steps WHERE id = ?", (reason, number)
        )
        self._db.execute("DELETE FROM steps WHERE id = ?", (number,))
        _log.error("%s: step %d is damaged and is left out (table damaged): %s", self._path, number, reason)

    async def _repeat(self, step: dict[str, Any], *, announce: bool = True) -> None:
        message = message_from_json(step["message"])
        try:
            try:
                await self._do(step, message, announce)
            except ClaimLost:
                # What a dead process had begun to answer is for whoever finds its journal.
                await super().claim(message.conversation, _TAKEN_S)
                await self._do(step, message, announce)
        except StoreUnavailable:
            raise
        except ClaimLost as error:
            # Another process took the conversation over, and what it records stands.
            _log.warning("%s", error)
        except StoreError as error:
            _log.error("a step of the journal was refused and is left out: %s", error)

    def _keep_in_mind(self, step: dict[str, Any]) -> None:
        now = time.monotonic()
        while self._told and self._told[0][0] < now - _IN_MIND_S:
            self._told.popleft()
        self._told.append((now, step))

    def _put_out_of_mind(self, gone: Callable[[Message], bool]) -> None:
        kept = [
            (at, step)
            for at, step in self._told
            if "message" not in step or not gone(message_from_json(step["message"]))
        ]
        self._told = deque(kept, maxlen=_IN_MIND)

    async def _do(self, step: dict[str, Any], message: Message, announce: bool) -> None:
        match step["do"]:
            case "accept":
                await super().accept(message, step["at"], announce=announce)
            case "mark":
                await super().mark(message, step["marks"])
            case "delivered":
                await super().delivered(message, step["shown"])
            case "join":
                await super().join(message, [message_from_json(other) for other in step["others"]])
            case _:
                await super().finish(message, answer_from_json(step["answer"]), **step["turn"])


def _checked(written: str) -> dict[str, Any]:
    """Raises ValueError for what is no step that is written here."""
    step = kept_json(written)
    if not isinstance(step, dict):
        raise ValueError("a step is a JSON object")
    found = cast(dict[str, Any], step)
    needed = _STEPS.get(found.get("do", ""))
    if needed is None:
        raise ValueError("a step says what is to be done")
    message_from_json(found.get("message"))
    for name, kind in needed.items():
        if not isinstance(found.get(name), kind) or isinstance(found.get(name), bool):
            raise ValueError(f"{name} is missing, or of another kind")
    for text in (*found.get("shown", ()), *found.get("marks", {}).values()):
        if not isinstance(text, str):
            raise ValueError("what is shown or marked is text")
    if "answer" in needed:
        answer_from_json(found["answer"])
        for name, value in cast(dict[str, Any], found["turn"]).items():
            if name not in _TURN or not isinstance(value, _TURN[name]) or isinstance(value, bool):
                raise ValueError(f"a turn's {name!r:.80} is unknown, or of another kind")
    return found


def _connect(path: Path) -> sqlite3.Connection:
    make_private(path)
    for ending in ("-wal", "-shm", ".lock"):
        keep_private(path.with_name(f"{path.name}{ending}"))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("CREATE TABLE IF NOT EXISTS steps (id INTEGER PRIMARY KEY AUTOINCREMENT, step TEXT)")
    db.execute("CREATE TABLE IF NOT EXISTS damaged (id INTEGER PRIMARY KEY, step TEXT, reason TEXT)")
    return db
