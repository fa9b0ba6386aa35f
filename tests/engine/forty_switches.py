"""Forty switches of precision under eight busy streams, in a process of its own: python forty_switches.py MODEL_FOLDER

Prints what was seen as JSON. Ends with an error when a stream got one, or took back what it had said.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from itertools import cycle
from pathlib import Path

import psutil

from glmbot.engine.base import Precision, Progress, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings

SWITCHES = 40
STREAMS = 8
ANSWER_TOKENS = 80
ORDER = (Precision.INT8, Precision.INT4, Precision.BF16, Precision.INT4, Precision.FP32)


async def main(folder: Path) -> None:
    engine = await LocalEngine.start(
        LocalEngineSettings(folder, precision=Precision.FP32, cache_tokens=8192, threads=1)
    )
    switching = True
    answers: list[Progress] = []

    async def talk(number: int) -> None:
        asked = 0
        while switching or asked == 0:
            prompt = engine.chat_format.encode_chat("", (), f"{number}, {asked}: tell me everything")
            asked += 1
            last = Progress()
            async for progress in engine.generate(
                prompt, Sampling(max_tokens=ANSWER_TOKENS, temperature=0), user=str(number)
            ):
                if progress.finish is None:
                    assert progress.text.startswith(last.text), "what was said is never taken back"
                    assert progress.completion_tokens >= last.completion_tokens
                last = progress
            answers.append(last)

    streams = [asyncio.create_task(talk(number)) for number in range(STREAMS)]
    process = psutil.Process()
    sizes: list[int] = []
    busy = 0
    for _, precision in zip(range(SWITCHES), cycle(ORDER), strict=False):
        busy += engine.stats().running == STREAMS
        change = await engine.set_precision(precision)
        assert change.after is precision
        assert change.weight_bytes_after > 0
        assert change.probe_speed_after > 0
        if precision is Precision.FP32:
            gc.collect()
            sizes.append(process.memory_info().rss)
        # Everybody says something between two switches.
        said = engine.stats().tokens_generated
        while engine.stats().tokens_generated < said + 2 * STREAMS:  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0.002)
    switching = False
    await asyncio.gather(*streams)
    stats = engine.stats()
    await engine.close()
    seen = {
        "switches": SWITCHES,
        "streams": STREAMS,
        "answer_tokens": ANSWER_TOKENS,
        "switches_while_all_were_busy": busy,
        "answers": len(answers),
        "finishes": sorted({str(answer.finish) for answer in answers}),
        "lengths": sorted({answer.completion_tokens for answer in answers}),
        "tokens_generated": stats.tokens_generated,
        "cache_tokens_left": stats.cache_tokens_used,
        # The first rounds fill the allocator's pools.
        "growth_mb": (sizes[-1] - sizes[2]) / (1 << 20),
    }
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
