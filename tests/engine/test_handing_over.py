"""When what a step brought is handed over: before a program computes the next one, and before whatever else takes long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from glmbot.engine import model_thread
from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision, Progress, Sampling
from glmbot.engine.local_settings import LocalEngineSettings
from glmbot.engine.model_thread import ModelThread, Update
from glmbot.engine.placement import Placement
from glmbot.engine.runner import ModelRunner
from glmbot.errors import EngineStopped
from glmbot.models.registry import load
from glmbot.native.program import Program


class Heard:
    """Writes down in one list what is told, and when something is computed."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def loaded(self, error: BaseException | None) -> None: ...

    def updated(self, updates: Sequence[Update]) -> None:
        self.events += [
            "told" for _, update in updates if isinstance(update, Progress) and update.completion_tokens
        ]

    def ended(self, reason: EngineStopped) -> None: ...


def test_the_event_loop_hears_of_a_step_when_the_next_has_all_that_it_needs(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_attention()
    runner = ModelRunner(
        load(tiny_model, ATTENTION_NAME),
        placement=Placement(torch.device("cpu")),
        precision=Precision.FP32,
        cache_tokens=512,
    )
    if not runner.native:
        pytest.skip("no kernels here")
    heard, compute = Heard(), Program.run

    def noted(self: Program, *given: Any) -> Any:
        heard.events.append("computes")
        return compute(self, *given)

    monkeypatch.setattr(Program, "run", noted)
    monkeypatch.setattr(model_thread, "load_runner", lambda *_: runner)
    thread = ModelThread(LocalEngineSettings(Path("nowhere")), heard)
    thread._load()
    prompt = runner.model.chat_format.encode_chat("", (), "the fox")
    # A temperature of 5 says nothing that could be guessed.
    sampling = Sampling(max_tokens=6, temperature=5.0, seed=3)
    thread.submit(runner.sequence(1, "ann", prompt, sampling, arrival=0.0), 0)
    for _ in range(3):
        thread._round()
    assert heard.events == ["computes", "told", "computes", "told", "computes"]
    thread.do(lambda: heard.events.append("command"))
    thread._round()
    assert heard.events[5:] == ["told", "command", "computes"]
    while thread.scheduler.running:
        thread._round()
    # Nothing is left to compute; it looks for a command.
    thread.do(lambda: heard.events.append("idle"))
    thread._round()
    thread._computing.close()
    assert heard.events[-2:] == ["told", "idle"]
    assert heard.events.count("told") == heard.events.count("computes")
