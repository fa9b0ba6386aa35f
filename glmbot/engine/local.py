"""The shared engine on the asyncio side: streams, switches and deadlines end, whatever the model thread does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar

from glmbot.engine.base import (
    Ability,
    ChatFormat,
    EngineStats,
    FinishReason,
    Precision,
    PrecisionChange,
    Progress,
    Sampling,
)
from glmbot.engine.forming import Forming
from glmbot.engine.local_settings import LocalEngineSettings
from glmbot.engine.masks import FormMatcher
from glmbot.engine.model_thread import ModelThread, Update, words_of
from glmbot.engine.precision import available_precisions
from glmbot.engine.runner import ModelLost, ModelRunner
from glmbot.errors import EngineError, EngineStopped, PromptInvalid, PromptTooLong, QueueFull
from glmbot.models.registry import LoadedModel

__all__ = ["LocalEngine", "LocalEngineSettings"]

_log = logging.getLogger(__name__)

# The thread ends a late answer itself, with all of its text; after so long it is taken to stand still.
_GRACE_S = 1.0
_CLOSE_S = 60.0
# Each takes some hundred bytes here and in what is sent.
_MOST_SCORES = 2**17

_T = TypeVar("_T")


@dataclass(slots=True)
class _Stream:
    """The latest snapshot of a request, and a flag that it changed."""

    progress: Progress
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    error: EngineError | None = None

    def fail(self, error: EngineError) -> None:
        self.error = error
        self.changed.set()


class LocalEngine:
    """See `glmbot.engine.base.Engine`. Make one with `LocalEngine.start`."""

    def __init__(self, settings: LocalEngineSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self._loop = loop
        self._ids = count(1)
        self._streams: dict[int, _Stream] = {}
        self._forming = Forming()
        self._promises: set[asyncio.Future[Any]] = set()
        self._stopped: str | None = None
        """Why nothing is taken any more."""
        self._ready: asyncio.Future[None] = loop.create_future()
        self.thread = ModelThread(settings, _Crossing(self._tell, self._ready, self._deliver, self._end))

    @classmethod
    async def start(
        cls, settings: LocalEngineSettings, on_progress: Callable[[float], None] | None = None
    ) -> LocalEngine:
        """Load the model in the model thread. on_progress gets the share done, in that thread.

        Raises ModelFileError, and PrecisionError for a precision that the device lacks.
        """
        engine = cls(settings, asyncio.get_running_loop())
        engine.thread.on_load = on_progress
        engine.thread.start()
        try:
            await engine._ready
        except asyncio.CancelledError:
            # torch must not be at work while the interpreter is taken down.
            await engine.close()
            raise
        return engine

    @property
    def _model(self) -> LoadedModel:
        return self.thread.model

    @property
    def _runner(self) -> ModelRunner:
        return self.thread.runner

    @property
    def model_name(self) -> str:
        return self._model.name

    @property
    def context_length(self) -> int:
        return self.thread.context_length

    @property
    def chat_format(self) -> ChatFormat:
        return self._model.chat_format

    @property
    def generation_defaults(self) -> dict[str, object]:
        """The model folder's own sampling defaults (generation_config.json)."""
        return self._model.generation_defaults

    @property
    def holds_forms(self) -> bool:
        """See `glmbot.engine.base.HoldsForms`."""
        return self.thread.forms is not None

    @property
    def abilities(self) -> frozenset[Ability]:
        """See `glmbot.engine.texts.Able`."""
        return frozenset({Ability.DRAWING, Ability.SCORES})

    @property
    def precision(self) -> Precision:
        return self._runner.precision

    @property
    def precisions(self) -> Sequence[Precision]:
        return available_precisions(self._runner.device)

    async def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        user: str,
        deadline_s: float | None = None,
        begun: int = 0,
    ) -> AsyncGenerator[Progress, None]:
        self._check_running()
        limit = self.context_length
        if not prompt or len(prompt) + sampling.max_tokens > limit:
            raise PromptTooLong(len(prompt), limit - sampling.max_tokens)
        self._check_prompt(prompt, begun)
        self._check_scores(prompt, sampling)
        if len(self._streams) + self._forming.waiting >= self.settings.max_batch + self.settings.queue_limit:
            waiting = max(0, len(self._streams) - len(self.thread.scheduler.running))
            self.thread.counters.refused += 1
            raise QueueFull(waiting, self.thread.counters.expected_wait(waiting))
        now = time.monotonic()
        late = None if deadline_s is None else self._loop.time() + deadline_s + _GRACE_S
        try:
            async with asyncio.timeout(deadline_s):
                matcher = await self._matcher(sampling, prompt, begun, user)
        except TimeoutError:
            yield Progress(prompt_tokens=len(prompt), finish=FinishReason.DEADLINE)
            return
        sequence = self._runner.sequence(
            next(self._ids),
            user,
            prompt,
            sampling,
            arrival=now,
            deadline=None if deadline_s is None else now + deadline_s,
        )
        sequence.matcher = matcher
        stream = self._streams[sequence.id] = _Stream(Progress(prompt_tokens=len(prompt)))
        self.thread.submit(sequence, begun)
        try:
            while True:
                try:
                    async with asyncio.timeout_at(late):
                        await stream.changed.wait()
                except TimeoutError:
                    stream.progress = replace(stream.progress, finish=FinishReason.DEADLINE, place=None)
                stream.changed.clear()
                if stream.error is not None:
                    raise stream.error
                # While who reads this works, the end may come: it is said too.
                progress = stream.progress
                yield progress
                if progress.finish is not None:
                    return
        finally:
            del self._streams[sequence.id]
            self.thread.cancel(sequence.id)

    async def set_precision(
        self, precision: Precision, on_progress: Callable[[float], None] | None = None
    ) -> PrecisionChange:
        def report(share: float) -> None:
            if on_progress is not None:
                self._tell(on_progress, share)

        return await self._promised(lambda: self.thread.set_precision(precision, report))

    async def forget(self, user: str) -> None:
        if self._stopped is None:
            if self.thread.forms is not None:
                self.thread.forms.forget(user)
            # A thread that ends keeps nothing.
            with suppress(EngineStopped):
                await self._promised(lambda: self.thread.scheduler.retained.forget(user))

    def stats(self) -> EngineStats:
        return replace(self.thread.stats(), alive=self._stopped is None and self.thread.alive)

    async def close(self) -> None:
        """Stop after the current step; what still runs gets EngineStopped."""
        self._end("the engine is shutting down")
        self.thread.stop()
        self._forming.close()
        if not await asyncio.to_thread(self.thread.join, _CLOSE_S):
            _log.error("the model thread is still at one step after %d s and is left alone", _CLOSE_S)

    # ---- between the two threads -----------------------------------------------------------------------------

    def _check_running(self) -> None:
        if self._stopped is not None:
            raise EngineStopped(self._stopped)

    async def _matcher(
        self, sampling: Sampling, prompt: Sequence[int], begun: int, user: str
    ) -> FormMatcher | None:
        if sampling.form is None:
            return None
        made = await self._forming.matcher(self.thread.forms, sampling.form, prompt, begun, user=user)
        self._check_running()
        return made

    def _check_prompt(self, prompt: Sequence[int], begun: int) -> None:
        """Ids may come from another program: one that is none would fail the step of everybody."""
        most = self._model.shape.vocabulary
        wrong = next((token for token in prompt if not 0 <= token < most), None)
        if wrong is not None:
            which = wrong if abs(wrong) < 2**63 else "a number of more than 64 bits"
            raise PromptInvalid(f"the prompt holds {which}, and the model's tokens are 0 to {most - 1}")
        if not 0 <= begun <= len(prompt):
            raise PromptInvalid(f"begun must be from 0 to the prompt's {len(prompt)} tokens")

    def _check_scores(self, prompt: Sequence[int], sampling: Sampling) -> None:
        most = self._model.shape.vocabulary
        wrong = next((token for token, _ in sampling.logit_bias if not 0 <= token < most), None)
        if wrong is not None:
            raise PromptInvalid(f"logit_bias names {wrong}, and the model's tokens are 0 to {most - 1}")
        if sampling.prompt_logprobs is None:
            return
        if self._model.positions.context_length(prompt):
            raise PromptInvalid(
                "this model reads its prompt in both directions, so the tokens in it have no likelihoods"
            )
        if len(prompt) * (1 + sampling.prompt_logprobs) > _MOST_SCORES:
            raise PromptInvalid(
                f"at most {_MOST_SCORES:,} likelihoods of a prompt are told; ask for a shorter one, or for fewer"
                " of the likeliest"
            )

    async def _promised(self, work: Callable[[], _T]) -> _T:
        """The outcome of `work` in the model thread. Raises EngineError: EngineStopped when the thread ends
        first."""
        self._check_running()
        promise: asyncio.Future[_T] = self._loop.create_future()
        self._promises.add(promise)
        promise.add_done_callback(self._promises.discard)

        def command() -> None:
            try:
                made = work()
            except ModelLost as error:
                self._tell(_settle, promise, error)
                raise
            except EngineError as error:
                self._tell(_settle, promise, error)
            except BaseException as error:
                _log.exception("a command to the model failed")
                self._tell(_settle, promise, EngineError(f"the model failed: {words_of(error)}"))
            else:
                self._tell(_settle, promise, made)

        self.thread.do(command)
        return await promise

    def _tell(self, call: Callable[..., object], *arguments: object) -> None:
        """From the model thread. A loop that was closed has nobody left to tell."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    def _deliver(self, updates: Sequence[Update]) -> None:
        for stream_id, update in updates:
            stream = self._streams.get(stream_id)
            if stream is None:
                continue
            if isinstance(update, EngineError):
                stream.fail(update)
            else:
                stream.progress = update
                stream.changed.set()

    def _end(self, reason: str) -> None:
        """Nothing will come any more for anybody."""
        if self._stopped is None:
            self._stopped = reason
        for stream in self._streams.values():
            stream.fail(EngineStopped(self._stopped))
        for promise in list(self._promises):
            _settle(promise, EngineStopped(self._stopped))


@dataclass(frozen=True, slots=True)
class _Crossing:
    """See `glmbot.engine.model_thread.Listener`. Each call is made in the model thread, and handed to the loop."""

    tell: Callable[..., None]
    ready: asyncio.Future[None]
    deliver: Callable[[Sequence[Update]], None]
    end: Callable[[str], None]

    def loaded(self, error: BaseException | None) -> None:
        self.tell(_settle, self.ready, error)

    def updated(self, updates: Sequence[Update]) -> None:
        self.tell(self.deliver, list(updates))

    def ended(self, reason: EngineStopped) -> None:
        self.tell(self.end, str(reason))


def _settle(future: asyncio.Future[Any], outcome: object) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
