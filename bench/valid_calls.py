"""Answers held to twelve schemas, drawn at temperature 1: how many are valid.

    PYTHONPATH=tests python bench/valid_calls.py [--asked 500] [--first 0] [--model FOLDER] [--streams 8]

Prints JSON. Without a folder a random tiny model answers. Each answer is parsed and held against its schema by
jsonschema; one that is not valid is shown, and asked again by its number with --first. What being held costs is
measured by bench/forms.py.
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
from typing import Any

from form_schemas import SCHEMAS, is_valid
from glmbot.engine.base import FinishReason, Progress, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.forms import Form, FormKind
from tiny_model import write_tiny_model

WILD = Sampling(max_tokens=700, temperature=1.0, top_p=1.0)


async def answer(engine: LocalEngine, question: str, sampling: Sampling, user: str) -> Progress:
    last = Progress()
    prompt = engine.chat_format.encode_chat("", (), question)
    async for progress in engine.generate(prompt, sampling, user=user):
        last = progress
    return last


async def count_valid(
    engine: LocalEngine, asked: int, streams: int, first: int = 0
) -> tuple[Counter[str], list[dict[str, object]]]:
    """How many are valid, wrong, and cut by their bound; and those that are not valid."""
    found: Counter[str] = Counter()
    shown: list[dict[str, object]] = []
    left = iter(list(islice(enumerate(cycle(SCHEMAS)), first, first + asked)))

    async def ask() -> None:
        for number, name in left:
            form = Form(FormKind.SCHEMA, json.dumps(SCHEMAS[name], ensure_ascii=False))
            question = f"Answer with the arguments of {name} as JSON."
            said = await answer(engine, question, replace(WILD, seed=number, form=form), str(number))
            kind = "cut"
            if said.finish is FinishReason.STOP:
                kind = "valid" if is_valid(SCHEMAS[name], said.text) else "wrong"
            found[kind] += 1
            if kind != "valid":
                shown.append({"number": number, "schema": name, "kind": kind, "text": said.text})

    await asyncio.gather(*(ask() for _ in range(streams)))
    return found, shown


async def measure(folder: Path, asked: int, streams: int, first: int = 0) -> dict[str, Any]:
    engine = await LocalEngine.start(LocalEngineSettings(folder))
    began = time.perf_counter()
    found, shown = await count_valid(engine, asked, streams, first)
    await engine.close()
    return {
        "model": engine.model_name,
        "asked": asked,
        **found,
        "seconds": round(time.perf_counter() - began),
        "not_valid": shown,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--asked", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--streams", type=int, default=8)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.model or write_tiny_model(Path(scratch) / "tiny")
        made = asyncio.run(measure(folder, given.asked, given.streams, given.first))
    print(json.dumps(made, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
