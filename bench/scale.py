"""Both stores with many people and turns: how long each step of a message takes while somebody is being forgotten.

    .venv/bin/python bench/scale.py [sqlite] [redis] [--people 200000] [--turns 1000000] [--rounds 400]

Fills a store, then forgets a person with a tenth of all turns in a group, while messages of others go through
every step. Prints JSON: milliseconds of each step (median, 99th percentile, longest), the longest that the
forgetting held the store at a time, and what the disk takes to write 4 kB durably: no durable step can be faster.
Needs redis-server on the path. Ends with 1 when a step's 99th percentile is above 10 ms and above what
the disk takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from glmbot.dialogue.access import Access
from glmbot.dialogue.people import People
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.base import Store
from glmbot.store.records import StoredAnswer
from glmbot.store.redis import RedisStore
from glmbot.store.sqlite import SqliteStore
from redis_server import Server

_LIMIT_MS = 10.0
_FIRST = 1_000_000
_GONE = UserKey("telegram", "500")
_GROUP = ConversationKey("telegram", "-77")
_QUESTION, _ANSWER = "a question of some length " * 3, "an answer that is longer than the question " * 10


def _turns(people: int, turns: int) -> Iterator[tuple[str, int, str, float, int]]:
    """Conversation, id, user, time, parent: a group where two people speak in turn, and everybody at home."""
    now = time.time()
    gone = turns // 10
    for number in range(1, gone + gone // 10 + 1):
        user = "telegram:600" if number % 11 == 0 else str(_GONE)
        yield str(_GROUP), number, user, now - 2e6 + number, number - 1
    left = turns - gone - gone // 10
    for number in range(left):
        person, at = _FIRST + number % people, number // people + 1
        yield f"telegram:{person}:0:0", at, f"telegram:{person}", now - 1e6 + number / 10, at - 1


async def _filled_sqlite(folder: Path, people: int, turns: int) -> Store:
    path = folder / "store.sqlite3"
    store = SqliteStore(path)
    await store.open()
    await store.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -200000")
    db.executemany(
        "INSERT INTO turns (conversation, id, user, question, answer, at, parent) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (name, at, user, _QUESTION, _ANSWER, when, parent)
            for name, at, user, when, parent in _turns(people, turns)
        ),
    )
    db.execute("INSERT INTO epochs SELECT conversation, 0, MAX(id), MAX(id) FROM turns GROUP BY conversation")
    db.executemany(
        "INSERT INTO settings VALUES (?, 'access', 'user')",
        ((f"telegram:{_FIRST + number}",) for number in range(people)),
    )
    db.executemany(
        "INSERT INTO inbox (platform, update_id, accepted_at) VALUES ('telegram', ?, ?)",
        ((f"old {number}", time.time() - 86400) for number in range(turns)),
    )
    db.commit()
    db.close()
    # What filling wrote is on the disk before anything is measured.
    os.sync()
    store = SqliteStore(path, turns_kept_s=365 * 86400.0)
    await store.open()
    return store


def _commands(people: int, turns: int) -> Iterator[tuple[object, ...]]:
    yield "SET", "glmbot:layout", "2"
    yield "SADD", "glmbot:platforms", "telegram"
    body = json.dumps({"question": _QUESTION, "answer": _ANSWER, "ref": ""})
    for name, at, user, when, parent in _turns(people, turns):
        key = f"glmbot:{{{name}}}"
        yield "HSET", f"{key}:tree", at, f"{parent} {user} {when!r}\n{body}"
        yield "ZADD", f"{key}:children", parent, at
        yield "ZADD", f"{key}:turns:{user}", when, at
        yield "ZADD", f"{key}:seen", when, f"old {name} {at}"
        yield "SADD", f"{key}:people", user
        yield "HSET", f"{key}:meta", "last_id", at, "head", at
        yield "ZADD", f"glmbot:{{{user}}}:places", when, name
        yield "ZADD", "glmbot:recent:telegram", when, name
        yield "ZADD", "glmbot:ages", "NX", when, name
    for number in range(people):
        user = f"telegram:{_FIRST + number}"
        yield "HSET", f"glmbot:{{{user}}}:settings", "access", "user"
        yield "ZADD", "glmbot:everyone", 0, user
        yield "ZADD", "glmbot:persons", 0, user


async def _filled_redis(port: int, people: int, turns: int) -> Store:
    await asyncio.to_thread(_pipe, port, people, turns)
    store = RedisStore(f"redis://127.0.0.1:{port}/0", turns_kept_s=365 * 86400.0)
    await store.open()
    return store


def _pipe(port: int, people: int, turns: int) -> None:
    words = ["redis-cli", "-p", str(port), "--pipe"]
    pipe = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert pipe.stdin is not None
    for words in _commands(people, turns):
        parts = [str(word).encode() for word in words]
        pipe.stdin.write(
            b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        )
    pipe.stdin.close()
    pipe.wait()


class Timed:
    def __init__(self) -> None:
        self.took: dict[str, list[float]] = defaultdict(list)

    async def __call__(self, name: str, work: Awaitable[Any]) -> Any:
        began = time.perf_counter()
        done = await work
        self.took[name].append((time.perf_counter() - began) * 1000)
        return done

    def report(self) -> dict[str, dict[str, float]]:
        return {name: _spread(times) for name, times in self.took.items()}


def _spread(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {
        "median": round(times[len(times) // 2], 2),
        "p99": round(times[min(len(times) - 1, int(len(times) * 0.99))], 2),
        "longest": round(times[-1], 2),
    }


async def _message(store: Store, timed: Timed, number: int) -> None:
    """One message from its arrival to its last word, as the dialogue handles it."""
    person = _FIRST + number
    user, home = UserKey("telegram", str(person)), ConversationKey("telegram", str(person))
    message = Message(f"new {number}", home, user, _QUESTION)
    await timed("accept", store.accept(message, time.time()))
    await timed("claim", store.claim(home, 20.0))
    await timed("settings", store.settings(user))
    await timed("count", store.count(message.update_id, {str(user): 100, "all": 10**6}, time.time()))
    await timed("last_turns", store.last_turns(home, 21))
    await timed("mark", store.mark(message, {"tries": "1"}))
    answer = StoredAnswer(_ANSWER, "final", "")
    epoch = await timed("epoch", store.epoch(home))
    await timed("finish", store.finish(
        message, answer, question=_QUESTION, epoch=epoch, at=time.time(), ref=f"q{number}"
    ))  # fmt: skip
    await timed("delivered", store.delivered(message, [f"a{number}"]))
    await timed("conversation list page", store.conversation_summaries(user, 50))
    await timed("history page", store.last_turns(_GROUP if number % 2 else home, 50))


async def _others(store: Store, timed: Timed, number: int) -> None:
    """What is not of one message, and must not be in its way either."""
    stranger = Message(
        f"s{number}",
        ConversationKey("telegram", str(number + 1)),
        UserKey("telegram", str(number + 1)),
        "hi",
    )
    people = People(store, Access(), time.time)
    await timed("a stranger's code", people.code_for(stranger))
    await timed("overview page", people.listed(50, f"telegram:{_FIRST + number * 7}"))
    await timed("backlog", store.backlog())


async def measure(store: Store, rounds: int, holds: Callable[[], float]) -> dict[str, Any]:
    alone, beside = Timed(), Timed()
    for number in range(rounds // 4):
        await _message(store, alone, number)
        await _others(store, alone, number)
    began, done = time.perf_counter(), rounds // 4
    forgetting = asyncio.create_task(store.forget(_GONE))
    while not forgetting.done() or done < rounds:
        await _message(store, beside, done)
        if done % 4 == 0:
            await _others(store, beside, done)
        done += 1
        if forgetting.done() and done >= rounds:
            break
    removed = await forgetting
    return {
        "turns forgotten": removed,
        "forget, s": round(time.perf_counter() - began, 1),
        "forget's longest hold, ms": round(holds(), 2),
        "messages meanwhile": done - rounds // 4,
        "alone, ms": alone.report(),
        "while somebody is forgotten, ms": beside.report(),
    }


def _disk(folder: Path) -> dict[str, float]:
    """What a durable write of 4 kB takes here."""
    times: list[float] = []
    with (folder / "disk").open("wb") as file:
        for _ in range(300):
            began = time.perf_counter()
            file.write(os.urandom(4096))
            file.flush()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return _spread(times)


async def sqlite(people: int, turns: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        store = await _filled_sqlite(Path(name), people, turns)
        assert isinstance(store, SqliteStore)
        held = [0.0]
        connection = store._connection  # pyright: ignore[reportPrivateUsage]
        removal = connection.write

        async def write(step: Callable[[sqlite3.Connection], Any], *, durable: bool = True) -> Any:
            def timed(db: sqlite3.Connection) -> Any:
                began = time.perf_counter()
                try:
                    return step(db)
                finally:
                    if not durable:
                        held[0] = max(held[0], (time.perf_counter() - began) * 1000)

            return await removal(timed, durable=durable)

        connection.write = write  # pyright: ignore[reportAttributeAccessIssue]
        found = await measure(store, rounds, lambda: held[0])
        await store.close()
        return {**found, "a durable write of 4 kB, ms": _disk(Path(name))}


async def redis(people: int, turns: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        server = Server(Path(name) / "redis", "--appendonly", "no")
        await server.start()
        try:
            store = await _filled_redis(server.port, people, turns)
            assert isinstance(store, RedisStore)
            client, longest = store._redis, [0.0]  # pyright: ignore[reportPrivateUsage]
            await client.config_set("slowlog-log-slower-than", 1000)
            await client.config_set("slowlog-max-len", 10_000)
            await client.slowlog_reset()
            found = await measure(store, rounds, lambda: longest[0])
            slow = await client.slowlog_get(10_000)
            longest[0] = max((entry["duration"] / 1000 for entry in slow), default=1.0)
            await store.close()
        finally:
            await server.stop()
        return {**found, "forget's longest hold, ms": round(longest[0], 2)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("stores", nargs="*", default=["sqlite", "redis"])
    parser.add_argument("--people", type=int, default=200_000)
    parser.add_argument("--turns", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=400)
    given = parser.parse_args()
    kinds = {"sqlite": sqlite, "redis": redis}
    result: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {_processor()}, load {os.getloadavg()[0]:.1f}",
        "people": given.people,
        "turns": given.turns,
    }
    above: list[str] = []
    for name in given.stores:
        if name == "redis" and shutil.which("redis-server") is None:
            raise SystemExit("redis-server is not on the path")
        found = result[name] = asyncio.run(kinds[name](given.people, given.turns, given.rounds))
        floor = found.get("a durable write of 4 kB, ms", {}).get("p99", 0.0)
        steps = found["while somebody is forgotten, ms"]
        above += [f"{name}: {step}" for step, times in steps.items() if times["p99"] > max(_LIMIT_MS, floor)]
    result["above 10 ms at the 99th percentile"] = above
    print(json.dumps(result, indent=2))
    return 1 if above else 0


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


if __name__ == "__main__":
    sys.exit(main())
