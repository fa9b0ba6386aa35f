"""Tokens per second of the shared engine, alone and together, beside Transformers' own generate.

    .venv/bin/python bench/engine.py [MODEL_FOLDER]

Prints JSON. Every ratio is against `transformers_generate` of the same run, precision and model.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from glmbot.engine.base import Precision, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings

DEFAULT = Path(".glmbot/models/smollm2-135m-instruct")
NEW_TOKENS = 64
ROUNDS = 3
TOGETHER = (1, 8)


def prompts(engine: LocalEngine, count: int) -> list[list[int]]:
    """Chats of about 260 prompt tokens, each different from the first token of its question on."""
    story = "The old lighthouse keeper counted the ships that passed in the night and wrote them down. " * 13
    return [
        engine.chat_format.encode_chat("", [], f"{n}: {story} What did the keeper do?") for n in range(count)
    ]


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
    done = await asyncio.gather(*(one(prompt, str(n)) for n, prompt in enumerate(prompts(engine, count))))
    return sum(done) / (time.perf_counter() - began), statistics.median(first)


def theirs(model: Any, rows: list[list[int]]) -> float:
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    began = time.perf_counter()
    out = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        repetition_penalty=1.0,
        pad_token_id=0,
    )
    return (out.shape[1] - width) * len(rows) / (time.perf_counter() - began)


async def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    engine = await LocalEngine.start(LocalEngineSettings(folder, precision=Precision.BF16))
    report: dict[str, Any] = {"model": engine.model_name, "threads": torch.get_num_threads(), "runs": []}
    for precision in (Precision.FP32, Precision.BF16, Precision.INT8):
        await engine.set_precision(precision)
        peer: Any = None
        if precision is not Precision.INT8:
            dtype = torch.float32 if precision is Precision.FP32 else torch.bfloat16
            peer = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        for count in TOGETHER:
            speeds, firsts, peers = [], [], []
            for _ in range(ROUNDS):
                speed, first = await ours(engine, count)
                speeds.append(speed)
                firsts.append(first)
                if peer is not None:
                    peers.append(theirs(peer, prompts(engine, count)))
            run: dict[str, Any] = {
                "precision": precision,
                "streams": count,
                "tokens_per_second": round(statistics.median(speeds), 1),
                "first_token_s": round(statistics.median(firsts), 3),
            }
            if peers:
                run["transformers_generate"] = round(statistics.median(peers), 1)
                run["ratio"] = round(run["tokens_per_second"] / run["transformers_generate"], 2)
            report["runs"].append(run)
    await engine.close()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
