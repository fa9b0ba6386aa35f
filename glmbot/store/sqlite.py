"""The embedded store: one SQLite file, each method one transaction, each big work many small ones."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import ConversationSummary, Message, Unfinished
from glmbot.store import sqlite_histories as histories
from glmbot.store import sqlite_inbox as inbox
from glmbot.store import sqlite_moves as moves
from glmbot.store import sqlite_removal as removal
from glmbot.store.base import CLAIMED_AT_ONCE, HOUR_S
from glmbot.store.message_json import message_to_json
from glmbot.store.ownership import owner_name
from glmbot.store.records import (
    Backlog,
    Claim,
    DeadLetter,
    ExportedConversation,
    StoredAnswer,
    StoredConversation,
    Turn,
    whole_conversations,
)
from glmbot.store.sqlite_connection import SqliteConnection
from glmbot.store.sqlite_histories import TURN, names_in, turns_of
from glmbot.store.sqlite_inbox import ENTRY, OPEN
from glmbot.store.ways import Ways, check_move

__all__ = ["SqliteStore"]

_OF_TURNS = ", ".join(f"turns.{name}" for name in TURN.split(", "))
_PAGE = 200
_COUNTED_AT_MOST = 2**31
_OWNERS_AT_ONCE = 1000


class SqliteStore:
    """See `glmbot.store.base.Store`."""

    def __init__(self, path: Path, *, update_ids_kept_s: float = 7 * 86400, turns_kept_s: float = 0) -> None:
        """Times in seconds; turns_kept_s 0 keeps turns for ever."""
        self.owner = owner_name()
        self._update_ids_kept_s = update_ids_kept_s
        self._turns_kept_s = turns_kept_s
        self._connection = SqliteConnection(path)
        self._run, self._read = self._connection.write, self._connection.read
        self._announced: dict[str, dict[ConversationKey, None]] = defaultdict(dict)
        self._news = asyncio.Condition()
        # One process has the file, so claims need not outlive it.
        self._claimed: set[ConversationKey] = set()
        self._claiming = asyncio.Lock()
        # What is removed is not halfway to another name.
        self._moving = asyncio.Lock()

    async def open(self) -> None:
        """Raises StoreError that names the file when it is no database of ours or can't be written."""
        await self._connection.open()

    async def close(self) -> None:
        await self._connection.close()

    async def warnings(self) -> Sequence[str]:
        return self._connection.warnings

    async def check(self) -> None:
        await self._connection.check()

    @property
    def journaled(self) -> int:
        return 0

    # ---- inbox ------------------------------------------------------------------------------------------------

    async def accept(self, message: Message, at: float, *, announce: bool = True) -> bool:
        self._connection.own()
        fields = (
            message.user.platform,
            message.update_id,
            at,
            str(message.user),
            str(message.conversation),
            json.dumps(message_to_json(message)),
        )

        def write(db: sqlite3.Connection) -> bool:
            new = db.execute(
                "INSERT OR IGNORE INTO inbox (platform, update_id, accepted_at, user, conversation, message)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                fields,
            )
            if new.rowcount == 1:
                histories.note_place(db, str(message.user), str(message.conversation), at)
            return new.rowcount == 1

        new = await self._run(write)
        if new and announce:
            await self._announce(message.conversation)
        return new

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        given = (json.dumps(dict(marks)), message.user.platform, message.update_id)
        await self._run(
            lambda db: db.execute(
                "UPDATE inbox SET marks = json_patch(CASE WHEN json_valid(marks) THEN marks ELSE '{}' END, ?)"
                " WHERE platform = ? AND update_id = ? AND message IS NOT NULL",
                given,
            )
        )

    async def delivered(self, message: Message, shown: Sequence[str] = ()) -> None:
        update = (message.user.platform, message.update_id)

        def write(db: sqlite3.Connection) -> None:
            row = db.execute("SELECT turn FROM inbox WHERE platform = ? AND update_id = ?", update).fetchone()
            if row is not None and row[0] is not None:
                self._anchor_answer(db, str(message.conversation), row[0], shown)
            inbox.clear(db, *update)

        await self._run(write)

    def _anchor_answer(
        self, db: sqlite3.Connection, conversation: str, turn: int, shown: Sequence[str]
    ) -> None:
        exists = "SELECT 1 FROM turns WHERE conversation = ? AND id = ?"
        if db.execute(exists, (conversation, turn)).fetchone() is None:
            moved = moves.shift_of(db, conversation)
            if moved is None:
                return
            conversation, turn = moved[0], turn + moved[1]
            if db.execute(exists, (conversation, turn)).fetchone() is None:
                return
        for place, ref in enumerate(shown, 1):
            histories.anchor(db, conversation, ref, turn, place)

    async def unfinished(self, platform: str) -> Sequence[Unfinished]:
        return await self._entries("platform = ?", platform, -1)

    async def open_in(self, conversation: ConversationKey) -> Sequence[Unfinished]:
        return await self._entries("conversation = ?", str(conversation), CLAIMED_AT_ONCE)

    async def join(self, message: Message, others: Sequence[Message]) -> None:
        said = (json.dumps(message_to_json(message)), message.user.platform, message.update_id)

        def write(db: sqlite3.Connection) -> None:
            joined = db.execute(
                "UPDATE inbox SET message = ?, answer = NULL, turn = NULL"
                f" WHERE platform = ? AND update_id = ? AND {OPEN}",
                said,
            )
            for other in others if joined.rowcount == 1 else ():
                inbox.clear(db, other.user.platform, other.update_id)

        await self._run(write)

    async def _entries(self, condition: str, value: str, limit: int) -> list[Unfinished]:
        query = f"SELECT {ENTRY} FROM inbox WHERE {condition} AND {OPEN} ORDER BY arrival LIMIT {limit}"
        found, damaged = await self._read(lambda db: inbox.entries(db.execute(query, (value,))))
        if damaged:
            await self._run(lambda db: inbox.set_damaged_aside(db, damaged, time.time()))
        return found

    async def set_aside(self, message: Message, reason: str, at: float) -> None:
        await self._run(
            lambda db: db.execute(
                f"UPDATE inbox SET dead = ?, dead_at = ? WHERE platform = ? AND update_id = ? AND {OPEN}",
                (" ".join(reason.split()), at, message.user.platform, message.update_id),
            )
        )

    async def dead_letters(self) -> Sequence[DeadLetter]:
        def read(db: sqlite3.Connection) -> list[DeadLetter]:
            rows = db.execute(
                "SELECT platform, update_id, conversation, user, message, dead, dead_at FROM inbox"
                " WHERE dead IS NOT NULL ORDER BY dead_at, arrival"
            )
            return [letter for row in rows if (letter := inbox.dead_letter(row)) is not None]

        return await self._read(read)

    async def replay(self, message: Message) -> bool:
        update = (message.user.platform, message.update_id)

        def write(db: sqlite3.Connection) -> bool:
            dead = "platform = ? AND update_id = ? AND dead IS NOT NULL"
            if not inbox.is_whole(db.execute(f"SELECT {ENTRY} FROM inbox WHERE {dead}", update).fetchone()):
                return False
            db.execute(
                f"UPDATE inbox SET dead = NULL, marks = json_remove(marks, '$.tries') WHERE {dead}", update
            )
            return True

        replayed = await self._run(write)
        if replayed:
            await self._announce(message.conversation)
        return replayed

    async def drop(self, message: Message) -> bool:
        update = (message.user.platform, message.update_id)
        return bool(await self._run(lambda db: inbox.clear(db, *update, "dead IS NOT NULL")))

    async def backlog(self) -> Backlog:
        def read(db: sqlite3.Connection) -> Backlog:
            waiting = db.execute(f"SELECT COUNT(DISTINCT conversation) FROM inbox WHERE {OPEN}").fetchone()
            dead = db.execute("SELECT COUNT(*) FROM inbox WHERE dead IS NOT NULL").fetchone()
            return Backlog(waiting[0], dead[0])

        return await self._read(read)

    async def answer(self, message: Message) -> StoredAnswer | None:
        update = (message.user.platform, message.update_id)
        found, damaged = await self._read(lambda db: inbox.stored_answer(db, *update))
        if damaged:
            # It is answered once more.
            await self._run(
                lambda db: db.execute(
                    "UPDATE inbox SET answer = NULL WHERE platform = ? AND update_id = ?", update
                )
            )
        return found

    # ---- claims -----------------------------------------------------------------------------------------------

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
        found = {row[0]: histories.conversation_of(row[0]) for row in rows}
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

    async def _announce(self, conversation: ConversationKey) -> None:
        async with self._news:
            self._announced[conversation.platform][conversation] = None
            self._news.notify_all()

    # ---- quotas -----------------------------------------------------------------------------------------------

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

    # ---- histories --------------------------------------------------------------------------------------------

    async def epoch(self, conversation: ConversationKey) -> int:
        return (await self._read(lambda db: histories.counters(db, str(conversation))))[0]

    async def last_turns(
        self, conversation: ConversationKey, limit: int, *, upto: int | None = None
    ) -> Sequence[Turn]:
        name = str(conversation)

        def read(db: sqlite3.Connection) -> list[tuple[object, ...]]:
            end = histories.counters(db, name)[2] if upto is None else upto
            return db.execute(
                "WITH RECURSIVE branch (id, depth) AS ("
                " SELECT ?2, 1 UNION ALL SELECT turns.parent, depth + 1 FROM turns JOIN branch"
                " ON turns.id = branch.id WHERE turns.conversation = ?1 AND depth < ?3)"
                f" SELECT {_OF_TURNS} FROM branch CROSS JOIN turns ON turns.id = branch.id"
                " WHERE turns.conversation = ?1 ORDER BY depth DESC",
                (name, end, limit),
            ).fetchall()

        return turns_of(await self._read(read)) if limit > 0 else []

    async def followers(
        self, conversation: ConversationKey, turns: Sequence[int]
    ) -> Mapping[int, Sequence[int]]:
        name = str(conversation)
        return await self._read(lambda db: histories.followers(db, name, turns))

    async def lead(self, conversation: ConversationKey, head: int, refs: Mapping[str, int]) -> bool:
        name = str(conversation)
        return await self._run(lambda db: histories.lead(db, name, head, refs))

    async def turn_of(self, conversation: ConversationKey, ref: str) -> Turn | None:
        query = (
            f"SELECT {TURN} FROM turns WHERE conversation = ?1"
            " AND id = (SELECT turn FROM anchors WHERE conversation = ?1 AND ref = ?2)"
        )
        found = turns_of(await self._read(lambda db: db.execute(query, (str(conversation), ref)).fetchall()))
        return found[0] if found else None

    async def asked_in(self, chat: ChatKey, ref: str, since: float) -> ConversationKey | None:
        query = (
            "SELECT conversation FROM anchors WHERE ref = ? AND place = 0"
            " AND conversation > ? AND conversation < ? LIMIT 1"
        )
        row = await self._read(lambda db: db.execute(query, (ref, *names_in(chat))).fetchone())
        return None if row is None else ConversationKey.parse(row[0])

    async def shown(self, conversation: ConversationKey, turn: int) -> Sequence[str]:
        query = "SELECT ref FROM anchors WHERE conversation = ? AND turn = ? AND place > 0 ORDER BY place"
        rows = await self._read(lambda db: db.execute(query, (str(conversation), turn)).fetchall())
        return [str(row[0]) for row in rows]

    async def pieces(self, conversation: ConversationKey, turn: int) -> Mapping[str, int]:
        query = (
            "SELECT ref, -1 - place FROM anchors WHERE conversation = ? AND turn = ? AND place < 0"
            " ORDER BY place, ref"
        )
        return dict(await self._read(lambda db: db.execute(query, (str(conversation), turn)).fetchall()))

    async def finish(
        self,
        message: Message,
        answer: StoredAnswer,
        *,
        question: str | None = None,
        epoch: int = 0,
        at: float = 0.0,
        parent: int | None = None,
        ref: str = "",
        turn_answer: str | None = None,
    ) -> bool:
        update = (message.user.platform, message.update_id)
        name = str(message.conversation)

        def write(db: sqlite3.Connection) -> bool:
            first = db.execute(
                "UPDATE inbox SET answer = ?"
                " WHERE platform = ? AND update_id = ? AND message IS NOT NULL AND answer IS NULL",
                (json.dumps(asdict(answer)), *update),
            )
            now, last_id, head = histories.counters(db, name)
            if question is None or first.rowcount != 1 or now != epoch:
                return False
            text = answer.text if turn_answer is None else turn_answer
            before = head if parent is None else parent
            turn = Turn(last_id + 1, message.user, question, text, at, before, ref, answer.thought)
            histories.insert_turn(db, name, turn)
            histories.set_counters(db, name, epoch, turn.id, turn.id)
            for piece, tail in message.act.pieces.items() if ref == message.ref else ():
                histories.anchor(db, name, piece, turn.id, -1 - tail)
            db.execute("UPDATE inbox SET turn = ? WHERE platform = ? AND update_id = ?", (turn.id, *update))
            return True

        return await self._run(write)

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
        return await removal.reset(self._connection, name)

    async def remove_turn(self, conversation: ConversationKey, turn: int) -> None:
        await self._run(lambda db: histories.remove_turn(db, str(conversation), turn))

    async def conversations(self, user: UserKey) -> Sequence[ConversationKey]:
        query = "SELECT conversation FROM places WHERE user = ? AND turns > 0 ORDER BY 1"
        rows = await self._read(lambda db: db.execute(query, (str(user),)).fetchall())
        return [found for row in rows if (found := histories.conversation_of(row[0])) is not None]

    async def conversation_summaries(
        self, user: UserKey, limit: int, before: tuple[float, str] | None = None
    ) -> Sequence[ConversationSummary]:
        at, name = before or (float("inf"), "")
        query = (
            "SELECT conversation, turns, at, (SELECT question FROM turns WHERE turns.user = places.user"
            " AND turns.conversation = places.conversation ORDER BY turns.at LIMIT 1)"
            " FROM places WHERE user = ? AND turns > 0 AND (at, conversation) < (?, ?)"
            " ORDER BY at DESC, conversation DESC LIMIT ?"
        )
        rows = await self._read(lambda db: db.execute(query, (str(user), at, name, limit)).fetchall())
        return [
            ConversationSummary(conversation, title if isinstance(title, str) else "", turns, at)
            for text, turns, at, title in rows
            if (conversation := histories.conversation_of(text)) is not None
        ]

    async def export(self, user: UserKey) -> Sequence[ExportedConversation]:
        return [page async for page in whole_conversations(self.export_pages(user))]

    async def export_pages(self, user: UserKey) -> AsyncGenerator[ExportedConversation, None]:
        for conversation in await self.conversations(user):
            after = (float("-inf"), 0)
            while True:
                rows = await self._read(
                    lambda db, c=str(conversation), a=after: db.execute(
                        f"SELECT {TURN} FROM turns WHERE user = ? AND conversation = ? AND (at, id) > (?, ?)"
                        " ORDER BY at, id LIMIT ?",
                        (str(user), c, *a, _PAGE),
                    ).fetchall()
                )
                if not rows:
                    break
                yield ExportedConversation(conversation, turns_of(rows))
                after = (rows[-1][4], rows[-1][0])

    async def forget(self, user: UserKey) -> int:
        async with self._moving:
            # Who has another number now is the same person under both.
            numbers = Ways(await self._read(moves.under_way)).of_person(user)
            return await removal.forget(self._connection, numbers)

    async def recent(self, since: float) -> Sequence[ConversationKey]:
        found: dict[str, None] = {}
        after = (since, "", "")
        query = (
            "SELECT at, user, conversation FROM places WHERE turns > 0 AND at >= ?1"
            " AND (at, user, conversation) > (?1, ?2, ?3) ORDER BY at, user, conversation LIMIT ?4"
        )
        while rows := await self._read(
            lambda db, a=after: db.execute(query, (*a, _OWNERS_AT_ONCE)).fetchall()
        ):
            found.update(dict.fromkeys(row[2] for row in rows))
            after = rows[-1]
        keys = map(histories.conversation_of, sorted(found, key=str))
        return [conversation for conversation in keys if conversation is not None]

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
        return await self._run(
            lambda db: removal.expire(db, now - self._update_ids_kept_s, turns_before, now), durable=False
        )

    # ---- settings ---------------------------------------------------------------------------------------------

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

    # ---- backup -----------------------------------------------------------------------------------------------

    async def everything(self) -> AsyncGenerator[StoredConversation, None]:
        name = ""
        following = "SELECT conversation FROM turns WHERE conversation > ? ORDER BY conversation LIMIT 1"
        while row := await self._read(partial(_one, following, (name,))):
            name = row[0]
            conversation = histories.conversation_of(name)
            if conversation is None:
                continue
            head = (await self._read(lambda db, n=name: histories.counters(db, n)))[2]
            turns: list[Turn] = []
            last = -1
            while rows := await self._read(
                lambda db, n=name, last=last: db.execute(
                    f"SELECT {TURN} FROM turns WHERE conversation = ? AND id > ? ORDER BY id LIMIT ?",
                    (n, last, _PAGE),
                ).fetchall()
            ):
                turns += turns_of(rows)
                last = rows[-1][0]
            if turns:
                yield StoredConversation(conversation, turns, head)

    async def put(self, stored: StoredConversation) -> bool:
        name = str(stored.conversation)

        def write(db: sqlite3.Connection) -> bool:
            if db.execute("SELECT 1 FROM turns WHERE conversation = ?", (name,)).fetchone():
                return False
            for turn in stored.turns:
                histories.insert_turn(db, name, turn)
            epoch, last_id, _ = histories.counters(db, name)
            last_id = max(last_id, *(turn.id for turn in stored.turns))
            histories.set_counters(db, name, epoch + 1, last_id, stored.head)
            return True

        return bool(stored.turns) and await self._run(write)


def _one(query: str, values: tuple[str, ...], db: sqlite3.Connection) -> tuple[str] | None:
    return db.execute(query, values).fetchone()
