"""kill -9 at every named point between an update's arrival and the record of its answer, on both stores.

What counts is what people see in their chats afterwards: each question answered once, in order, in the words that the
history has. Run by `make chaos`.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.waiting import letters
from conftest import until
from glmbot.errors import StoreUnavailable
from glmbot.keys import ConversationKey
from glmbot.store.base import Store
from glmbot.store.redis import RedisStore
from glmbot.store.sqlite import SqliteStore
from platforms.telegram_server import TOKEN, TelegramServer
from redis_server import Server

__all__ = [
    "POINTS",
    "Counts",
    "Zygote",
    "judge",
    "judge_conversations",
    "kill_matrix",
    "settled",
    "talk",
    "write_config",
]

HERE = Path(__file__).parent
GROUP = -5
STORE_POINTS = {
    "accept": (1, 2, 5), "claim": (1, 2), "mark": (1, 2, 3, 5, 8), "finish": (1, 2, 3), "delivered": (1, 2, 3),
    "lease": (1,), "settings": (1,), "answer": (1,), "epoch": (1,), "last_turns": (1,), "open_conversations": (1,),
}  # fmt: skip
TELEGRAM_POINTS = {
    "getUpdates": (1, 2), "sendMessage": (1, 2, 3, 4), "editMessageText": (1, 2, 4, 7), "editMessageMedia": (1,),
    "sendChatAction": (1,),
}  # fmt: skip
POINTS: list[tuple[str, str, int]] = [
    *((when, what, nth) for what, each in {**STORE_POINTS, **TELEGRAM_POINTS}.items() for nth in each
      for when in ("before", "after")),
    *(("before", "step", nth) for nth in (1, 2, 10, 40)),
    ("before", "generate", 1), ("before", "generate", 2), ("after", "generate", 1), ("after", "generate", 2),
]  # fmt: skip
_NOTICES = re.compile(r"The answer reached its limit of \d+ tokens\. /continue goes on\.")


@dataclass
class Counts:
    """As a user sees them, over all points. `leftovers`: messages that say nothing but "…"."""

    passed: int = 0
    failed: int = 0
    lost: int = 0
    doubled: int = 0
    misordered: int = 0
    leftovers: int = 0
    complaints: list[str] = field(default_factory=list)

    def add(self, name: str, wrong: Sequence[str]) -> None:
        self.passed += not wrong
        self.failed += bool(wrong)
        self.complaints += [f"{name}: {each}" for each in wrong]


class Zygote:
    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process
        self._last = 0
        self._awaited = False

    async def start(self) -> None:
        root = HERE.parent.parent
        paths = os.pathsep.join(map(str, (root, root / "tests", root / "adapters")))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "zygote.py"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=tempfile.gettempdir(),
            env={**os.environ, "PYTHONPATH": paths, "GLMBOT_TELEGRAM__TOKEN": TOKEN},
        )  # fmt: skip
        assert await self._line() == "ready"

    async def begin(self, config: Path, when: str = "never", what: str = "-", nth: int = 0) -> int:
        """Returns the process id of a new life."""
        self._last = int(await self._ask(f"{config} {when} {what} {nth}"))
        return self._last

    async def ended(self, within_s: float, process: int = 0) -> int | None:
        """The exit code of the last life, or of `process`; None when it still lives. Then ask for it again first."""
        assert self._process.stdin is not None
        if not self._awaited:
            self._process.stdin.write(f"wait {process or self._last}\n".encode())
        self._awaited = True
        try:
            async with asyncio.timeout(within_s):
                code = int(await self._line())
        except TimeoutError:
            return None
        self._awaited = False
        return code

    async def stop(self) -> None:
        self._process.terminate()
        await self._process.wait()

    async def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        return await self._line()

    async def _line(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()


def write_config(folder: Path, model: Path, telegram: TelegramServer, store: str, tokens: int = 150) -> Path:
    config = folder / "config.toml"
    config.write_text(
        f"[telegram]\napi_base_url = '{telegram.url}'\nedit_interval_s = 0.03\ngroup_edit_interval_s = 0.03\n"
        "poll_timeout_s = 2\n[access]\nopen_platforms = ['telegram']\n[sampling]\ntemperature = 0.0\n"
        f"[model]\npath = '{model}'\nmax_answer_tokens = {tokens}\nprecision = 'fp32'\nthreads = 1\n"
        f"[dialogue]\npending_per_user = 100\n[store]\nclaim_s = 4\n{store}"
    )
    return config


async def talk(telegram: TelegramServer) -> dict[ConversationKey, list[str]]:
    """What people say: two conversations with questions in a row, a command, a file, a group."""
    asked: dict[ConversationKey, list[str]] = {}

    async def say(key: ConversationKey, text: str, **where: Any) -> None:
        asked.setdefault(key, [])
        if not text.startswith("/"):
            asked[key].append(text.removeprefix("@glm_test_bot "))
        await telegram.say(text, **where)

    seven, eight = ConversationKey("telegram", "7"), ConversationKey("telegram", "8")
    await say(seven, "the first question", user=7)
    await say(seven, "the second question", user=7)
    await say(eight, "/export", user=8)
    await say(
        ConversationKey("telegram", str(GROUP), "9"),
        "@glm_test_bot a question in a group",
        user=9,
        chat=GROUP,
    )
    await say(eight, "a question of another person", user=8)
    await say(seven, "/whoami", user=7)
    return asked


async def settled(
    telegram: TelegramServer, store: Store, asked: dict[ConversationKey, list[str]], within_s: float = 30
) -> bool:
    """All is answered, and nothing is open any more."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while True:
                # Where servers change their roles, whoever looks into the store is cut off too.
                with suppress(StoreUnavailable):
                    open_still = telegram.unconfirmed or await store.unfinished("telegram")
                    if not open_still and await answered(store, asked):
                        return True
                await asyncio.sleep(0.05)
    return False


