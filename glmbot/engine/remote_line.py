"""What remote engines have in common: the model on OpenAI-compatible servers, and the line before them.

Requests wait here, in a line that is fair between users, and at most `parallel` are open at a time. One that
fails, also in the middle of its answer, goes on at another server, or at the same one when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from glmbot.engine.base import EngineStats, FinishReason, Precision, Progress
from glmbot.engine.counters import Counters
from glmbot.engine.fairness import fair_order
from glmbot.engine.openai_client import FAILURES, OpenAIClient, ServerBusy
from glmbot.engine.openai_stream import Delta, StreamBroken, on_one_line, read_models
from glmbot.engine.remote_answer import RemoteAnswer
from glmbot.engine.servers import Server, Servers
from glmbot.errors import (
    EngineError,
    EngineStopped,
    ModelFileError,
    PromptTooLong,
    QueueFull,
    ServerUnavailable,
)

__all__ = ["RemoteEngineSettings", "RemoteLine"]

_log = logging.getLogger(__name__)

_JUST_AFTER_S = 0.01
_LONGEST_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class RemoteEngineSettings:
    """`servers`: addresses such as http://10.0.0.5:8000/v1, of the same model. Sizes in tokens, times in seconds.

    `tokenizer` is a folder of the served model and means its completions interface; None is the chat interface.
    """

    servers: Sequence[str]
    tokenizer: Path | None = None
    model: str = ""
    """Its name at the servers; "" is the first that each lists."""
    api_key: str = field(default="", repr=False)
    context_length: int = 2048
    parallel: int = 16
    queue_limit: int = 64
    connect_s: float = 5.0
    first_token_s: float = 90.0
    next_token_s: float = 30.0
    patience_s: float = 60.0
    thinks: bool = True
    """False: a model that can do without is asked not to think before it answers."""


@dataclass(slots=True, eq=False)
class _Request:
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


class RemoteLine:
    """The servers, and whom they answer. What is asked of them, and how, subclasses say."""

    def __init__(self, settings: RemoteEngineSettings) -> None:
        self.settings = settings
        self._clock = asyncio.get_running_loop().time
        self._servers = Servers(settings.servers, self._clock)
        self._counters = Counters()
        self._waiting: list[_Request] = []
        self._running: list[_Request] = []
        self._last_served: dict[str, int] = {}
        self._turn = 0
        self._stopping = False
        self._learned = ""
        self.client = OpenAIClient(
            api_key=settings.api_key,
            connect_s=settings.connect_s,
            first_token_s=settings.first_token_s,
            next_token_s=settings.next_token_s,
        )

    async def look_for_servers(self) -> None:
        """Those that can't be reached yet are tried again when asked. Raises what `suits` raises."""
        await asyncio.gather(*(self._look_for(server) for server in self._servers.all))

    async def _look_for(self, server: Server) -> None:
        try:
            await self._greet(server)
        except FAILURES as error:
            trouble = _words(error)
            self._servers.failed(server, trouble)
            _log.warning("model server %s is not there yet: %s", server.label, trouble)

    @property
    def model_name(self) -> str:
        known = (server.model for server in self._servers.all if server.model)
        # It is called the same while no server answers.
        self._learned = next(known, self._learned)
        name = self.settings.model or self._learned or self._servers.all[0].label
        return name.rstrip("/").rpartition("/")[2] or name

    @property
    def reached(self) -> Sequence[tuple[str, str | None]]:
        """Each server, and the model that it serves, None when it has not answered yet."""
        return [(server.label, server.model or None) for server in self._servers.all]

    @property
    def context_length(self) -> int:
        return self.settings.context_length

    async def ask(
        self, answer: RemoteAnswer, *, user: str, deadline_s: float | None
    ) -> AsyncGenerator[Progress, None]:
        """See `glmbot.engine.base.Engine.generate`."""
        if self._stopping:
            raise EngineStopped("the engine is shutting down")
        limit, size, most = self.context_length, answer.prompt_tokens, answer.sampling.max_tokens
        if not size or size + most > limit:
            raise PromptTooLong(size, limit - most)
        if len(self._waiting) >= self.settings.queue_limit and len(self._running) >= self.settings.parallel:
            self._counters.refused += 1
            expected = self._counters.expected_wait(len(self._waiting))
            raise QueueFull(len(self._waiting), expected)
        request = _Request(user, answer, self._clock())
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
        """Servers keep what they computed by tokens alone, without any name."""

    def stats(self) -> EngineStats:
        counters = self._counters
        return EngineStats(
            model=self.model_name,
            precision=Precision.SERVED,
            running=len(self._running),
            waiting=len(self._waiting),
            queue_limit=self.settings.queue_limit,
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
            servers=tuple((server.label, server.works) for server in self._servers.all),
        )

    async def close(self) -> None:
        """What still runs gets EngineStopped."""
        self._stopping = True
        tasks = [request.task for request in self._running if request.task is not None]
        for request in (*self._running, *self._waiting):
            request.fail(EngineStopped("the engine is shutting down"))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.close()

    # ---- the line --------------------------------------------------------------------------------------------

    def _line(self) -> list[_Request]:
        running = [request.user for request in self._running]
        return fair_order(self._waiting, running, self._last_served, self._turn)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.settings.parallel and not self._stopping:
            request = self._line()[0]
            self._waiting.remove(request)
            self._running.append(request)
            self._counters.working(True)
            self._turn += 1
            self._last_served[request.user] = self._turn
            request.show(Progress(prompt_tokens=request.answer.prompt_tokens))
            request.task = asyncio.create_task(self._serve(request))
        for place, request in enumerate(self._line(), 1):
            request.show(Progress(place=place, prompt_tokens=request.answer.prompt_tokens))

    def _end(self, request: _Request) -> None:
        if request.task is not None and not request.task.done():
            request.task.cancel()
        if request in self._waiting:
            self._waiting.remove(request)
        if request.progress.finish is None and request.error is None:
            self._counters.cancelled += 1
        self._leave(request)

    def _leave(self, request: _Request) -> None:
        if request in self._running:
            self._running.remove(request)
        if not self._running:
            self._counters.working(False)
        if not self._running and not self._waiting:
            self._last_served.clear()
        self._admit()

    async def _serve(self, request: _Request) -> None:
        try:
            await self._answer(request)
            self._counters.finish()
        except EngineError as error:
            request.fail(error)
        except Exception as error:
            _log.exception("a request failed")
            request.fail(EngineError(f"the request failed: {error}"))
        finally:
            self._leave(request)

    # ---- one answer ------------------------------------------------------------------------------------------

    async def _answer(self, request: _Request) -> None:
        """Ask servers until one has said the end of the answer. Raises EngineError."""
        answer = request.answer
        heard = self._clock()
        while answer.finish is None:
            server = self._servers.choose()
            if server is None:
                if self._clock() - heard > self.settings.patience_s:
                    troubles = "; ".join(f"{each.label}: {each.trouble}" for each in self._servers.all)
                    raise ServerUnavailable(f"no model server works. {troubles}")
                await asyncio.sleep(min(self._servers.pause_s() + _JUST_AFTER_S, _LONGEST_WAIT_S))
                continue
            trouble, again_after_s = "the answer broke off", None
            try:
                if not server.model:
                    await self._greet(server)
                async with aclosing(
                    self.client.stream(f"{server.url}/{answer.path}", answer.body(server.model))
                ) as deltas:
                    async for delta in deltas:
                        self._servers.works(server)
                        heard = self._clock()
                        self._take(request, delta)
                        if answer.cut:
                            _log.warning("model server %s went on past the end of an answer", server.label)
                            break
            except ServerBusy as error:
                trouble, again_after_s = str(error), error.again_after_s
            except TimeoutError:
                trouble = "nothing came for too long"
            except EngineError:
                self._servers.works(server)
                raise
            except (*FAILURES, ModelFileError) as error:
                trouble = _words(error)
            finally:
                self._servers.leave(server)
            if answer.finish is None:
                _log.warning("model server %s failed: %s", server.label, trouble)
                self._servers.failed(server, trouble, again_after_s)
                # Encoding a long text takes its time.
                await asyncio.to_thread(answer.interrupt)
        self._counters.read += answer.tokens_read
        self._counters.reused += answer.tokens_reused
        request.show(answer.progress())

    def _take(self, request: _Request, delta: Delta) -> None:
        answer = request.answer
        says_more = bool(delta.text or delta.thought)
        if says_more and answer.silent:
            self._counters.first_token(self._clock() - request.arrival)
        answer.take(delta)
        if says_more:
            self._counters.generated += 1
            self._counters.step(len(self._running), 1)
        if answer.finish is None:
            request.grow()

    # ---- servers ---------------------------------------------------------------------------------------------

    async def _greet(self, server: Server) -> None:
        """Learn the model's name, and see that it suits us.

        Raises one of FAILURES when the server does not say, and what `suits` raises.
        """
        try:
            models = read_models(await self.client.ask("GET", f"{server.url}/models"))
            found = self.settings.model or next(iter(models))
        except (*FAILURES, ValueError, StopIteration) as error:
            if not self.settings.model:
                if isinstance(error, (aiohttp.ClientConnectionError, TimeoutError)):
                    raise
                raise StreamBroken(f"it does not list its models: {_words(error)}") from error
            # Not every service lists them.
            models, found = {}, self.settings.model
        if models and found not in models:
            _log.warning("model server %s lists no model %r", server.label, found)
        context = models.get(found)
        if context is not None and context < self.context_length:
            words = "model server %s has a context of %d tokens, and [model] context_length is %d"
            _log.warning(words, server.label, context, self.context_length)
        await self.suits(server, found)
        server.model = found

    async def suits(self, server: Server, model: str) -> None:
        """Whether that server's model is the one that is asked here. Raises ModelFileError."""


def _words(error: Exception) -> str:
    """Some of the libraries' errors say nothing."""
    return on_one_line(str(error)) or type(error).__name__
