"""kill -9 at every named point between an update's arrival and the record of its answer, on both stores.

What counts is what people see in their chats afterwards: each question answered once, in order, in the words that the
history has. Run by `make chaos`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from adapters.waiting import letters
from chaos.people import LINES, SECRETS, Line, People, TelegramPeople, asked_in
from conftest import until
from glmbot.errors import StoreUnavailable
from glmbot.keys import ConversationKey
from glmbot.store.base import Store
from glmbot.store.redis import RedisStore
from glmbot.store.sqlite import SqliteStore
from redis_server import Server

__all__ = [
    "Counts",
    "Point",
    "Zygote",
    "judge",
    "judge_conversations",
    "kill_matrix",
    "points_of",
    "say_all",
    "settled",
    "write_config",
]

HERE = Path(__file__).parent
STORE_POINTS = {
    "accept": (1, 2, 5), "claim": (1, 2), "mark": (1, 2, 3, 5, 8), "finish": (1, 2, 3), "delivered": (1, 2, 3),
    "lease": (1,), "settings": (1,), "answer": (1,), "epoch": (1,), "last_turns": (1,), "open_conversations": (1,),
}  # fmt: skip
# On a busy machine; where all is well nothing takes so long.
_COMES_S, _SETTLES_S = 90.0, 90.0
# Of a platform beside Telegram: what touches delivery.
DELIVERY_POINTS = {"accept": (1,), "mark": (1, 3), "finish": (2,), "delivered": (1, 2)}
Point = tuple[str, str, int]


@dataclass
class Counts:
    """As a user sees them, over all points. `leftovers`: messages that say nothing but "…"; `repeats`: what stands
    there twice, or may, and says so."""

    passed: int = 0
    failed: int = 0
    lost: int = 0
    doubled: int = 0
    misordered: int = 0
    leftovers: int = 0
    repeats: int = 0
    complaints: list[str] = field(default_factory=list)

    def add(self, name: str, wrong: Sequence[str]) -> None:
        self.passed += not wrong
        self.failed += bool(wrong)
        self.complaints += [f"{name}: {each}" for each in wrong]


def points_of(people: type[People], only: str = "") -> list[Point]:
    """At which the bot is killed."""
    of_store = STORE_POINTS if people is TelegramPeople else DELIVERY_POINTS
    points: list[Point] = [
        (when, what, nth)
        for what, each in {**of_store, **people.points}.items()
        for nth in each
        for when in ("before", "after")
    ]
    if people is TelegramPeople:
        points += [("before", "step", nth) for nth in (1, 2, 10, 40)]
        points += [(when, "generate", nth) for when in ("before", "after") for nth in (1, 2)]
    return [point for point in points if only in " ".join(map(str, (people.platform, *point)))]


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
            env={**os.environ, "PYTHONPATH": paths, **SECRETS},
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


def write_config(folder: Path, model: Path, people: People, store: str, tokens: int = 150) -> Path:
    config = folder / "config.toml"
    config.write_text(
        f"{people.section()}[access]\nopen_platforms = ['{people.platform}']\n[sampling]\ntemperature = 0.0\n"
        f"[model]\npath = '{model}'\nmax_answer_tokens = {tokens}\nprecision = 'fp32'\nthreads = 1\n"
        f"[dialogue]\npending_per_user = 100\n[store]\nclaim_s = 4\n{store}"
    )
    return config


async def say_all(people: People, lines: Sequence[Line]) -> None:
    """Two conversations with questions in a row, a command, a file, a group."""
    for line in lines:
        await people.say(line)


async def settled(
    people: People, store: Store, asked: dict[ConversationKey, list[str]], within_s: float = _SETTLES_S
) -> bool:
    """All is answered, and nothing is open any more."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while True:
                # Where servers change their roles, whoever looks into the store is cut off too.
                with suppress(StoreUnavailable):
                    open_still = people.untaken or await store.unfinished(people.platform)
                    if not open_still and await answered(store, asked):
                        return True
                await asyncio.sleep(0.05)
    return False


async def answered(store: Store, asked: dict[ConversationKey, list[str]]) -> bool:
    turns = [len(await store.last_turns(key, 100)) for key in asked]
    return all(kept >= len(questions) for kept, questions in zip(turns, asked.values(), strict=True))


