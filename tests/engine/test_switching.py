"""Precision that switches while people talk: nothing is lost, nothing leaks, and memory stays within its bound."""

from __future__ import annotations

import asyncio
import gc
from itertools import cycle
from pathlib import Path

import psutil
import pytest
import torch

from conftest import until
from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import FinishReason, Precision, Progress, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.placement import Placement
from glmbot.engine.runner import ModelRunner
from glmbot.engine.sizes import weight_bytes
from glmbot.models.registry import load
from tiny_model import write_tiny_model

SWITCHES = 40
STREAMS = 8
ANSWER_TOKENS = 200
ORDER = (Precision.INT8, Precision.INT4, Precision.BF16, Precision.INT4, Precision.FP32)
MB = 1 << 20


@pytest.fixture(scope="module")
def middling_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 20 million parameters, so that a layer which is not given back shows."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "middling", hidden=512, layers=6)


async def test_forty_switches_under_eight_busy_streams_lose_no_token_and_leak_no_memory(
    middling_model: Path,
) -> None:
    engine = await LocalEngine.start(
        LocalEngineSettings(middling_model, precision=Precision.FP32, cache_tokens=8192, threads=2)
    )
    switching = True
    answers: list[Progress] = []

    async def talk(number: int) -> None:
        asked = 0
        while switching or asked == 0:
            prompt = engine.chat_format.encode_chat("", (), f"{number}, {asked}: tell me everything")
            asked += 1
            last = Progress()
            tokens = 0
            async for progress in engine.generate(
                prompt, Sampling(max_tokens=ANSWER_TOKENS, temperature=0), user=str(number)
            ):
                if progress.finish is None:
                    assert progress.text.startswith(last.text), "what was said is never taken back"
                    assert progress.completion_tokens >= tokens
                last, tokens = progress, progress.completion_tokens
            answers.append(last)

    streams = [asyncio.create_task(talk(number)) for number in range(STREAMS)]
    process = psutil.Process()
    sizes: list[int] = []
    busy = 0
    for done, precision in zip(range(SWITCHES), cycle(ORDER), strict=False):
        before = engine.stats()
        change = await engine.set_precision(precision)
        busy += before.running == STREAMS
        assert change.after is precision
        assert change.weight_bytes_after > 0
        assert change.probe_speed_after > 0
        if precision is Precision.FP32:
            gc.collect()
            sizes.append(process.memory_info().rss)
        # Everybody says something between two switches.
        said = engine.stats().tokens_generated
        await until(lambda said=said: engine.stats().tokens_generated >= said + 2 * STREAMS)
        assert done < SWITCHES
    switching = False
    await asyncio.gather(*streams)
    stats = engine.stats()
    await engine.close()
    assert len(answers) >= STREAMS
    assert busy > SWITCHES // 2, "the streams were busy"
    assert {answer.finish for answer in answers} == {FinishReason.LENGTH}
    assert {answer.completion_tokens for answer in answers} == {ANSWER_TOKENS}
    assert stats.tokens_generated == len(answers) * ANSWER_TOKENS
    assert stats.cache_tokens_used == 0
    # The first rounds fill the allocator's pools. A layer lost at each switch would be 300 MB.
    assert sizes[-1] - sizes[2] < 40 * MB


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (Precision.FP32, Precision.INT4),
        (Precision.INT4, Precision.FP32),
        (Precision.BF16, Precision.INT8),
        (Precision.INT8, Precision.BF16),
    ],
)
def test_a_switch_never_holds_more_than_the_larger_precision_and_a_layer(
    start: Precision, end: Precision, middling_model: Path
) -> None:
    register_attention()
    model = load(middling_model, ATTENTION_NAME)
    runner = ModelRunner(model, placement=Placement(torch.device("cpu")), precision=start, cache_tokens=512)
    before = runner.weight_bytes
    largest_layer = max(weight_bytes(layer) for layer in _layers(runner))
    held: list[int] = []
    shares: list[float] = []

    def note(share: float) -> None:
        held.append(weight_bytes(model.module))
        shares.append(share)

    change = runner.set_precision(end, note)
    largest_layer = max(largest_layer, *(weight_bytes(layer) for layer in _layers(runner)))
    assert max(held) <= max(before, change.weight_bytes_after) + largest_layer
    assert shares == sorted(shares), "the administrator sees it go on"
    assert shares[-1] == 1


def _layers(runner: ModelRunner) -> list[torch.nn.Module]:
    return [runner.model.module.get_submodule(name) for name in runner.model.shape.layer_names]
