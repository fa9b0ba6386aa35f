"""Hours of a busy group chat in minutes: memory stays flat, and every request is accounted for.

    .venv/bin/python bench/replay.py [MODEL_FOLDER] [--hours 2] [--per-second 1] [--faster 120]

People come at random, ask short and long things, come back with the next turn, give up in the middle, and come in
crowds that the queue must turn away. Time runs `faster` times as fast: pauses shrink, the work does not. Prints
JSON; ends with 1 when a request has no end, the cache or the queue is not empty afterwards, or memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from glmbot.engine.base import Precision, Progress, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.errors import QueueFull
from glmbot.models.base import ChatTurn

_SAMPLES = 40
_MOST_GROWTH_MB = 32.0
_PEOPLE = 60
# So many come at once, after so many of those who come alone.
_CROWD = 70
_CROWDS = 1 / 400


async def replay(
    engine: LocalEngine, hours: float, per_second: float, faster: float, seed: int = 1
) -> dict[str, Any]:
    # What is here already does not grow; without it a look at what does costs little.
    gc.collect()
    gc.freeze()
    dice = random.Random(seed)
    ends: Counter[str] = Counter()
    memory: list[float] = []
    histories: dict[str, list[ChatTurn]] = {}
    process = psutil.Process()

    async def one(user: str, question: str, tokens: int, patience: int | None, deadline_s: float) -> None:
        turns = histories.setdefault(user, [])
        prompt = engine.chat_format.encode_chat("Be brief.", turns[-3:], question)
        while len(prompt) + tokens > engine.context_length and turns:
            turns.pop(0)
            prompt = engine.chat_format.encode_chat("Be brief.", turns[-3:], question)
        sampling = Sampling(max_tokens=tokens, temperature=0.8)
        stream = engine.generate(prompt, sampling, user=user, deadline_s=deadline_s)
        last = Progress()
        try:
            async for progress in stream:
                last = progress
                if patience is not None and progress.completion_tokens >= patience:
                    await stream.aclose()
                    ends["cancelled"] += 1
                    return
        except QueueFull:
            ends["refused"] += 1
            return
        ends[last.finish or "lost"] += 1
        turns.append(ChatTurn(question, last.text))
        del turns[:-4]

    total = hours * 3600
    began = time.perf_counter()
    waiting: set[asyncio.Task[None]] = set()
    at, asked, next_sample, crowd = 0.0, 0, 0.0, 0
    while at < total:
        if crowd:
            crowd -= 1
        else:
            at += dice.expovariate(per_second)
            crowd = _CROWD if dice.random() < _CROWDS else 0
        pause = at / faster - (time.perf_counter() - began)
        if pause > 0:
            await asyncio.sleep(pause)
        words = " ".join(
            dice.choice(["fox", "dog", "你好", "Paris", "why", "?"]) for _ in range(dice.randint(2, 60))
        )
        patience = dice.randint(1, 10) if dice.random() < 0.15 else None
        deadline = 0.05 if dice.random() < 0.03 else 60.0
        who = f"user{dice.randrange(_PEOPLE)}"
        task = asyncio.create_task(one(who, words, dice.choice([8, 16, 32, 64]), patience, deadline))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        asked += 1
        if at >= next_sample:
            gc.collect()
            memory.append(process.memory_info().rss / (1 << 20))
            next_sample += total / _SAMPLES
    await asyncio.gather(*waiting)
    seconds = time.perf_counter() - began
    stats = engine.stats()
    # The first quarter fills pools and caches to their bounds.
    settled = memory[len(memory) // 4 :]
    half = len(settled) // 2
    growth = max(settled[half:]) - max(settled[:half])
    return {
        "hours": hours,
        "seconds": round(seconds, 1),
        "asked": asked,
        "ends": dict(ends),
        "unaccounted": asked - sum(ends.values()) + ends["lost"],
        "left_running": stats.running + stats.waiting,
        "left_cache_tokens": stats.cache_tokens_used,
        "tokens": stats.tokens_generated,
        "largest_batch": stats.largest_batch,
        "memory_mb": [round(size, 1) for size in memory[:: max(1, len(memory) // 10)]],
        "growth_mb": round(growth, 2),
        "flat": growth < _MOST_GROWTH_MB,
    }


def accounted(report: dict[str, Any]) -> bool:
    left = report["unaccounted"] or report["left_running"] or report["left_cache_tokens"]
    return not left and report["flat"]


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="a tiny model of its own when left out")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--per-second", type=float, default=1.0)
    parser.add_argument("--faster", type=float, default=60.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        from tiny_model import write_tiny_model

        folder = arguments.folder or write_tiny_model(Path(scratch) / "tiny")
        engine = await LocalEngine.start(
            LocalEngineSettings(folder, precision=Precision.INT4, cache_tokens=8192, queue_limit=24)
        )
        report = await replay(engine, arguments.hours, arguments.per_second, arguments.faster)
        await engine.close()
    print(json.dumps(report, indent=2))
    return 0 if accounted(report) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