async def answered(store: Store, asked: dict[ConversationKey, list[str]]) -> bool:
    turns = [len(await store.last_turns(key, 100)) for key in asked]
    return all(kept >= len(questions) for kept, questions in zip(turns, asked.values(), strict=True))


async def judge(
    telegram: TelegramServer, store: Store, asked: dict[ConversationKey, list[str]], counts: Counts
) -> list[str]:
    """What is wrong with what stands in the chats, after `talk` and whatever else was `asked`."""
    wrong = await judge_conversations(telegram, store, asked, counts)
    if len(telegram.documents) != 1:
        wrong.append(f"{len(telegram.documents)} files")
        counts.doubled += len(telegram.documents) > 1
        counts.lost += not telegram.documents
    return wrong


async def judge_conversations(
    telegram: TelegramServer, store: Store, asked: dict[ConversationKey, list[str]], counts: Counts
) -> list[str]:
    wrong: list[str] = []
    for key, questions in asked.items():
        turns = await store.last_turns(key, 100)
        kept = [turn.question for turn in turns]
        counts.lost += len(set(questions) - set(kept))
        counts.doubled += len(kept) - len(set(kept))
        if kept != questions:
            counts.misordered += sorted(kept) == sorted(questions)
            wrong.append(f"{key} has {kept}")
        shown = [_NOTICES.sub("", text) for text in telegram.texts(int(key.chat))]
        commands = [text for text in shown if "You are telegram" in text or "kept of you" in text]
        words = letters("".join(text for text in shown if text not in commands))
        said = letters("".join(turn.answer for turn in turns))
        if words != said:
            kind = "lost" if len(words) < len(said) else "doubled" if len(words) > len(said) else "misordered"
            setattr(counts, kind, getattr(counts, kind) + 1)
            wrong.append(f"{key} shows {shown}, and its history is {[turn.answer for turn in turns]}")
        expected = {7: 1, 8: 1, GROUP: 0}.get(int(key.chat), 0)
        if len(commands) != expected:
            kind = "lost" if len(commands) < expected else "doubled"
            setattr(counts, kind, getattr(counts, kind) + 1)
            wrong.append(f"{key}: {len(commands)} answers to a command: {shown}")
    counts.leftovers += sum(
        message.get("text") == "…" for chat in telegram.messages.values() for message in chat.values()
    )
    return [*wrong, *telegram.violations]


async def kill_matrix(
    zygote: Zygote, model: Path, kind: str, points: Sequence[tuple[str, str, int]]
) -> Counts:
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        await server.start()
        for number, point in enumerate(points):
            life = Path(folder) / f"{kind}-{number}"
            life.mkdir()
            await _one(zygote, model, kind, server.url, life, point, counts)
        await server.stop()
    return counts


async def _one(
    zygote: Zygote,
    model: Path,
    kind: str,
    url: str,
    folder: Path,
    point: tuple[str, str, int],
    counts: Counts,
) -> None:
    name = f"{kind}: kill {point[0]} {point[1]} {point[2]}"
    telegram = TelegramServer(seconds_per_message=0.01, burst=8)
    await telegram.start()
    path = folder / "store.sqlite3"
    sections = {
        "sqlite": f"path = '{path}'\n",
        "redis": f"kind = 'redis'\nurl = '{url}'\nprefix = '{folder.name}'\njournal_path = '{folder}/journal.sqlite3'\n",
    }
    config = write_config(folder, model, telegram, sections[kind])
    store: Store = SqliteStore(path) if kind == "sqlite" else RedisStore(url, prefix=folder.name)
    asked = await talk(telegram)
    process = await zygote.begin(config, *point)
    code = await zygote.ended(25)
    if code != -signal.SIGKILL:
        counts.add(name, [f"never came there (exit code {code}): {_log_of(folder)}"])
        if code is None:
            os.kill(process, signal.SIGKILL)
            await zygote.ended(20)
    else:
        began = _log_of(folder).count("is listening")
        process = await zygote.begin(config)
        await store.open()
        calm = await settled(telegram, store, asked)
        wrong = [] if calm else [f"not settled: {_log_of(folder)}"]
        wrong += await judge(telegram, store, asked, counts)
        await store.close()
        await until(lambda: _log_of(folder).count("is listening") > began)
        os.kill(process, signal.SIGTERM)
        if (code := await zygote.ended(20)) != 0:
            wrong.append(f"the second life ended with {code}: {_log_of(folder)}")
        if code is None:
            os.kill(process, signal.SIGKILL)
            await zygote.ended(20)
        counts.add(name, wrong)
    await telegram.stop()


def _log_of(folder: Path) -> str:
    log = folder / "log.txt"
    return log.read_text()[-3000:] if log.exists() else ""
