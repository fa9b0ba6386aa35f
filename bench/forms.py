"""What holding answers to a form costs of decode speed, and what a mask takes with llguidance and with xgrammar.

    PYTHONPATH=tests python bench/forms.py [--streams 1,8] [--rounds 5] [--tokens 128] [--only demo]

Prints JSON, and keeps it in bench/results/forms.json. The demo model (49,152 tokens), and random weights of
Qwen2.5-0.5B's shape with Qwen's vocabulary of 151,000. All streams draw greedily, where sampling costs least and
so a mask's share is largest; nothing is guessed ahead, since what repeats would count as speed. Each run that is
held to a form stands between two that are not, and its share is that of their mean; medians of the rounds are
kept. `work` is the same share of tokens in a second of processor time, as if no mask were computed beside a step:
it says more on a busy machine, with one core alone (taskset -c 0), where no thread spins for another. `load` is
the machine's before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from bandwidth import THREADS
from engines import HOME, MODEL, PEERS, beside
from suite import processor
from tool_offers import offer
from wide_vocabulary import wide_model

from form_schemas import SCHEMAS
from glmbot.engine.base import Sampling
from glmbot.engine.call_forms import call_form
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.lookup import PromptLookup
from glmbot.forms import Form, FormKind
from glmbot.models.calls.tagged import TaggedJson
from glmbot.tools import Choice

RESULTS = Path(__file__).parent / "results" / "forms.json"
TOKENS = 128
QUESTION = "Tell a long story of a lighthouse keeper who counted the ships that passed in the night."
RIVALS = {"llguidance": (), "xgrammar": ("xgrammar", "apache-tvm-ffi")}


def _schema(schema: Mapping[str, Any]) -> Form:
    return Form(FormKind.SCHEMA, json.dumps(schema, ensure_ascii=False))


def forms() -> dict[str, Form]:
    """Such as no answer ends within so few tokens."""
    records = {name: SCHEMAS[name] for name in ("order", "address", "contact")}
    calls = call_form(TaggedJson(), offer(Choice.AUTO), {})
    assert calls is not None
    return {
        "text": _schema({"type": "array", "minItems": 400, "items": {"type": "string"}}),
        "records": _schema({"type": "array", "minItems": 400, "items": {"anyOf": list(records.values())}}),
        "tools": calls,
        "regex": Form(FormKind.REGEX, r"([A-Z][a-z]{2,11}: [0-9]{1,3} (kg|km|°C)\n)+"),
    }


async def speed(engine: LocalEngine, streams: int, form: Form | None, tokens: int) -> tuple[float, float]:
    """Tokens of all streams together, from when the last one's first has come: in a second, and in a second of
    processor time."""
    # None ends by itself.
    biases = tuple((token, -100.0) for token in sorted(engine.thread.model.stop_tokens))
    sampling = Sampling(max_tokens=tokens, temperature=0.0, form=form, logit_bias=biases)
    times: list[list[tuple[float, float]]] = [[] for _ in range(streams)]

    async def one(number: int) -> None:
        prompt = engine.chat_format.encode_chat("", (), f"{number}: {QUESTION}")
        async with aclosing(engine.generate(prompt, sampling, user=str(number))) as generation:
            async for progress in generation:
                now = (time.perf_counter(), time.process_time())
                times[number] += [now] * (progress.completion_tokens - len(times[number]))

    await asyncio.gather(*(one(number) for number in range(streams)))
    assert all(len(each) == tokens for each in times), "an answer ended early"
    began, ended = max(each[0] for each in times), max(each[-1] for each in times)
    later = sum(began < when for each in times for when in each)
    return later / (ended[0] - began[0]), later / (ended[1] - began[1])


async def shares(engine: LocalEngine, streams: int, rounds: int, tokens: int) -> dict[str, Any]:
    free: list[float] = []
    held: dict[str, list[tuple[float, float, float]]] = {}
    # The first time is for what is made once.
    for form in (None, *forms().values()):
        await speed(engine, streams, form, tokens)
    for _ in range(rounds):
        before = await speed(engine, streams, None, tokens)
        for name, form in forms().items():
            fast, working = await speed(engine, streams, form, tokens)
            after = await speed(engine, streams, None, tokens)
            mean, mean_working = (statistics.mean(pair) for pair in zip(before, after, strict=True))
            held.setdefault(name, []).append((fast, fast / mean, working / mean_working))
            free.append(before[0])
            before = after
    made: dict[str, Any] = {"free": {"tokens_per_second": round(statistics.median(free), 1)}}
    for name, rows in held.items():
        speeds, parts, works = zip(*rows, strict=True)
        made[name] = {
            "tokens_per_second": round(statistics.median(speeds), 1),
            "share": round(statistics.median(parts), 3),
            "work": round(statistics.median(works), 3),
            "shares": [round(each, 3) for each in parts],
            "works": [round(each, 3) for each in works],
        }
    return made


async def measure(folder: Path, counts: Sequence[int], rounds: int, tokens: int) -> dict[str, Any]:
    engine = await LocalEngine.start(LocalEngineSettings(folder, max_batch=max(8, *counts)))
    made: dict[str, Any] = {
        "vocabulary": engine.thread.model.shape.vocabulary,
        "precision": str(engine.precision),
        "streams": {},
    }
    for count in counts:
        made["streams"][str(count)] = await shares(engine, count, rounds, tokens)
        print(folder.name, count, made["streams"][str(count)], file=sys.stderr)
    await engine.close()
    return made


def masks(folder: Path) -> dict[str, Any]:
    """Of each library, in a process of its own."""
    made: dict[str, Any] = {}
    for name, packages in RIVALS.items():
        path = beside(name, *packages) if packages else ""
        if path is None:
            made[name] = {"failed": "its package can't be had"}
            continue
        paths = os.pathsep.join(each for each in (os.environ.get("PYTHONPATH", ""), path) if each)
        command = [sys.executable, str(PEERS / "masks_of.py"), name, str(folder)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths}
        )
        reason = (done.stderr.strip().splitlines() or ["no reason is known"])[-1][:300]
        made[name] = json.loads(done.stdout) if done.returncode == 0 else {"failed": reason}
    return made


def nothing(self: PromptLookup, tokens: Sequence[int], most: int) -> tuple[int, ...]:
    del self, tokens, most
    return ()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", default="1,8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--only", default="", help="demo or wide")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    folders = {"demo": lambda: MODEL, "wide": lambda: wide_model(HOME / "bench")}
    PromptLookup.guess = nothing
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"processor": processor(), "threads": THREADS},
        "load": [os.getloadavg()[0]],
        "tokens": given.tokens,
        "models": {},
        "masks": {},
    }
    for name, folder_of in folders.items():
        if given.only in ("", name):
            folder = folder_of()
            counts = [int(count) for count in given.streams.split(",")]
            report["models"][name] = asyncio.run(measure(folder, counts, given.rounds, given.tokens))
            if not given.no_rivals:
                report["masks"][name] = masks(folder)
    report["load"].append(os.getloadavg()[0])
    given.results.parent.mkdir(exist_ok=True)
    given.results.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
