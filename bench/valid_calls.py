"""Answers held to twelve schemas, drawn at temperature 1: how many are valid, and what being held to one costs.

    PYTHONPATH=tests python bench/valid_calls.py [--asked 500] [--model FOLDER] [--streams 8]

Without a folder a random tiny model answers. Each answer is parsed and held against its schema by jsonschema. The
cost is that of the same model's decode speed with all streams held to a schema of long texts, and with none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from form_schemas import SCHEMAS, is_valid
from glmbot.engine.base import FinishReason, Progress, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.forms import Form, FormKind
from tiny_model import write_tiny_model

WILD = Sampling(max_tokens=700, temperature=1.0, top_p=1.0)
LONG = {"type": "object", "properties": {"text": {"type": "string", "minLength": 5000}}, "required": ["text"]}
ROUNDS, TOKENS = 4, 128


async def answer(engine: LocalEngine, question: str, sampling: Sampling, user: str) -> Progress:
    last = Progress()
    prompt = engine.chat_format.encode_chat("", (), question)
    async for progress in engine.generate(prompt, sampling, user=user):
        last = progress
    return last


async def count_valid(engine: LocalEngine, asked: int, streams: int) -> Counter[str]:
    found: Counter[str] = Counter()
    left = iter(list(enumerate(islice(cycle(SCHEMAS), asked))))

    async def ask() -> None:
        for number, name in left:
            form = Form(FormKind.SCHEMA, json.dumps(SCHEMAS[name], ensure_ascii=False))
            question = f"Answer with the arguments of {name} as JSON."
            said = await answer(engine, question, replace(WILD, seed=number, form=form), str(number))
            if said.finish is not FinishReason.STOP:
                found["cut"] += 1
            else:
                found["valid" if is_valid(SCHEMAS[name], said.text) else "wrong"] += 1

    await asyncio.gather(*(ask() for _ in range(streams)))
    return found


async def speed(engine: LocalEngine, streams: int, form: Form | None) -> tuple[float, float]:
    """Tokens a second of all streams together, and tokens a second of processor time: on a busy machine that says
    more, and it counts masks as if nothing were computed beside them."""
    sampling = replace(WILD, max_tokens=TOKENS, form=form)
    began, worked = time.perf_counter(), time.process_time()
    said = await asyncio.gather(
        *(answer(engine, "Say a lot.", replace(sampling, seed=seed), str(seed)) for seed in range(streams))
    )
    tokens = sum(each.completion_tokens for each in said)
    return tokens / (time.perf_counter() - began), tokens / (time.process_time() - worked)


async def measure(folder: Path, asked: int, streams: int) -> None:
    engine = await LocalEngine.start(LocalEngineSettings(folder))
    began = time.perf_counter()
    found = await count_valid(engine, asked, streams)
    print(f"{engine.model_name}: {dict(found)} of {asked} in {time.perf_counter() - began:.0f} s")
    long = Form(FormKind.SCHEMA, json.dumps(LONG))
    free: list[tuple[float, float]] = []
    held: list[tuple[float, float]] = []
    # By turns, so that a busy machine is the same for both; the first time is for what is made once.
    await speed(engine, streams, None)
    for _ in range(ROUNDS):
        free.append(await speed(engine, streams, None))
        held.append(await speed(engine, streams, long))
    for number, unit in enumerate(("second", "second of processor time")):
        freely, holding = (max(each[number] for each in speeds) for speeds in (free, held))
        share = f"{holding / freely:.1%}"
        print(f"{streams} streams, tokens a {unit}: {freely:.0f} free, {holding:.0f} held ({share})")
    await engine.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--asked", type=int, default=500)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--streams", type=int, default=8)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.model or write_tiny_model(Path(scratch) / "tiny")
        if given.model is None:
            print("a random tiny model")
        asyncio.run(measure(folder, given.asked, given.streams))


if __name__ == "__main__":
    main()
