"""Tokens per second of the shared engine, alone and together, beside Transformers' own generate.

    .venv/bin/python bench/engine.py [MODEL_FOLDER]

Prints JSON. Every ratio is against `transformers_generate` of the same run, precision and model, which runs in a
process of its own: two threads of one process that both compute slow each other down. Every stream is made to
run to its last token.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from glmbot.engine.base import ChatFormat, Precision, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.models.chat_format import TemplateChatFormat

DEFAULT = Path(".glmbot/models/smollm2-135m-instruct")
NEW_TOKENS = 64
ROUNDS = 3
TOGETHER = (1, 8)


def prompts(chat_format: ChatFormat, count: int) -> list[list[int]]:
    """Chats of about 260 prompt tokens, each different from the first token of its question on."""
    story = "The old lighthouse keeper counted the ships that passed in the night and wrote them down. " * 13
    return [chat_format.encode_chat("", [], f"{n}: {story} What did the keeper do?") for n in range(count)]


async def ours(engine: LocalEngine, count: int) -> tuple[float, float]:
    """Total new tokens a second, and median seconds to the first token."""
    first: list[float] = []

    async def one(prompt: list[int], user: str) -> int:
        began = time.perf_counter()
        tokens = 0
        async for progress in engine.generate(
            prompt, Sampling(max_tokens=NEW_TOKENS, temperature=0), user=user
        ):
            if progress.completion_tokens and not tokens:
                first.append(time.perf_counter() - began)
            tokens = progress.completion_tokens
        return tokens

    began = time.perf_counter()
    done = await asyncio.gather(
        *(one(prompt, str(n)) for n, prompt in enumerate(prompts(engine.chat_format, count)))
    )
    return sum(done) / (time.perf_counter() - began), statistics.median(first)


def peer_speed(folder: Path, precision: Precision, count: int) -> float:
    """Median new tokens a second of Transformers' generate. Called in a process of its own."""
    dtype = torch.float32 if precision is Precision.FP32 else torch.bfloat16
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    rows = prompts(TemplateChatFormat(AutoTokenizer.from_pretrained(folder)), count)
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    speeds: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS,
            do_sample=False,
            repetition_penalty=1.0,
            pad_token_id=0,
        )
        speeds.append(NEW_TOKENS * count / (time.perf_counter() - began))
    return statistics.median(speeds)


def peer(folder: Path, precision: Precision, count: int) -> float:
    command = [sys.executable, __file__, str(folder), "--peer", precision, str(count)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


async def main(folder: Path) -> None:
    engine = await LocalEngine.start(LocalEngineSettings(folder, precision=Precision.BF16))
    engine._model = replace(engine._model, stop_tokens=frozenset[int]())  # pyright: ignore[reportPrivateUsage]
    report: dict[str, Any] = {"model": engine.model_name, "threads": torch.get_num_threads(), "runs": []}
    for precision in (Precision.FP32, Precision.BF16, Precision.INT8):
        await engine.set_precision(precision)
        for count in TOGETHER:
            rounds = [await ours(engine, count) for _ in range(ROUNDS)]
            run: dict[str, Any] = {
                "precision": precision,
                "streams": count,
                "tokens_per_second": round(statistics.median(speed for speed, _ in rounds), 1),
                "first_token_s": round(statistics.median(first for _, first in rounds), 3),
            }
            if precision is not Precision.INT8:
                run["transformers_generate"] = round(
                    await asyncio.to_thread(peer, folder, precision, count), 1
                )
                run["ratio"] = round(run["tokens_per_second"] / run["transformers_generate"], 2)
            report["runs"].append(run)
    await engine.close()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    if "--peer" in sys.argv:
        print(peer_speed(model, Precision(sys.argv[3]), int(sys.argv[4])))
    else:
        asyncio.run(main(model))
