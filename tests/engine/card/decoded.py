"""Requests that come and go at a model thread which is driven round by round, on a program for a card."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

from engine.card.each_time import EachTime
from glmbot.cuda.target import Card
from glmbot.engine import model_thread
from glmbot.engine.attention import ATTENTION_NAME
from glmbot.engine.base import Precision, Progress, Sampling
from glmbot.engine.card.recording import Recorder
from glmbot.engine.local_settings import LocalEngineSettings
from glmbot.engine.model_thread import ModelThread, Update
from glmbot.engine.placement import Placement
from glmbot.engine.runner import ModelRunner
from glmbot.errors import EngineError, EngineStopped
from glmbot.models.lowering import lower_for
from glmbot.models.registry import load

__all__ = ["Request", "carded", "recorded", "said"]

# With activations of its own the CPU has the layers that a card has.
_LIKE_A_CARD = Placement(torch.device("cpu"), activations=torch.float32)


# Of requests: each has its own, as in an engine.
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Request:
    """round: when it comes. leaves: after so many rounds it is cancelled."""

    words: str
    sampling: Sampling
    round: int = 0
    leaves: int | None = None


def carded(folder: Path) -> ModelRunner:
    """A runner whose program is one for a card, in plain torch."""
    runner = ModelRunner(
        load(folder, ATTENTION_NAME), placement=_LIKE_A_CARD, precision=Precision.FP32, cache_tokens=512
    )
    runner.part.lowered = lower_for(Card(torch.device("cpu"), torch.float32, None), runner.model.module)
    assert runner.part.lowered is not None
    return runner


def recorded(runner: ModelRunner, recorder: Recorder | None = None) -> ModelRunner:
    runner.part.record_with(recorder or EachTime())
    return runner


class _Listener:
    def __init__(self) -> None:
        self.last: dict[int, Progress | EngineError] = {}

    def loaded(self, error: BaseException | None) -> None: ...

    def updated(self, updates: Sequence[Update]) -> None:
        self.last.update(updates)

    def ended(self, reason: EngineStopped) -> None: ...


def said(
    runner: ModelRunner,
    requests: Sequence[Request],
    monkeypatch: pytest.MonkeyPatch,
    happens: Mapping[int, Callable[[ModelThread], object]] | None = None,
) -> list[tuple[list[int], Progress | EngineError | None]]:
    """Of each request the tokens of its answer, and the last that was told of it. happens: what is done between two
    steps, by the round."""
    monkeypatch.setattr(model_thread, "load_runner", lambda *_: runner)
    listener = _Listener()
    thread = ModelThread(LocalEngineSettings(Path("nowhere"), max_batch=16), listener)
    thread._load()
    sequences = [
        runner.sequence(
            next(_NUMBERS), f"user {number}", runner.model.chat_format.encode_chat("", (), request.words),
            request.sampling, arrival=0.0,
        )
        for number, request in enumerate(requests)
    ]  # fmt: skip
    for turn in range(400):
        for number, request in enumerate(requests):
            if request.round == turn:
                thread.submit(sequences[number], 0)
            if request.leaves is not None and request.round + request.leaves == turn:
                thread.cancel(sequences[number].id)
        if happens and turn in happens:
            thread.do(partial(happens[turn], thread))  # pyright: ignore[reportArgumentType]
        idle = not thread.scheduler.running and not thread.scheduler.waiting
        if idle and thread._commands.empty():
            if all(request.round < turn for request in requests):
                break
            continue
        thread._round()
    thread._flush()
    thread._computing.close()
    for sequence in sequences:
        assert sequence.place is None, "its range was given back"
    runner.allocator = type(runner.allocator)(runner.allocator.capacity)
    return [
        (sequence.tokens[sequence.prompt_length :], listener.last.get(sequence.id)) for sequence in sequences
    ]
