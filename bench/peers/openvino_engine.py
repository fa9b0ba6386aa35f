"""OpenVINO GenAI's continuous batching, through its pipeline class: openvino_engine.py GGUF"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy
import openvino  # pyright: ignore[reportMissingImports]
import openvino_genai  # pyright: ignore[reportMissingImports]
from protocol import Answer, measured, serve


def start(gguf: str) -> Any:
    scheduler: Any = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 2
    scheduler.max_num_seqs = 32
    # A prompt is read in one step: with the 256 tokens of the default it would take two.
    scheduler.max_num_batched_tokens = 512
    scheduler.enable_prefix_caching = True
    return openvino_genai.ContinuousBatchingPipeline(gguf, scheduler, "CPU")


def run(pipeline: Any, order: dict[str, Any]) -> Answer:
    waiting = sorted(range(len(order["prompts"])), key=lambda number: order["delays"][number], reverse=True)
    made: dict[int, Answer] = {}
    handles: dict[int, Any] = {}
    starts: dict[int, float] = {}
    times: dict[int, list[float]] = {number: [] for number in waiting}
    ids: dict[int, list[int]] = {number: [] for number in waiting}
    tokenizer = pipeline.get_tokenizer()
    began = time.perf_counter()
    while waiting or handles:
        while waiting and began + order["delays"][waiting[-1]] <= time.perf_counter():
            number = waiting.pop()
            settings: Any = openvino_genai.GenerationConfig()
            settings.max_new_tokens = order["new_tokens"][number]
            settings.ignore_eos = True
            settings.do_sample = False
            prompt = openvino.Tensor(numpy.array([order["prompts"][number]], dtype=numpy.int64))
            starts[number] = began + order["delays"][number]
            handles[number] = pipeline.add_request(number, prompt, settings)
        if not handles:
            time.sleep(max(0.0, began + order["delays"][waiting[-1]] - time.perf_counter()))
            continue
        pipeline.step()
        now = time.perf_counter()
        for number, handle in list(handles.items()):
            while handle.can_read():
                for output in handle.read().values():
                    ids[number] += output.generated_ids
                    times[number] += [now] * len(output.generated_ids)
            limit = order["cancels"][number]
            given_up = limit is not None and len(times[number]) >= limit
            if given_up:
                handle.cancel()
            if given_up or handle.get_status() != openvino_genai.GenerationStatus.RUNNING:
                made[number] = measured(starts[number], times[number], tokenizer.decode(ids[number]))
                del handles[number]
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "requests": [made[number] for number in sorted(made)]}


def main() -> None:
    pipeline = start(sys.argv[1])
    # It does not say what it chose.
    words = os.environ.get("ONEDNN_MAX_CPU_ISA", "the best that the processor has")
    serve({"version": openvino_genai.__version__, "instructions": words}, lambda order: run(pipeline, order))


if __name__ == "__main__":
    main()
