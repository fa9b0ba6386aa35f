"""kill -9 in the middle of what a store does in many small steps: forgetting a person, moving a chat, resetting.

The next process ends what was begun. Then all of it is there or nothing is, and other people's words are whole.
Run by `make chaos`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "adapters")]

from chaos.kills import Counts  # noqa: E402
from glmbot.keys import ChatKey, ConversationKey, UserKey  # noqa: E402
from glmbot.store.base import Store  # noqa: E402
from glmbot.store.records import StoredConversation, Turn  # noqa: E402
from glmbot.store.redis import RedisStore  # noqa: E402
from glmbot.store.redis_connection import RedisConnection  # noqa: E402
from glmbot.store.sqlite import SqliteStore  # noqa: E402
from glmbot.store.sqlite_connection import SqliteConnection  # noqa: E402
from redis_server import Server  # noqa: E402

__all__ = ["interrupted_work"]

WORK = ("forget", "move", "reset")
STEPS = (1, 2, 3, 5, 8, 13, 21, 34)
TURNS = 130
NOW = 1_700_000_000.0
PERSON, OTHER = UserKey("telegram", "7"), UserKey("telegram", "8")
GROUP, SUPERGROUP = ChatKey("telegram", "-5"), ChatKey("telegram", "-1005")


async def interrupted_work(only: str = "") -> Counts:
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        await server.start()
        for kind in ("sqlite", "redis"):
            for work in WORK:
                for step in STEPS:
                    name = f"{kind}: kill in step {step} of {work}"
                    if only in name:
                        life = Path(folder) / f"{kind}-{work}-{step}"
                        life.mkdir()
                        await _one(name, kind, server.url, life, work, step, counts)
        await server.stop()
    return counts


async def _one(name: str, kind: str, url: str, folder: Path, work: str, step: int, counts: Counts) -> None:
    store = _store(kind, url, folder)
    await store.open()
    said = await _fill(store)
    await store.close()
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, kind, url, str(folder), work, str(step), stderr=asyncio.subprocess.PIPE
    )
    words = (await child.communicate())[1].decode()
    if child.returncode not in (0, -signal.SIGKILL):
        counts.add(name, [f"ended with {child.returncode}: {words[-1500:]}"])
        return
    store = _store(kind, url, folder)
    await store.open()
    if work == "move":
        # The platform tells of it again, since the news was not confirmed.
        await _do(store, work)
    while await store.tidy(NOW + 10):
        pass
    counts.add(name, await _wrong(store, work, said))
    await store.close()


def _store(kind: str, url: str, folder: Path) -> Store:
    return SqliteStore(folder / "store.sqlite3") if kind == "sqlite" else RedisStore(url, prefix=folder.name)


def _where(user: UserKey, chat: ChatKey = GROUP) -> ConversationKey:
    return ConversationKey("telegram", chat.id, user.id)


async def _fill(store: Store) -> dict[UserKey, list[str]]:
    said: dict[UserKey, list[str]] = {}
    for user in (PERSON, OTHER):
        said[user] = [f"{user.id} asks {number}" for number in range(TURNS)]
        turns = [
            Turn(number, user, text, "an answer", NOW, number - 1, str(1000 * int(user.id) + number))
            for number, text in enumerate(said[user], 1)
        ]
        await store.put(StoredConversation(_where(user), turns, TURNS))
        await store.set_setting(user, "language", "zh")
    await store.set_setting(GROUP, "mode", "all")
    return said


async def _do(store: Store, work: str) -> None:
    if work == "forget":
        await store.forget(PERSON)
    elif work == "move":
        await store.move(GROUP, SUPERGROUP, NOW + 1)
    else:
        await store.reset(_where(PERSON))


async def _wrong(store: Store, work: str, said: dict[UserKey, list[str]]) -> list[str]:
    """What is not as it has to be after the next process has ended the work."""
    chat = SUPERGROUP if work == "move" else GROUP
    kept = {
        user: [turn.question for turn in await store.last_turns(_where(user, chat), 10 * TURNS)]
        for user in (PERSON, OTHER)
    }
    wrong: list[str] = []
    if kept[OTHER] != said[OTHER]:
        wrong.append(f"another person's history has {len(kept[OTHER])} of {TURNS} turns")
    whole = kept[PERSON] == said[PERSON]
    if not whole and (work == "move" or kept[PERSON]):
        wrong.append(f"{len(kept[PERSON])} of {TURNS} turns are there")
    settings = dict(await store.settings(PERSON))
    if work == "forget" and bool(settings) is not whole:
        wrong.append(f"settings {settings} beside {len(kept[PERSON])} turns")
    if work == "move":
        if await store.last_turns(_where(PERSON), 1) or await store.settings(GROUP):
            wrong.append("something stayed under the old key")
        if dict(await store.settings(SUPERGROUP)) != {"mode": "all"}:
            wrong.append("the group's settings did not move")
    return wrong


def _arm(step: int) -> None:
    left = step

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        async def called(*args: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return await method(*args, **named)

        return called

    SqliteConnection.write = watched(SqliteConnection.write)
    RedisConnection.ask = watched(RedisConnection.ask)


async def _live(kind: str, url: str, folder: str, work: str, step: str) -> None:
    store = _store(kind, url, Path(folder))
    await store.open()
    _arm(int(step))
    await _do(store, work)


if __name__ == "__main__":
    asyncio.run(_live(*sys.argv[1:]))
