"""glmbot's own engine, through `LocalEngine.generate`: glmbot_engine.py MODEL_FOLDER PRECISION"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from protocol import Answer, measured, serve

from glmbot import __version__
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.native.library import loaded


async def start(folder: str, precision: str) -> LocalEngine:
    engine = await LocalEngine.start(
        LocalEngineSettings(Path(folder), precision=Precision(precision), cache_tokens=32768, max_batch=32)
    )
    # Every answer goes on to its last token, as the peers' do.
    engine.thread.model = replace(engine.thread.model, stop_tokens=frozenset[int]())
    return engine


async def run(engine: LocalEngine, order: dict[str, Any]) -> Answer:
    async def one(number: int) -> Answer:
        await asyncio.sleep(order["delays"][number])
        times: list[float] = []
        text = ""
        began = time.perf_counter()
        sampling = Sampling(max_tokens=order["new_tokens"][number], temperature=0)
        stream = engine.generate(order["prompts"][number], sampling, user=str(number))
        async for progress in stream:
            text = progress.text
            times += [time.perf_counter()] * (progress.completion_tokens - len(times))
            if order["cancels"][number] is not None and len(times) >= order["cancels"][number]:
                await stream.aclose()
                break
        return measured(began, times, text)

    began = time.perf_counter()
    requests = await asyncio.gather(*map(one, range(len(order["prompts"]))))
    return {"seconds": time.perf_counter() - began, "requests": requests}


def main() -> None:
    loop = asyncio.new_event_loop()
    engine = loop.run_until_complete(start(sys.argv[1], sys.argv[2]))
    runner = engine.thread.runner
    embeddings: Any = runner.model.module.get_input_embeddings()  # pyright: ignore[reportCallIssue]
    weights = engine.stats().weight_bytes
    # A float head is the table of embeddings; beside a head of its own the table is not read in a step.
    if engine.precision in (Precision.INT4, Precision.INT8):
        weights -= embeddings.weight.nbytes
    words = str(loaded()) if runner.native else f"torch, {torch.backends.cpu.get_cpu_capability()}"
    ready = {"step_bytes": weights, "instructions": words, "version": __version__}
    serve(ready, lambda order: loop.run_until_complete(run(engine, order)))


if __name__ == "__main__":
    main()
