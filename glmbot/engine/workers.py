"""The other processes that share a model with this one: started, told what to do, and watched.

Each is told over a socket that nobody else has; it ends when that closes. What is done is the same in all of them
and in the same order, so one that fails or ends makes what the others computed worthless: they are ended too, and
all are started again.
"""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from glmbot.engine.spawner import Spawned, Spawner
from glmbot.errors import EngineError, PrecisionError

__all__ = ["WORKER", "PartSource", "Workers", "WorkersLost"]

_log = logging.getLogger(__name__)

# -P: no file of the folder where the bot was started is imported.
WORKER = (sys.executable, "-P", "-m", "glmbot.engine.worker")
# A worker says at least every few seconds that it loads; importing torch from a cold disk takes longest.
_SILENCE_S = 180.0
_LOOK_S = 0.5
_ENDING_S = 5.0


class WorkersLost(EngineError):
    """A process that shares the model has ended or stands still. What was being answered is lost."""


@dataclass(frozen=True, slots=True)
class PartSource:
    """What a worker opens, and how it computes."""

    folder: Path
    prefix_folder: Path | None = None
    chat_format: str = "auto"
    adapters: tuple[Path, ...] = ()
    activations: torch.dtype | None = None
    threads: int = 1


class Workers:
    """Of ranks 1 to world - 1; this process is rank 0. Not safe to call from two threads."""

    def __init__(
        self,
        source: PartSource,
        devices: Sequence[torch.device],
        *,
        on_lost: Callable[[], None] = lambda: None,
        silence_s: float = _SILENCE_S,
        spawner: Spawner | None = None,
    ) -> None:
        """devices: of each rank. on_lost: called in a thread of its own when a worker ends unasked. silence_s:
        after so long without a word a worker that starts or loads is given up."""
        self.source = source
        self.devices = tuple(devices)
        self.meeting: Path | None = None
        """A file that the processes meet over; its folder is this user's alone."""
        self._on_lost = on_lost
        self._silence_s = silence_s
        self._own = spawner is None
        self._spawner = spawner or Spawner(WORKER)
        self._workers: list[Spawned] = []

    @property
    def world(self) -> int:
        return len(self.devices)

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._workers]

    @property
    def whole(self) -> bool:
        """Whether all of them are there."""
        return len(self._workers) == self.world - 1 and all(worker.status is None for worker in self._workers)

    def start(self) -> None:
        """Start the processes anew, and have them open the model. Raises WorkersLost."""
        self._end()
        self.meeting = Path(tempfile.mkdtemp(prefix="glmbot-")) / "meeting"
        for rank in range(1, self.world):
            try:
                worker = self._spawner.spawn(self._watch, self._silence_s)
            except RuntimeError as error:
                raise self.lost(str(error), rank) from error
            self._workers.append(worker)
            self._tell(worker, rank, ("open", self.source, self.world, self.devices, str(self.meeting), rank))

    def tell(self, *message: Any) -> None:
        """Raises WorkersLost."""
        for rank, worker in enumerate(self._workers, 1):
            self._tell(worker, rank, message)

    def wait(self, what: str, on_tick: Callable[[], None] = lambda: None) -> list[Any]:
        """What each worker has made of what it was told last. on_tick is called now and then.

        Raises WorkersLost when one ends or says nothing for long, and PrecisionError when it could not do it.
        """
        answers = [self._answer(rank, worker, what, on_tick) for rank, worker in enumerate(self._workers, 1)]
        for answer in answers:
            if isinstance(answer, PrecisionError):
                raise answer
        return answers

    def lost(self, words: str, rank: int | None = None) -> WorkersLost:
        """End all of them, and say why."""
        workers = list(enumerate(self._workers, 1))
        deadline = time.monotonic() + _LOOK_S
        ended: list[str] = []
        while workers and not ended and time.monotonic() < deadline:
            ended = [
                f"{self._name(number)} {_how(worker.status)}"
                for number, worker in workers
                if worker.status is not None
            ]
            workers[0][1].wait(0.01)
        told = [self._last_words(number, worker) for number, worker in workers]
        self._end_all()
        reason = ", ".join(ended)
        if not reason:
            reason = words if rank is None else f"{self._name(rank)}: {words}"
        said = next((f" ({each})" for each in told if each), "")
        return WorkersLost(
            f"a process that shares the model was lost: {reason}{said}; what was being answered is lost"
        )

    def close(self) -> None:
        self._end()
        if self._own:
            self._spawner.close()

    def _end(self) -> None:
        workers, self._workers = self._workers, []
        for worker in workers:
            with suppress(OSError):
                worker.pipe.send(("end",))
        deadline = time.monotonic() + _ENDING_S
        for worker in workers:
            worker.wait(max(0.0, deadline - time.monotonic()))
            worker.end()
        self._end_all()

    def _end_all(self) -> None:
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.end()
        if self.meeting is not None:
            shutil.rmtree(self.meeting.parent, ignore_errors=True)
            self.meeting = None

    def _tell(self, worker: Spawned, rank: int, message: tuple[Any, ...]) -> None:
        try:
            worker.pipe.send(message)
        except OSError as error:
            raise self.lost(f"it takes nothing ({error})", rank) from error

    def _answer(self, rank: int, worker: Spawned, what: str, on_tick: Callable[[], None]) -> Any:
        heard = time.monotonic()
        while True:
            try:
                if worker.pipe.poll(_LOOK_S):
                    heard = time.monotonic()
                    kind, value = worker.pipe.recv()
                    if kind == "done":
                        return value
                    if kind == "failed":
                        return PrecisionError(f"{self._name(rank)}: {value}")
            except (EOFError, OSError) as error:
                raise self.lost(f"it ended while {what}", rank) from error
            on_tick()
            if time.monotonic() - heard > self._silence_s:
                raise self.lost(f"it has said nothing for {self._silence_s:.0f} s while {what}", rank)

    def _last_words(self, rank: int, worker: Spawned) -> str:
        with suppress(EOFError, OSError):
            while worker.pipe.poll():
                kind, value = worker.pipe.recv()
                if kind == "failed":
                    return f"{self._name(rank)}: {value}"
        return ""

    def _name(self, rank: int) -> str:
        return f"worker {rank} of {self.world - 1}"

    def _watch(self, worker: Spawned) -> None:
        if worker in self._workers:
            _log.error("%s %s", self._name(self._workers.index(worker) + 1), _how(worker.status or 0))
            self._on_lost()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