async def judge(
    people: People, store: Store, asked: dict[ConversationKey, list[str]], counts: Counts
) -> list[str]:
    """What is wrong with what stands in the chats, after `LINES` and whatever else was `asked`."""
    wrong = await judge_conversations(people, store, asked, counts)
    commands = {people.key(line).chat: 0 for line in LINES}
    for line in LINES:
        commands[people.key(line).chat] += line.is_command
    repeats = 0
    for chat, expected in commands.items():
        _, shown, told_twice = people.seen(chat)
        repeats += told_twice
        if len(shown) != expected:
            counts.lost += len(shown) < expected
            counts.doubled += len(shown) > expected
            wrong.append(f"{chat}: {len(shown)} answers to a command: {shown}")
    counts.repeats += repeats
    if people.files != 1 and not (repeats and people.files):
        wrong.append(f"{people.files} files")
        counts.doubled += people.files > 1
        counts.lost += not people.files
    return wrong


async def judge_conversations(
    people: People, store: Store, asked: dict[ConversationKey, list[str]], counts: Counts
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
        shown, _, _ = people.seen(key.chat)
        words = letters("".join(shown))
        said = letters("".join(turn.answer for turn in turns))
        if words != said:
            kind = "lost" if len(words) < len(said) else "doubled" if len(words) > len(said) else "misordered"
            setattr(counts, kind, getattr(counts, kind) + 1)
            wrong.append(f"{key} shows {shown}, and its history is {[turn.answer for turn in turns]}")
    counts.leftovers += people.empty
    return [*wrong, *people.violations]


async def kill_matrix(
    zygote: Zygote, model: Path, kind: str, people: type[People], points: Sequence[Point]
) -> Counts:
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        await server.start()
        for number, point in enumerate(points):
            life = Path(folder) / f"{kind}-{number}"
            life.mkdir()
            await _one(zygote, model, kind, server.url, life, people(), point, counts)
        await server.stop()
    return counts


async def _one(
    zygote: Zygote,
    model: Path,
    kind: str,
    url: str,
    folder: Path,
    people: People,
    point: Point,
    counts: Counts,
) -> None:
    name = f"{people.platform}, {kind}: kill {point[0]} {point[1]} {point[2]}"
    await people.start()
    path = folder / "store.sqlite3"
    sections = {
        "sqlite": f"path = '{path}'\n",
        "redis": f"kind = 'redis'\nurl = '{url}'\nprefix = '{folder.name}'\njournal_path = '{folder}/journal.sqlite3'\n",
    }
    config = write_config(folder, model, people, sections[kind])
    store: Store = SqliteStore(path) if kind == "sqlite" else RedisStore(url, prefix=folder.name)
    asked, talking = asked_in(people, LINES), asyncio.ensure_future(say_all(people, LINES))
    if people.tells_again:
        await talking
    process = await zygote.begin(config, *point)
    code = await zygote.ended(_COMES_S)
    talking.cancel()
    if code != -signal.SIGKILL:
        counts.add(name, [f"never came there (exit code {code}): {_log_of(folder)}"])
        if code is None:
            os.kill(process, signal.SIGKILL)
            await zygote.ended(20)
    else:
        began = _starts(folder)
        process = await zygote.begin(config)
        await store.open()
        if not people.tells_again:
            await say_all(people, await people.unknown(store, LINES))
        calm = await settled(people, store, asked)
        wrong = [] if calm else [f"not settled: {_log_of(folder)}"]
        wrong += await judge(people, store, asked, counts)
        await store.close()
        await until(lambda: _starts(folder) > began)
        os.kill(process, signal.SIGTERM)
        if (code := await zygote.ended(20)) != 0:
            wrong.append(f"the second life ended with {code}: {_log_of(folder)}")
        if code is None:
            os.kill(process, signal.SIGKILL)
            await zygote.ended(20)
        counts.add(name, wrong)
    await people.stop()


def _starts(folder: Path) -> int:
    """How often it has said that it listens."""
    log = folder / "log.txt"
    said = log.read_text() if log.exists() else ""
    return said.count("is listening") + said.count("is connected")


def _log_of(folder: Path) -> str:
    log = folder / "log.txt"
    return log.read_text()[-3000:] if log.exists() else ""
