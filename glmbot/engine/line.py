"""The line before whatever answers elsewhere than in our own batches: servers, and the engines of plug-ins.

Requests wait in a line that is fair between users, and at most `parallel` are answered at a time.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from glmbot.engine.base import EngineStats, FinishReason, Precision, Progress
from glmbot.engine.counters import Counters
from glmbot.engine.fairness import fair_order
from glmbot.engine.openai_stream import Delta
from glmbot.engine.remote_answer import RemoteAnswer
from glmbot.errors import EngineError, EngineStopped, PromptTooLong, QueueFull

__all__ = ["Line", "Request"]

_log = logging.getLogger(__name__)

# What was cancelled ends at once, or not at all.
_ENDS_S = 10.0


@dataclass(slots=True, eq=False)
class Request:
    user: str
    answer: RemoteAnswer
    arrival: float
    """Of the loop's clock, as all times here."""
    progress: Progress = field(default_factory=Progress)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    error: EngineError | None = None
    task: asyncio.Task[None] | None = None
    growing: bool = False
    """The answer has more to show than `progress`, once somebody looks."""
    heard: float = 0.0
    """When a server said something last."""

    def grow(self) -> None:
        self.growing = True
        self.changed.set()

    def latest(self) -> Progress:
        if self.growing:
            self.progress, self.growing = self.answer.progress(), False
        return self.progress

    def show(self, progress: Progress) -> None:
        self.growing = False
        if progress != self.progress:
            self.progress = progress
            self.changed.set()

    def fail(self, error: EngineError) -> None:
        self.error = error
        self.changed.set()


class Line(ABC):
    """Who waits and who is answered. How an answer is had, subclasses say."""

    def __init__(self, context_length: int, parallel: int, queue_limit: int) -> None:
        self.context_length = context_length
        self.clock = asyncio.get_running_loop().time
        self.counters = Counters()
        self._parallel = parallel
        self._queue_limit = queue_limit
        self._waiting: list[Request] = []
        self._running: list[Request] = []
        self._last_served: dict[str, int] = {}
        self._turn = 0
        self._stopping = False

    @property
    @abstractmethod
    def model_name(self) -> str: ...

    @abstractmethod
    async def answer_it(self, request: Request) -> None:
        """Have the whole answer come, piece by piece by `take`, and show its end. Raises EngineError."""

    async def ask(
        self, answer: RemoteAnswer, *, user: str, deadline_s: float | None
    ) -> AsyncGenerator[Progress, None]:
        """See `glmbot.engine.base.Engine.generate`."""
        if self._stopping:
            raise EngineStopped("the engine is shutting down")
        limit, size, most = self.context_length, answer.prompt_tokens, answer.sampling.max_tokens
        if not size or size + most > limit:
            raise PromptTooLong(size, limit - most)
        if len(self._waiting) >= self._queue_limit and len(self._running) >= self._parallel:
            self.counters.refused += 1
            expected = self.counters.expected_wait(len(self._waiting))
            raise QueueFull(len(self._waiting), expected)
        request = Request(user, answer, self.clock())
        self._waiting.append(request)
        self._admit()
        deadline = None if deadline_s is None else request.arrival + deadline_s
        try:
            finished = False
            while not finished:
                try:
                    async with asyncio.timeout_at(deadline):
                        await request.changed.wait()
                except TimeoutError:
                    request.show(replace(request.latest(), finish=FinishReason.DEADLINE, place=None))
                request.changed.clear()
                if request.error is not None:
                    raise request.error
                progress = request.latest()
                finished = progress.finish is not None
                yield progress
        finally:
            self._end(request)

    async def forget(self, user: str) -> None:
        """Nothing is kept here of requests that have ended."""
        del user

    def stats(self) -> EngineStats:
        counters = self.counters
        return EngineStats(
            model=self.model_name,
            precision=Precision.SERVED,
            running=len(self._running),
            waiting=len(self._waiting),
            queue_limit=self._queue_limit,
            tokens_generated=counters.generated,
            prompt_tokens_read=counters.read,
            prompt_tokens_reused=counters.reused,
            requests_finished=counters.finished,
            requests_cancelled=counters.cancelled,
            requests_refused=counters.refused,
            first_token=counters.waits(),
            tokens_per_second=counters.speed(),
            largest_batch=counters.largest_batch,
            alive=not self._stopping,
            waiting_users=tuple(Counter(request.user for request in self._waiting).items()),
        )

    async def close(self) -> None:
        """What still runs gets EngineStopped."""
        self._stopping = True
        tasks = [request.task for request in self._running if request.task is not None]
        for request in (*self._running, *self._waiting):
            request.fail(EngineStopped("the engine is shutting down"))
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDS_S)

    # ---- the line --------------------------------------------------------------------------------------------

    def _line(self) -> list[Request]:
        running = [request.user for request in self._running]
        return fair_order(self._waiting, running, self._last_served, self._turn)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._parallel and not self._stopping:
            request = self._line()[0]
            self._waiting.remove(request)
            self._running.append(request)
            self.counters.working(True)
            self._turn += 1
            self._last_served[request.user] = self._turn
            request.show(Progress(prompt_tokens=request.answer.prompt_tokens))
            request.task = asyncio.create_task(self._serve(request))
        for place, request in enumerate(self._line(), 1):
            request.show(Progress(place=place, prompt_tokens=request.answer.prompt_tokens))

    def _end(self, request: Request) -> None:
        if request.task is not None and not request.task.done():
            request.task.cancel()
        if request in self._waiting:
            self._waiting.remove(request)
        if request.progress.finish is None and request.error is None:
            self.counters.cancelled += 1
        self._leave(request)

    def _leave(self, request: Request) -> None:
        if request in self._running:
            self._running.remove(request)
        if not self._running:
            self.counters.working(False)
        if not self._running and not self._waiting:
            self._last_served.clear()
        self._admit()

    async def _serve(self, request: Request) -> None:
        try:
            await self.answer_it(request)
            self.counters.finish()
        except EngineError as error:
            request.fail(error)
        except Exception as error:
            _log.exception("a request failed")
            request.fail(EngineError(f"the request failed: {error}"))
        finally:
            self._leave(request)

    def take(self, request: Request, delta: Delta) -> None:
        answer = request.answer
        if delta.says_more and answer.silent:
            self.counters.first_token(self.clock() - request.arrival)
        answer.take(delta)
        if delta.says_more:
            self.counters.generated += 1
            self.counters.step(len(self._running), 1)
        if answer.finish is None:
            request.grow()
