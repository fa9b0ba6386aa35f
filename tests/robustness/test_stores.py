"""The worst values in every column of the store's tables and in every field of what is kept as JSON, beside somebody
else's answer. Who did that may have lost it; everybody else is answered, and nothing ends."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from glmbot.keys import UserKey
from glmbot.store.sqlite import SqliteStore
from robustness.stored import fill_store, look_beside_somebody_else
from robustness.talk import PLATFORM, said_by
from robustness.values import TEXTS, Case, cases, sampled

_AT_ONCE = 20
_VALUES: dict[str, Any] = {
    "nothing": None, "0": 0, "-1": -1, "2**63 - 1": 2**63 - 1, "-2**63": -(2**63), "infinite": float("inf"),
    "1e308": 1e308, "bytes": b"\xff\x00\xed\xa0\x80", "no bytes": b"", "many bytes": b"\x00" * 3_000_000,
    **{f"text: {name}": text for name, text in TEXTS.items() if text.isprintable() or "surrogate" not in name},
}  # fmt: skip


async def fill(path: Path, people: Iterable[int]) -> None:
    store = SqliteStore(path)
    await store.open()
    await fill_store(store, people)
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
        user, conversation = UserKey(PLATFORM, str(person)), said_by(person, "", "").conversation
        made = [
            1 if kind != "TEXT" else str(user) if name == "user" else str(conversation)
            for name, kind in kinds.items()
        ]
        db.execute(f"INSERT OR REPLACE INTO {each.table} VALUES ({', '.join('?' * len(made))})", made)
    with suppress(sqlite3.Error, UnicodeEncodeError, OverflowError):
        db.execute(f"UPDATE OR REPLACE {each.table} SET {each.column} = ? WHERE {theirs}", (each.written,))


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
        what = " | ".join(f"{person}: {each.place} = {each.what}" for person, each in together)
        await look_beside_somebody_else(store, people, what)
        await store.close()
        path.unlink()
