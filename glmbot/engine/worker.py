"""A process that computes its part of a model for another one. It does what it is told, and ends with that one.

`python -m glmbot.engine.worker DESCRIPTOR` is the one that such processes are forks of.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision
from glmbot.engine.kv_cache import Range
from glmbot.engine.part import ModelPart
from glmbot.engine.placement import shared_placement
from glmbot.engine.sizes import weight_bytes
from glmbot.engine.spawner import spawning
from glmbot.engine.step import Step
from glmbot.engine.tensor_group import TensorGroup
from glmbot.engine.workers import PartSource
from glmbot.errors import in_one_line
from glmbot.models.registry import load

__all__ = ["Worker", "main"]

_SAYS_EVERY_S = 1.0


class Worker:
    """Each public method is something to be told; what it returns is said back, where it is waited for."""

    def __init__(self, say: Callable[[str, Any], None]) -> None:
        self._say = say
        self._said_at = 0.0
        self._part: ModelPart
        self._meeting: tuple[str, int, int, torch.device]

    def open(
        self, source: PartSource, world: int, devices: tuple[torch.device, ...], meeting: str, rank: int
    ) -> None:
        self._say("progress", 0.0)
        torch.set_num_threads(source.threads)
        register_attention()
        model = load(
            source.folder,
            ATTENTION_NAME,
            source.prefix_folder,
            source.chat_format,
            adapters=source.adapters,
            speaks=False,
        )
        placement = shared_placement(model, devices[rank], rank, world, source.activations)
        self._part = ModelPart(model, placement)
        self._meeting = meeting, rank, world, devices[rank]

    def fill(self, precision: Precision) -> int:
        self._part.fill(precision, self._progress)
        return weight_bytes(self._part.model.module)

    def affordable(self, precision: Precision) -> int:
        return self._part.affordable_tokens(precision)

    def meet(self) -> None:
        meeting, rank, world, device = self._meeting
        self._part.meet(TensorGroup(meeting, rank, world, device))

    def make_arena(self, capacity: int, precision: Precision) -> None:
        self._part.make_arena(capacity, precision)

    def convert(self, precision: Precision, live: tuple[Range, ...]) -> None:
        self._part.convert(precision, live)

    def write_prefix(self, start: int) -> None:
        self._part.write_prefix(start)

    def copy(self, source: int, target: int, length: int) -> None:
        self._part.copy(source, target, length)

    def distrust(self) -> None:
        self._part.distrust()

    def compute(self, step: Step, plainly: bool) -> None:
        self._part.compute(step, plainly=plainly)

    def _progress(self, share: float) -> None:
        if time.monotonic() - self._said_at > _SAYS_EVERY_S:
            self._said_at = time.monotonic()
            self._say("progress", share)


# What the other process waits for. A fault of another ends this one, as nobody computes the same any more.
_ANSWERED = ("open", "fill", "affordable", "meet", "make_arena")
_MAY_FAIL = ("fill",)
_OF_ITS_OWN = ("open", "fill", "make_arena", "convert")


def serve(pipe: Connection) -> None:
    worker = Worker(lambda kind, value: pipe.send((kind, value)))
    while True:
        try:
            what, *arguments = pipe.recv()
        except (EOFError, OSError):
            return
        if what == "end":
            return
        try:
            with torch.inference_mode(what not in _OF_ITS_OWN):
                made = getattr(worker, what)(*arguments)
            if what in _ANSWERED:
                pipe.send(("done", made))
        except Exception as error:
            words = in_one_line(error)
            try:
                pipe.send(("failed", words))
            except OSError:
                return
            if what not in _MAY_FAIL:
                raise SystemExit(1) from error


def main(descriptor: int) -> None:
    logging.basicConfig(level=logging.WARNING, format="worker: %(message)s")
    # Who wants the bot to end tells it, not its workers; they end with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    spawning(Connection(descriptor), serve)


if __name__ == "__main__":
    main(int(sys.argv[1]))
