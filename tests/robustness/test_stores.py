"""The worst values in every column of the store's tables and in every field of what is kept as JSON, beside somebody
else's answer. Who did that may have lost it; everybody else is answered, and nothing ends."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from glmbot.errors import StoreError
from glmbot.messages import UserKey
from glmbot.store.base import StoredAnswer
from glmbot.store.sqlite import SqliteStore
from robustness.talk import PLATFORM, said_by, talking
from robustness.values import TEXTS, Case, cases, sampled
from robustness.watch import Watch, watching

_AT_ONCE = 20
_FORGOTTEN = 2
_VALUES: dict[str, Any] = {
    "nothing": None, "0": 0, "-1": -1, "2**63 - 1": 2**63 - 1, "-2**63": -(2**63), "infinite": float("inf"),
    "1e308": 1e308, "bytes": b"\xff\x00\xed\xa0\x80", "no bytes": b"", "many bytes": b"\x00" * 3_000_000,
    **{f"text: {name}": text for name, text in TEXTS.items() if text.isprintable() or "surrogate" not in name},
}  # fmt: skip


async def fill(path: Path, people: Iterable[int]) -> None:
    """For each of them one row at least in each table, as a person leaves them."""
    store = SqliteStore(path)
    await store.open()
    for person in people:
        user = UserKey(PLATFORM, person)
        for number in (1, 2):
            asked = said_by(person, f"{person}-{number}", "why?")
            await store.accept(asked, 1.0)
            await store.finish(
                asked, StoredAnswer("blue", "final", ""), question="why?", at=1.0, ref=f"{number}"
            )
            await store.delivered(asked, [f"m{number}"])
        answered = said_by(person, f"{person}-3", "and?", origin={"query": "9"}, quoted="x")
        await store.accept(answered, 2.0)
        await store.mark(answered, {"sent": "5", "tries": "1"})
        await store.finish(
            answered, StoredAnswer("green", "final", "a notice"), question="and?", at=2.0, ref="3"
        )
        dead = said_by(person, f"{person}-4", "that one")
        await store.accept(dead, 3.0)
        await store.set_aside(dead, "it broke", 3.0)
        await store.accept(said_by(person, f"{person}-5", "not yet"), 4.0)
        await store.set_setting(user, "limit", "5")
        await store.count(f"{PLATFORM}:{person}-3", {str(user): 5}, 1.0)
    await store.close()


def columns(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: list[tuple[str, str]] = []
        for table in tables:
            if table.startswith("sqlite_"):
                continue
            found += [(table, row[1]) for row in db.execute(f"PRAGMA table_info({table})")]
        return found


def kept_as_json(path: Path, table: str, column: str) -> Iterator[Case]:
    """What may be wrong inside of one that holds JSON."""
    with closing(sqlite3.connect(path)) as db:
        for (value,) in db.execute(f"SELECT {column} FROM {table} WHERE {column} LIKE '{{_%'"):
            yield from cases(json.loads(value))
            return


@dataclass(frozen=True, slots=True)
class _Damage:
    table: str
    column: str
    place: str
    what: str
    value: Any

    @property
    def written(self) -> Any:
        return self.value.text if isinstance(self.value, Case) else self.value


def damage(db: sqlite3.Connection, each: _Damage, person: int) -> None:
    """Put it into every row of this person's, if SQLite itself takes it. Where none is kept for long (of work that a
    crash left half done), there is one now."""
    kinds = {row[1]: row[2] for row in db.execute(f"PRAGMA table_info({each.table})")}
    theirs = " OR ".join(f"{name} LIKE '%{person}%'" for name in kinds)
    if not db.execute(f"SELECT 1 FROM {each.table} WHERE {theirs}").fetchone():
        user, conversation = UserKey(PLATFORM, person), said_by(person, "", "").conversation
        made = [
            1 if kind != "TEXT" else str(user) if name == "user" else str(conversation)
            for name, kind in kinds.items()
        ]
        db.execute(f"INSERT OR REPLACE INTO {each.table} VALUES ({', '.join('?' * len(made))})", made)
    with suppress(sqlite3.Error, UnicodeEncodeError, OverflowError):
        db.execute(f"UPDATE OR REPLACE {each.table} SET {each.column} = ? WHERE {theirs}", (each.written,))


async def look_everywhere(store: SqliteStore, watch: Watch, people: Iterable[int]) -> None:
    """Everything that reads; each may refuse in words."""

    async def everything() -> None:
        async for _ in store.everything():
            pass

    reads: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.unfinished(PLATFORM), store.dead_letters, store.backlog, lambda: store.recent(0.0), store.all_settings,
        everything,
    ]  # fmt: skip
    for person in people:
        user, message = UserKey(PLATFORM, person), said_by(person, f"{person}-5", "not yet")
        reads += [
            partial(store.conversations, user), partial(store.export, user), partial(store.settings, user),
            partial(store.last_turns, message.conversation, 10), partial(store.turn_of, message.conversation, "m1"),
            partial(store.answer, message), partial(store.counted, str(user), 5.0),
        ]  # fmt: skip
    # Each waits several times for the disk.
    reads += [partial(store.forget, UserKey(PLATFORM, person)) for person in sorted(people)[:_FORGOTTEN]]
    for read in reads:
        try:
            await read()
        except StoreError as error:
            if "Traceback" in str(error) or len(str(error)) > 2000:
                watch.blame(f"words: {error}")
        except Exception as error:
            watch.blame(f"{read}: {type(error).__name__}: {error}")


def damages(path: Path) -> list[_Damage]:
    found: list[_Damage] = []
    for table, column in columns(path):
        place = f"{table}.{column}"
        found += [_Damage(table, column, place, what, value) for what, value in _VALUES.items()]
        found += [
            _Damage(table, column, f"{place}: {case.place}", case.what, case)
            for case in kept_as_json(path, table, column)
        ]
    return found


@pytest.mark.timeout(3600)
async def test_the_worst_rows_harm_nobody_else(tmp_path: Path) -> None:
    """A damage for each of several people in one file, which is opened, read and answered from."""
    whole, people = tmp_path / "whole.sqlite3", range(7001, 7001 + _AT_ONCE)
    await fill(whole, people)
    found = damages(whole)
    assert len({(each.table, each.column) for each in found}) > 25
    chosen = sampled(found, 200)
    for first in range(0, len(chosen), _AT_ONCE):
        together = list(zip(people, chosen[first : first + _AT_ONCE], strict=False))
        path = tmp_path / f"{first}.sqlite3"
        shutil.copy(whole, path)
        with closing(sqlite3.connect(path)) as db:
            for person, each in together:
                damage(db, each, person)
            db.commit()
        store = SqliteStore(path)
        await store.open()
        async with talking(store) as talk, watching(talk.somebody_else) as watch:
            with watch.trying(
                " | ".join(f"{person}: {each.place} = {each.what}" for person, each in together)
            ):
                async with asyncio.timeout(300):
                    await look_everywhere(store, watch, people)
        await store.close()
        path.unlink()
