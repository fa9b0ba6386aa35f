"""`make soak`: 200 people on three platforms for ten minutes, with floods, disconnects and cancellations.

The bot is a process of its own, as `glmbot run` starts it; the platforms and the people are here. Prints the figures of
docs/reliability.md, then "passed" or what was wrong: a message without an answer, memory that grows, or a queue in
which the 99th percentile waited for longer than the configured bound.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "adapters")]

from conftest import free_port  # noqa: E402
from platforms.discord_server import BOT_ID, CHANNEL_ID, DiscordServer  # noqa: E402
from platforms.discord_server import TOKEN as DISCORD_TOKEN  # noqa: E402
from platforms.telegram_server import TOKEN, TelegramServer  # noqa: E402
from redis_server import Server  # noqa: E402
from soak.people import DiscordPerson, Person, ProgramPerson, TelegramPerson, Watch, WebPerson  # noqa: E402
from tiny_model import write_tiny_model  # noqa: E402

LOG = ROOT / ".glmbot" / "soak.log"
# The [dialogue] deadline_s of this run: nobody waits for longer, in the queue and for the answer together.
BOUND_S = 60.0
# Python's allocator returns memory late; what grows without end shows as more than this in ten minutes.
GROWTH = 0.05
_MEASURED_S = 2


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--store", choices=["sqlite", "redis"], default="sqlite")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = await soak(Path(folder), arguments.minutes * 60, arguments.people, arguments.store)
    print(json.dumps(report, indent=1, ensure_ascii=False))
    wrong = complaints(report)
    for complaint in wrong:
        print("FAIL", complaint)
    print("failed" if wrong else "passed")
    return bool(wrong)


async def soak(folder: Path, seconds: float, people: int, store: str) -> dict[str, Any]:
    telegram = TelegramServer(seconds_per_message=0.2, burst=5)
    discord = DiscordServer(window_s=1.0)
    await telegram.start()
    await discord.start()
    redis = Server(folder)
    if store == "redis":
        await redis.start()
    port = free_port()
    config = folder / "config.toml"
    section = f"kind = 'redis'\nurl = '{redis.url}'\n" if store == "redis" else ""
    config.write_text(
        f"[telegram]\napi_base_url = '{telegram.url}'\nedit_interval_s = 0.3\ngroup_edit_interval_s = 0.6\npoll_timeout_s = 2\n"
        f"[discord]\napi_base_url = '{discord.url}'\ngateway_url = '{discord.gateway_url}'\nedit_interval_s = 0.5\n"
        f"[web]\nport = {port}\n[access]\nopen_platforms = ['telegram', 'discord']\n"
        f"[model]\npath = '{write_tiny_model(folder / 'tiny')}'\nmax_answer_tokens = 120\nprecision = 'fp32'\nthreads = 1\n"
        # All people of the page come from one address here.
        f"[dialogue]\ndeadline_s = {BOUND_S}\npending_per_source = {people}\n[limits]\nstrangers_per_hour = 0\n"
        f"[store]\n{section}"
    )
    log = (folder / "log.txt").open("wb")
    bot = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("glmbot")), "run", "--config", str(config), stdout=log, stderr=log, cwd=folder,
        env={**os.environ, "GLMBOT_TELEGRAM__TOKEN": TOKEN, "GLMBOT_DISCORD__TOKEN": DISCORD_TOKEN},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    await ready(url)
    watch = Watch(time.monotonic() + seconds)
    crowd = population(people, watch, telegram, discord, url)
    memory: list[int] = []
    trouble = asyncio.ensure_future(make_trouble(telegram, discord, watch))
    measuring = asyncio.ensure_future(measure(bot.pid, memory, watch))
    outcomes = await asyncio.gather(*(person.live() for person in crowd), return_exceptions=True)
    await asyncio.gather(trouble, measuring)
    metrics = await read(f"{url}/metrics")
    bot.send_signal(signal.SIGTERM)
    ended = await asyncio.wait_for(bot.wait(), 30)
    if store == "redis":
        await redis.stop()
    await telegram.stop()
    await discord.stop()
    text = (folder / "log.txt").read_text()
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text(text)
    faults = [str(each)[:300] for each in outcomes if isinstance(each, BaseException)]
    quarter = len(memory) // 4
    return {
        "people": people,
        "seconds": round(seconds),
        "store": store,
        "counts": dict(sorted(watch.counts.items())),
        "unanswered": watch.unanswered[:20],
        "faults of the simulation": faults[:5],
        "violations": [*telegram.violations, *discord.violations][:10],
        "refused by floods": {"telegram": len(telegram.floods), "discord": len(discord.floods)},
        "first word, s": percentiles(watch.waits),
        "end, s": percentiles(watch.ends),
        "queue in the engine, s": {"p99 at most": queue_p99(metrics)},
        "bound, s": BOUND_S,
        "memory, MB": {
            "second quarter": round(statistics.median(memory[quarter : 2 * quarter]) / 1e6, 1),
            "last quarter": round(statistics.median(memory[3 * quarter :]) / 1e6, 1),
            "each minute": [round(each / 1e6) for each in memory[:: round(60 / _MEASURED_S)]],
        },
        "tracebacks in the log": text.count("Traceback"),
        "exit": ended,
    }


def population(
    people: int, watch: Watch, telegram: TelegramServer, discord: DiscordServer, url: str
) -> list[Person]:
    """Of ten, three write to the bot on Telegram and one in a group there, one in a Discord channel and two directly,
    two have the page open, and one is a program."""
    crowd: list[Person] = []
    for number in range(1000, 1000 + people):
        match number % 10:
            case 0 | 1 | 2:
                crowd.append(TelegramPerson(number, watch, telegram))
            case 3:
                crowd.append(TelegramPerson(number, watch, telegram, group=-(number // 10 % 4) - 1))
            case 4:
                crowd.append(DiscordPerson(number, watch, discord, direct=False, mention=f"<@{BOT_ID}>"))
            case 5 | 6:
                crowd.append(DiscordPerson(number, watch, discord, direct=True, mention=""))
            case 7 | 8:
                crowd.append(WebPerson(number, watch, url))
            case _:
                crowd.append(ProgramPerson(number, watch, url))
    return crowd


async def make_trouble(telegram: TelegramServer, discord: DiscordServer, watch: Watch) -> None:
    dice = random.Random(5)
    while not watch.over:
        await asyncio.sleep(dice.uniform(1, 4))
        match dice.randrange(8):
            case 0 | 1 | 2:
                telegram.hold(dice.choice([-1, -2, -3, -4, *range(1000, 1200)]), dice.uniform(1, 8))
                watch.counts["chats flooded"] += 1
            case 3 | 4:
                discord.hold(CHANNEL_ID, dice.uniform(1, 4))
                watch.counts["chats flooded"] += 1
            case 5:
                await discord.drop_connections()
                watch.counts["gateway disconnects"] += 1
            case _:
                telegram.out_of_order_until = time.monotonic() + dice.uniform(0.5, 3)
                watch.counts["outages of Telegram"] += 1


async def measure(process: int, memory: list[int], watch: Watch) -> None:
    watched = psutil.Process(process)
    while not watch.over:
        memory.append(watched.memory_info().rss)
        await asyncio.sleep(_MEASURED_S)


async def ready(url: str) -> None:
    async with asyncio.timeout(90):
        while True:
            try:
                if json.loads(await read(f"{url}/readyz"))["status"] == "ready":
                    return
            except (aiohttp.ClientError, ValueError):
                pass
            await asyncio.sleep(0.2)


async def read(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


def queue_p99(metrics: str) -> float:
    """The bound of the histogram's bucket that holds it."""
    buckets = [
        (float(bound), float(count))
        for bound, count in re.findall(r'first_token_seconds_bucket\{[^}]*le="([^"]+)"[^}]*\} (\S+)', metrics)
    ]
    return next(bound for bound, count in buckets if count >= 0.99 * buckets[-1][1])


def percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    return {
        f"p{share}": round(ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))], 2)
        for share in (50, 90, 99)
    } | {"most": round(ordered[-1], 2)}


def complaints(report: dict[str, Any]) -> list[str]:
    memory = report["memory, MB"]
    checks = {
        "messages without an answer": not report["unanswered"],
        "people could not go on": not report["faults of the simulation"],
        "a platform's law was broken": not report["violations"],
        "the 99th percentile waited too long": report["queue in the engine, s"]["p99 at most"]
        <= report["bound, s"],
        "memory grows": memory["last quarter"] <= (1 + GROWTH) * memory["second quarter"],
        "tracebacks in the log": report["tracebacks in the log"] == 0,
        "the bot did not end in good order": report["exit"] == 0,
    }
    return [complaint for complaint, holds in checks.items() if not holds]


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
