"""A backup may hold anything: it is taken whole, or refused with the line, and then nothing is written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.backup import back_up, restore
from glmbot.errors import BackupError
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.store.base import Store
from glmbot.store.sqlite import SqliteStore

TURN = {"id": 1, "user": "telegram:5", "question": "q", "answer": "a", "at": 1.0, "parent": 0, "ref": ""}
CONVERSATION = {"conversation": "telegram:5:0:0", "head": 1, "turns": [TURN]}
FIRST = {"conversation": "telegram:1:0:0", "head": 1, "turns": [{**TURN, "user": "telegram:1"}]}
WORST: list[object] = [
    None,
    True,
    -1,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\ud800",
    [],
    ["x"],
    {},
    {"a": 1},
]


def written(path: Path, *lines: object, version: int = 2) -> Path:
    with gzip.open(path, "wt") as file:
        for line in ({"glmbot": "backup", "version": version}, *lines, {"end": len(lines)}):
            file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    return path


def with_turn(**changes: object) -> dict[str, object]:
    return {**CONVERSATION, "turns": [{**TURN, **changes}]}


BAD: list[object] = [
    *(with_turn(**{name: worst}) for name in ("id", "at", "parent") for worst in WORST if worst != -1 or name != "at"),
    *(with_turn(**{name: worst}) for name in ("question", "ref", "user") for worst in WORST if not isinstance(worst, str)),
    with_turn(user="nobody"), with_turn(question="\ud800"), with_turn(evil=1),
    {**CONVERSATION, "turns": [TURN, TURN]},
    {**CONVERSATION, "turns": [{**TURN, "parent": 2}, {**TURN, "id": 2, "parent": 1}]},
    {**CONVERSATION, "turns": [{**TURN, "parent": 1}]},
    *({**CONVERSATION, "head": worst} for worst in WORST),
    *({**CONVERSATION, "turns": worst} for worst in WORST if worst != []),
    {**CONVERSATION, "conversation": "telegram:x"}, {"turns": []}, {"owner": "telegram:5"},
    *({"owner": "telegram:5", "settings": {"limit": worst}} for worst in WORST if worst != ""),
    {"owner": "telegram:5", "settings": {"a b": "c"}}, {"owner": "x", "settings": {}},
    {"owner": "telegram:5", "settings": {"pairing": "ABCDEFGH never"}},
    "[" * 100_000, "{" , "5", '{"end": 1}', "\x00",
]  # fmt: skip


@pytest.mark.parametrize("line", BAD, ids=lambda line: repr(line)[:60])
async def test_what_glmbot_did_not_write_is_refused_with_its_line(tmp_path: Path, line: object) -> None:
    path = written(tmp_path / "b.gz", FIRST, line)
    with pytest.raises(BackupError, match=r"b\.gz"):
        await restore(_NeverWritten(), path)  # pyright: ignore[reportArgumentType]


class _NeverWritten:
    async def put(self, *_: object) -> bool:
        raise AssertionError("nothing may be written of a file with a line that is refused")

    set_setting = put


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
async def test_any_line_is_taken_or_refused(line: Any) -> None:
    path = Path("/tmp") / "glmbot-any-line.gz"
    with pytest.raises(BackupError):
        await restore(_NeverWritten(), written(path, FIRST, {"conversation": line, "head": 1, "turns": line}))  # pyright: ignore[reportArgumentType]
    path.unlink()


async def test_a_backup_without_end_of_line_is_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot.backup.LINE_BYTES", 2**16)
    path = written(tmp_path / "b.gz", "a" * 2**17)
    with pytest.raises(BackupError, match="line 2: is longer"):
        await restore(_NeverWritten(), path)  # pyright: ignore[reportArgumentType]


async def test_one_of_the_release_before_is_taken_with_its_private_chats(tmp_path: Path) -> None:
    path = written(
        tmp_path / "b.gz",
        {
            "conversation": "web:9:5:0",
            "head": 2,
            "turns": [{**TURN, "user": "web:5"}, {**TURN, "id": 2, "user": "web:5", "parent": 7}],
        },
        {"owner": "web:chat:9", "settings": {"prompt": "mine"}},
        {"owner": "web:chat:10", "settings": {"prompt": "whose?"}},
        version=1,
    )
    store: Store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    assert (await restore(store, path)).settings == 1
    assert await store.settings(ChatKey("web", "9", "5")) == {"prompt": "mine"}
    assert len(await store.last_turns(ConversationKey("web", "9", "5"), 9)) == 1
    assert await back_up(store, tmp_path / "c.gz") == 1
    assert (tmp_path / "c.gz").stat().st_mode & 0o777 == 0o600
    assert await store.forget(UserKey("web", "5")) == 2
    assert (await restore(store, tmp_path / "c.gz")).conversations == 1
    await store.close()
