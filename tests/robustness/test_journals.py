"""The worst values in every field of a journal's steps: what can't be told is left out with a word, what others did is
told to Redis all the same."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from glmbot.store.journal import JournaledRedisStore
from glmbot.store.message_json import message_to_json
from glmbot.store.records import StoredAnswer
from redis_server import Server
from robustness.talk import said_by, talking
from robustness.values import cases, sampled
from robustness.watch import watching


async def steps_of_an_outage(folder: Path) -> list[Any]:
    """Every kind of step, as today's journal writes them."""
    server = Server(folder / "redis")
    await server.start()
    store = JournaledRedisStore(server.url, folder / "whole.sqlite3", timeout_s=1.0)
    await store.open()
    asked = said_by(7, "1", "why?", origin={"query": "9"})
    await server.kill()
    await store.accept(asked, 1.0)
    await store.mark(asked, {"sent": "5"})
    await store.finish(asked, StoredAnswer("blue", "final", ""), question="why?", at=1.0, ref="1")
    await store.delivered(asked, ["m1"])
    await store.close()
    with closing(sqlite3.connect(folder / "whole.sqlite3")) as db:
        return [json.loads(row[0]) for row in db.execute("SELECT step FROM steps ORDER BY id")]


def journal_of(path: Path, steps: list[str]) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE steps (id INTEGER PRIMARY KEY AUTOINCREMENT, step TEXT)")
        db.executemany("INSERT INTO steps (step) VALUES (?)", [(step,) for step in steps])
        db.commit()


@pytest.mark.timeout(3600)
async def test_the_worst_steps_harm_nobody_else(tmp_path: Path, redis_url: str) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian package redis-server)")
    steps = await steps_of_an_outage(tmp_path)
    assert {step["do"] for step in steps} == {"accept", "mark", "finish", "delivered"}
    others = said_by(99, "others", "I was there too")
    good = json.dumps({"do": "accept", "message": message_to_json(others), "at": 2.0})
    running = JournaledRedisStore(redis_url, tmp_path / "running.sqlite3", prefix=f"running-{time.time_ns()}")
    await running.open()
    async with talking(running) as talk, watching(talk.somebody_else) as watch:
        for step in steps:
            for case in sampled(cases(step), 25):
                path = tmp_path / "tried.sqlite3"
                journal_of(path, [case.text, good])
                store = JournaledRedisStore(redis_url, path, prefix=f"tried-{time.time_ns()}")
                with watch.trying(f"{step['do']}: {case}"):
                    try:
                        await store.open()
                        told = [entry.message.update_id for entry in await store.unfinished("telegram")]
                        if "others" not in told or store.journaled:
                            watch.blame(f"told: {told}, left: {store.journaled}")
                        await store.close()
                    except Exception as error:
                        watch.blame(f"{type(error).__name__}: {error}")
    await running.close()
