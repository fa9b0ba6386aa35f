"""Precision that switches while people talk: nothing is lost, nothing leaks, and memory stays within its bound."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision
from glmbot.engine.placement import Placement
from glmbot.engine.runner import ModelRunner
from glmbot.engine.sizes import weight_bytes
from glmbot.models.registry import load
from tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def middling_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers of 1.3 million parameters: large enough that one which is not given back shows, forty times over."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "middling", hidden=384, layers=4)


@pytest.mark.timeout(600)
def test_forty_switches_under_eight_busy_streams_lose_no_token_and_leak_no_memory(
    middling_model: Path,
) -> None:
    """In a process of its own, whose memory is the engine's alone."""
    script = Path(__file__).parent / "forty_switches.py"
    done = subprocess.run(
        [sys.executable, str(script), str(middling_model)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["switches"] == 40
    assert seen["streams"] == 8
    assert seen["switches_while_all_were_busy"] > 20
    assert seen["answers"] >= 8
    assert seen["finishes"] == ["length"]
    assert seen["lengths"] == [seen["answer_tokens"]], "every answer has all of its tokens"
    assert seen["tokens_generated"] == seen["answers"] * seen["answer_tokens"]
    assert seen["cache_tokens_left"] == 0
    # A layer lost at each switch would be 100 MB at the least.
    assert seen["growth_mb"] < 40


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
    old = [weakref.ref(tensor) for tensor in _weights(model.module)]
    held: list[int] = []
    shares: list[float] = []

    def note(share: float) -> None:
        current = {id(tensor) for tensor in _weights(model.module)}
        # What no layer has any more, and somebody else holds.
        left = [tensor for each in old if (tensor := each()) is not None and id(tensor) not in current]
        held.append(weight_bytes(model.module) + sum(tensor.nbytes for tensor in left))
        shares.append(share)

    change = runner.set_precision(end, note)
    largest_layer = max(largest_layer, *(weight_bytes(layer) for layer in _layers(runner)))
    assert max(held) <= max(before, change.weight_bytes_after) + largest_layer
    assert shares == sorted(shares), "the administrator sees it go on"
    assert shares[-1] == 1


def _weights(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _layers(runner: ModelRunner) -> list[torch.nn.Module]:
    return [runner.model.module.get_submodule(name) for name in runner.model.shape.layer_names]
