"""Wrote what lies beside it, run with the code of commit ff5ce4b: what that release keeps, plain and encrypted.

PYTHONPATH=CHECKOUT python tests/data/ff5ce4b/write.py redis://127.0.0.1:PORT/0
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

from glmbot.backup import back_up
from glmbot.messages import ChatKey, ConversationKey, Message, UserKey
from glmbot.store.base import Store, StoredAnswer
from glmbot.store.redis import RedisStore
from glmbot.store.sealed import sealed
from glmbot.store.sqlite import SqliteStore

HERE = Path(__file__).parent
# Of these files and of nothing else.
KEY = "Z2xtYm90IHRlc3QgZGF0YSBvZiBmZjVjZTRiISEhISE="


async def turn(store: Store, number: int, conversation: ConversationKey, user: UserKey, **more: Any) -> None:
    message = Message(f"u{number}", conversation, user, f"question {number}")
    await store.accept(message, 1000.0 + number)
    answer = StoredAnswer(f"answer {number}", "final", "")
    await store.finish(message, answer, question=message.text, at=1000.0 + number, ref=f"q{number}", **more)
    await store.delivered(message, [f"a{number}", f"b{number}"])


async def fill(store: Store) -> None:
    ann, bob = UserKey("telegram", 11), UserKey("telegram", 22)
    home, group = ConversationKey("telegram", 11), ConversationKey("telegram", -5, 11, 3)
    for number in (1, 2, 3):
        await turn(store, number, home, ann)
    await turn(store, 4, home, ann, parent=1)
    await turn(store, 5, group, ann)
    await turn(store, 6, ConversationKey("telegram", -5, 22, 3), bob)
    dm, channel = ConversationKey("discord", 900), ConversationKey("discord", 901, 31)
    await turn(store, 7, dm, UserKey("discord", 31))
    await turn(store, 8, channel, UserKey("discord", 31))
    await turn(store, 9, ConversationKey("web", 77, 5), UserKey("web", 5))
    await turn(store, 10, ConversationKey("web", 78, 5), UserKey("web", 5))
    await turn(store, 11, ConversationKey("web", 78, 6), UserKey("web", 6))
    for platform, chat in (("telegram", 11), ("telegram", -5), ("discord", 900), ("discord", 901), ("web", 77),
                           ("web", 78), ("web", 79)):  # fmt: skip
        await store.set_setting(ChatKey(platform, chat), "prompt", f"prompt of {platform} {chat}")
    root, terminal = UserKey("console", 0), ConversationKey("console", 0)
    await turn(store, 12, terminal, root)
    await store.set_setting(ChatKey("console", 0), "prompt", "prompt of root")
    await store.set_setting(root, "language", "en")
    await store.set_setting(ChatKey("telegram", -5), "mode", "all")
    await store.set_setting(ann, "language", "zh")
    await store.set_setting(UserKey("telegram", 33), "pairing", "ABCDEFGH 5000.0")
    await store.set_setting(UserKey("telegram", 33), "name", "sealed:a stranger")
    open_, dead = (
        Message("u20", home, ann, "waits", origin={"chat": "11"}),
        Message("u21", group, ann, "failed"),
    )
    for message in (open_, dead):
        await store.accept(message, 2000.0)
    await store.mark(open_, {"sent": "[1, 2]", "tries": "1"})
    await store.finish(open_, StoredAnswer("half shown", "final", ""), question="waits", at=2001.0)
    await store.set_aside(dead, "refused five times", 2002.0)
    await store.count("telegram:u20", {"telegram:11": 5, "telegram:chat:-5": 9}, 2000.0)


async def main(url: str) -> None:
    for name, keys in (("store", []), ("sealed_store", [KEY])):
        path = Path(tempfile.mkdtemp()) / "store.sqlite3"
        store = sealed(SqliteStore(path), keys)
        await store.open()
        await fill(store)
        await back_up(store, HERE / f"{name}.backup")
        await store.close()
        with sqlite3.connect(path) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            lines = [*db.iterdump(), f"PRAGMA user_version = {version};"]
        (HERE / f"{name}.sql").write_text("\n".join(lines) + "\n")
    for name, keys in (("redis", []), ("sealed_redis", [KEY])):
        redis = RedisStore(url, prefix=f"old-{name}")
        store = sealed(redis, keys)
        await store.open()
        await fill(store)
        found = await _kept(redis._redis, f"old-{name}:")
        (HERE / f"{name}.json").write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
        await store.close()


async def _kept(client: Any, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in sorted(await client.keys(f"{prefix}*")):
        kind = await client.type(key)
        read: dict[str, Any] = {
            "hash": client.hgetall, "set": client.smembers, "string": client.get,
            "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        }  # fmt: skip
        if kind in read:
            value = await read[kind](key)
            found[key.replace(prefix, "old:", 1)] = [kind, sorted(value) if kind == "set" else value]
    return found


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
