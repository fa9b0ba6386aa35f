"""Whatever a backup holds, all of it is restored, or nothing; and what was restored can be read."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.inputs import changed, fuzz, nasty_text
from glmbot.backup import restore
from glmbot.errors import BackupError
from glmbot.keys import UserKey
from glmbot.store.base import Store
from glmbot.store.sqlite import SqliteStore

TURN = {
    "id": 1,
    "user": "telegram:7",
    "question": "why?",
    "answer": "blue",
    "at": 1.0,
    "parent": 0,
    "ref": "1",
}
LINES: list[dict[str, Any]] = [
    {"conversation": "telegram:7:0:0", "head": 2, "turns": [TURN, {**TURN, "id": 2, "parent": 1, "ref": ""}]},
    {"owner": "telegram:7", "settings": {"limit": "5", "language": "zh"}},
    {"owner": "telegram:chat:-5", "settings": {"mode": "all"}},
]
HEADER: dict[str, Any] = {"glmbot": "backup", "version": 1}
texts = changed(LINES).map(json.dumps) | nasty_text.map(json.dumps)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(texts, max_size=4))
    header = draw(
        st.sampled_from([json.dumps(HEADER)] * 6 + ["{}", '{"glmbot": "backup", "version": 1e999}', ""])
    )
    end = {"end": draw(st.sampled_from([len(lines)] * 6 + [0, -1, None, "2", 1e308]))}
    content = gzip.compress("\n".join([header, *lines, json.dumps(end)]).encode(), 1)
    return draw(st.sampled_from([content] * 8 + [content[:-7], content + b"x", b""]))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store]:
    made = SqliteStore(tmp_path / "restored.sqlite3")
    await made.open()
    yield made
    await made.close()


@pytest.mark.timeout(3600)
@fuzz
@given(files())
async def test_any_backup_is_restored_whole_or_refused_in_words(
    store: Store, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "tried.gz"
    path.write_bytes(content)

    async def kept() -> tuple[list[Any], Any]:
        return [each async for each in store.everything()], await store.all_settings()

    before, words = await kept(), ""
    try:
        await restore(store, path)
    except BackupError as error:
        words = str(error)
    after = await kept()
    await store.export(UserKey("telegram", "7"))
    if words:
        assert "tried.gz" in words
        assert len(words) < 2_000
        assert after == before
