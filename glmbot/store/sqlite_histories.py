"""Histories in SQLite: each method one transaction; the exports and the backup are many."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict
from functools import partial

from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import ConversationSummary, Message
from glmbot.store import sqlite_turns
from glmbot.store.records import (
    ExportedConversation,
    StoredAnswer,
    StoredConversation,
    Turn,
    whole_conversations,
)
from glmbot.store.sqlite_part import SqlitePart
from glmbot.store.sqlite_turns import TURN, names_in, turns_of

__all__ = ["SqliteHistories"]

_OF_TURNS = ", ".join(f"turns.{name}" for name in TURN.split(", "))
_PAGE = 200
_CONVERSATIONS_AT_ONCE = 1000


class SqliteHistories(SqlitePart):
    async def epoch(self, conversation: ConversationKey) -> int:
        return (await self._read(lambda db: sqlite_turns.counters(db, str(conversation))))[0]

    async def last_turns(
        self, conversation: ConversationKey, limit: int, *, upto: int | None = None
    ) -> Sequence[Turn]:
        name = str(conversation)

        def read(db: sqlite3.Connection) -> list[tuple[object, ...]]:
            end = sqlite_turns.counters(db, name)[2] if upto is None else upto
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
        return await self._read(lambda db: sqlite_turns.followers(db, name, turns))

    async def lead(self, conversation: ConversationKey, head: int, refs: Mapping[str, int]) -> bool:
        name = str(conversation)
        return await self._run(lambda db: sqlite_turns.lead(db, name, head, refs))

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
        parts: str = "",
    ) -> bool:
        update = (message.user.platform, message.update_id)
        name = str(message.conversation)

        def write(db: sqlite3.Connection) -> bool:
            first = db.execute(
                "UPDATE inbox SET answer = ?"
                " WHERE platform = ? AND update_id = ? AND message IS NOT NULL AND answer IS NULL",
                (json.dumps(asdict(answer)), *update),
            )
            now, last_id, head = sqlite_turns.counters(db, name)
            if question is None or first.rowcount != 1 or now != epoch:
                return False
            text = answer.text if turn_answer is None else turn_answer
            before = head if parent is None else parent
            turn = Turn(last_id + 1, message.user, question, text, at, before, ref, answer.thought, parts)
            sqlite_turns.insert_turn(db, name, turn)
            sqlite_turns.set_counters(db, name, epoch, turn.id, turn.id)
            for piece, tail in message.act.pieces.items() if ref == message.ref else ():
                sqlite_turns.anchor(db, name, piece, turn.id, -1 - tail)
            db.execute("UPDATE inbox SET turn = ? WHERE platform = ? AND update_id = ?", (turn.id, *update))
            return True

        return await self._run(write)

    async def remove_turn(self, conversation: ConversationKey, turn: int) -> None:
        await self._run(lambda db: sqlite_turns.remove_turn(db, str(conversation), turn))

    async def conversations(self, user: UserKey) -> Sequence[ConversationKey]:
        query = "SELECT conversation FROM places WHERE user = ? AND turns > 0 ORDER BY 1"
        rows = await self._read(lambda db: db.execute(query, (str(user),)).fetchall())
        return [found for row in rows if (found := sqlite_turns.conversation_of(row[0])) is not None]

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
            if (conversation := sqlite_turns.conversation_of(text)) is not None
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

    async def recent(self, since: float) -> Sequence[ConversationKey]:
        found: dict[str, None] = {}
        after = (since, "", "")
        query = (
            "SELECT at, user, conversation FROM places WHERE turns > 0 AND at >= ?1"
            " AND (at, user, conversation) > (?1, ?2, ?3) ORDER BY at, user, conversation LIMIT ?4"
        )
        while rows := await self._read(
            lambda db, a=after: db.execute(query, (*a, _CONVERSATIONS_AT_ONCE)).fetchall()
        ):
            found.update(dict.fromkeys(row[2] for row in rows))
            after = rows[-1]
        keys = map(sqlite_turns.conversation_of, sorted(found, key=str))
        return [conversation for conversation in keys if conversation is not None]

    async def everything(self) -> AsyncGenerator[StoredConversation, None]:
        name = ""
        following = "SELECT conversation FROM turns WHERE conversation > ? ORDER BY conversation LIMIT 1"
        while row := await self._read(partial(_one, following, (name,))):
            name = row[0]
            conversation = sqlite_turns.conversation_of(name)
            if conversation is None:
                continue
            head = (await self._read(lambda db, n=name: sqlite_turns.counters(db, n)))[2]
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
                sqlite_turns.insert_turn(db, name, turn)
            epoch, last_id, _ = sqlite_turns.counters(db, name)
            last_id = max(last_id, *(turn.id for turn in stored.turns))
            sqlite_turns.set_counters(db, name, epoch + 1, last_id, stored.head)
            return True

        return bool(stored.turns) and await self._run(write)


def _one(query: str, values: tuple[str, ...], db: sqlite3.Connection) -> tuple[str] | None:
    return db.execute(query, values).fetchone()
