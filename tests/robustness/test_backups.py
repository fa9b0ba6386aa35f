"""The worst values in every field of a backup, and files that are none: words, and all or nothing; and the bot that
answers from the same file meanwhile goes on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from glmbot.backup import back_up, restore
from glmbot.errors import BackupError, StoreError
from glmbot.keys import ChatKey, UserKey
from glmbot.store.base import Store
from glmbot.store.records import StoredAnswer
from glmbot.store.sqlite import SqliteStore
from robustness.talk import PLATFORM, said_by, talking
from robustness.values import WORST, Case, cases, sampled
from robustness.watch import Watch, watching

_USER = UserKey(PLATFORM, "7")
_BOMB = 100_000_000


async def lines_of_a_backup(folder: Path) -> list[str]:
    """As it is written today."""
    store = SqliteStore(folder / "whole.sqlite3")
    await store.open()
    for number in (1, 2):
        asked = said_by(int(_USER.id), f"{number}", "why?")
        await store.accept(asked, 1.0)
        await store.finish(asked, StoredAnswer("blue", "final", ""), question="why?", at=1.0, ref=f"{number}")
        await store.delivered(asked, [f"m{number}"])
    await store.set_setting(_USER, "limit", "5")
    await store.set_setting(ChatKey(PLATFORM, "-5"), "mode", "all")
    await back_up(store, folder / "whole.gz")
    await store.close()
    lines = gzip.decompress((folder / "whole.gz").read_bytes()).decode().splitlines()
    assert len(lines) == 5, "a header, a conversation, the settings of two, and the end"
    return lines


async def everything(store: Store) -> tuple[list[Any], Any]:
    return [each async for each in store.everything()], await store.all_settings()


async def bring_back(watch: Watch, path: Path) -> None:
    """Into a store of its own: all of it, or nothing and why; and what came back can be read and written again."""
    fresh = SqliteStore(path.with_suffix(".sqlite3"))
    await fresh.open()
    try:
        await restore(fresh, path)
    except (BackupError, StoreError) as error:
        if str(path) not in str(error) or len(str(error)) > 2_000:
            watch.blame(f"words: {str(error)[:500]}")
        if await everything(fresh) != ([], {}):
            watch.blame("was refused, and restored in part")
    else:
        await back_up(fresh, path.with_suffix(".again"))
        for owner in (_USER, ChatKey(PLATFORM, "-5")):
            await fresh.settings(owner)
    await fresh.close()
    for file in path.parent.glob(f"{path.stem}*"):
        file.unlink()


@pytest.mark.timeout(3600)
async def test_the_worst_backups_restore_all_or_nothing_and_harm_nobody_else(
    tmp_path: Path, sqlite_store: Store
) -> None:
    lines = await lines_of_a_backup(tmp_path)
    found = [
        (number, case)
        for number, line in enumerate(lines)
        for case in sampled(cases(json.loads(line), [name for name in WORST if "huge" not in name]), 15)
    ]
    async with talking(sqlite_store) as talk, watching(talk.somebody_else) as watch:
        for number, case in found:
            path = tmp_path / "tried.gz"
            changed = [*lines[:number], _one_line(case), *lines[number + 1 :]]
            path.write_bytes(gzip.compress("\n".join(changed).encode(), 1))
            with watch.trying(f"line {number + 1}: {case}"):
                try:
                    await bring_back(watch, path)
                except Exception as error:
                    watch.blame(f"{type(error).__name__}: {error}")


def _one_line(case: Case) -> str:
    return case.text.replace("\n", " ")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "no gzip",
        "cut",
        "one endless line",
        "many empty lines",
        "many settings",
        "NUL",
        "no UTF-8",
        "twice",
    ],
)
async def test_a_file_that_is_no_backup_is_refused_in_words(tmp_path: Path, kind: str) -> None:
    lines = await lines_of_a_backup(tmp_path)
    whole = "\n".join(lines).encode()
    many = [
        lines[0],
        *[json.dumps({"owner": f"telegram:{n}", "settings": {"limit": "5"}}) for n in range(20_000)],
        '{"end": 7}',
    ]
    content = {
        "empty": b"", "no gzip": whole, "cut": gzip.compress(whole)[:-9],
        "one endless line": gzip.compress(lines[0].encode() + b'\n{"owner": "' + b" " * _BOMB, 1),
        "many empty lines": gzip.compress(lines[0].encode() + b"\n" * 2_000_000, 1),
        "many settings": gzip.compress("\n".join(many).encode(), 1),
        "NUL": gzip.compress(b"\x00" * 1000), "no UTF-8": gzip.compress(whole + b"\xff\xfe"),
        "twice": gzip.compress(whole) * 2,
    }  # fmt: skip
    path = tmp_path / "tried.gz"
    path.write_bytes(content[kind])
    fresh = SqliteStore(tmp_path / "fresh.sqlite3")
    await fresh.open()
    with pytest.raises(BackupError, match=r"tried\.gz"):
        await restore(fresh, path)
    assert await everything(fresh) == ([], {})
    await fresh.close()
