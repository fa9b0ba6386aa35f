"""The shared engine: one model thread owns torch, and this file is its only crossing to asyncio."""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeVar

import torch

from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import (
    ChatFormat,
    EngineStats,
    FinishReason,
    Precision,
    PrecisionChange,
    Progress,
    Sampling,
)
from glmbot.engine.counters import Counters
from glmbot.engine.detokenizer import Detokenizer
from glmbot.engine.lookup import PromptLookup
from glmbot.engine.placement import parse_devices, place
from glmbot.engine.precision import available_precisions, checkpoint_precision, default_precision
from glmbot.engine.runner import LEAST_CACHE_TOKENS, ModelRunner
from glmbot.engine.sampling import Draw, sample
from glmbot.engine.scheduler import Chunk, Scheduler
from glmbot.engine.scheduler import Sequence as EngineSequence
from glmbot.errors import EngineError, EngineStopped, NumericalFault, PromptTooLong, QueueFull
from glmbot.models.registry import LoadedModel, load, opening

__all__ = ["LocalEngine", "LocalEngineSettings"]

_log = logging.getLogger(__name__)

# More people than this fill the processor without guesses.
_MOST_GUESSING = 2
# A step of so many prompt tokens lasts about a tenth of a second on a CPU: those who decode hardly notice.
_PREFILL_TOKENS = {True: 128, False: 512}


@dataclass(frozen=True, slots=True)
class LocalEngineSettings:
    """Sizes in tokens. `precision` None is the device's default; `threads` 0 is torch's own choice."""

    folder: Path
    device: str = "auto"
    precision: Precision | None = None
    context_length: int = 2048
    cache_tokens: int = 0
    """0 is as many as there is memory for, up to a bound."""
    max_batch: int = 16
    queue_limit: int = 64
    prefill_tokens: int = 0
    """Beside decoding; 0 is what suits the device."""
    threads: int = 0
    prefix_folder: Path | None = None
    """A P-Tuning v2 checkpoint."""


@dataclass(slots=True)
class _Stream:
    """The asyncio side of a request: the latest snapshot, and a flag that it changed."""

    progress: Progress
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    error: EngineError | None = None


@dataclass(slots=True)
class _Job:
    """The model thread's side of a request."""

    sequence: EngineSequence
    detokenizer: Detokenizer
    dice: random.Random
    uniforms: deque[float] = field(default_factory=deque[float])
    """Numbers thrown and not yet used: each decides one token of the answer, in their order."""
    lookup: PromptLookup = field(default_factory=PromptLookup)


_Update = tuple[int, Progress | EngineError]


class LocalEngine:
    """See `glmbot.engine.base.Engine`. Make one with `LocalEngine.start`."""

    def __init__(self, settings: LocalEngineSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self._loop = loop
        self._ids = count(1)
        self._streams: dict[int, _Stream] = {}
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._jobs: dict[int, _Job] = {}
        self._stopping = False
        self._switching: float | None = None
        self._counters = Counters()
        self._places: dict[int, int] = {}
        self._model: LoadedModel
        self._runner: ModelRunner
        self._scheduler: Scheduler
        self._thread = threading.Thread(target=self._main, name="model", daemon=True)
        self._ready: asyncio.Future[None] = loop.create_future()
        self._on_load: Callable[[float], None] | None = None

    @classmethod
    async def start(
        cls, settings: LocalEngineSettings, on_progress: Callable[[float], None] | None = None
    ) -> LocalEngine:
        """Load the model in the model thread. on_progress gets the share done, in that thread.

        Raises ModelFileError, and PrecisionError for a precision that the device lacks.
        """
        engine = cls(settings, asyncio.get_running_loop())
        engine._on_load = on_progress
        engine._thread.start()
        try:
            await engine._ready
        except asyncio.CancelledError:
            # torch must not be at work while the interpreter is taken down.
            await engine.close()
            raise
        return engine

    @property
    def model_name(self) -> str:
        return self._model.name

    @property
    def context_length(self) -> int:
        cache = self._runner.allocator.capacity - self._runner.prefix_length
        return min(self.settings.context_length, self._model.shape.positions, cache)

    @property
    def chat_format(self) -> ChatFormat:
        return self._model.chat_format

    @property
    def generation_defaults(self) -> dict[str, object]:
        """The model folder's own sampling defaults (generation_config.json)."""
        return self._model.generation_defaults

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
        if self._stopping or not self._thread.is_alive():
            raise EngineStopped("the engine is shutting down")
        limit = self.context_length
        if not prompt or len(prompt) + sampling.max_tokens > limit:
            raise PromptTooLong(len(prompt), limit - sampling.max_tokens)
        if len(self._streams) >= self.settings.max_batch + self.settings.queue_limit:
            waiting = max(0, len(self._streams) - len(self._scheduler.running))
            self._counters.refused += 1
            raise QueueFull(waiting, self._counters.expected_wait(waiting, self.settings.max_batch))
        now = time.monotonic()
        sequence = EngineSequence(
            id=next(self._ids),
            user=user,
            prompt_length=len(prompt),
            tokens=list(prompt),
            sampling=sampling,
            arrival=now,
            deadline=None if deadline_s is None else now + deadline_s,
            whole_prefill=self._model.positions.context_length(prompt) > 0,
            prefix=self._runner.prefix_length,
            seen=set(prompt),
        )
        stream = _Stream(Progress(prompt_tokens=len(prompt)))
        self._streams[sequence.id] = stream
        self._commands.put(lambda: self._submit(sequence, begun))
        try:
            while True:
                await stream.changed.wait()
                stream.changed.clear()
                progress, error = stream.progress, stream.error
                if error is not None:
                    raise error
                yield progress
                if progress.finish is not None:
                    return
        finally:
            del self._streams[sequence.id]
            self._commands.put(lambda: self._cancel(sequence.id))

    async def set_precision(
        self, precision: Precision, on_progress: Callable[[float], None] | None = None
    ) -> PrecisionChange:
        result: asyncio.Future[PrecisionChange] = self._loop.create_future()

        def report(share: float) -> None:
            self._switching = share
            if on_progress is not None:
                self._loop.call_soon_threadsafe(on_progress, share)

        def switch() -> None:
            # What other precisions computed is not carried on by those who begin at this one.
            self._scheduler.retained.forget()
            try:
                change = self._runner.set_precision(precision, report)
            except EngineError as error:
                self._loop.call_soon_threadsafe(_settle, result, error)
            else:
                self._loop.call_soon_threadsafe(_settle, result, change)
            finally:
                self._switching = None

        self._commands.put(switch)
        return await result

    async def forget(self, user: str) -> None:
        if self._stopping or not self._thread.is_alive():
            return
        done: asyncio.Future[None] = self._loop.create_future()

        def drop() -> None:
            self._scheduler.retained.forget(user)
            self._loop.call_soon_threadsafe(_settle, done, None)

        self._commands.put(drop)
        await done

    def stats(self) -> EngineStats:
        scheduler, runner, counters = self._scheduler, self._runner, self._counters
        waiting = list(scheduler.waiting)
        return EngineStats(
            model=self.model_name,
            precision=runner.precision,
            running=len(scheduler.running),
            waiting=len(waiting),
            queue_limit=self.settings.queue_limit,
            cache_tokens_used=scheduler.cache_used,
            cache_tokens_total=runner.allocator.capacity,
            cache_tokens_kept=scheduler.retained.tokens,
            weight_bytes=runner.weight_bytes,
            tokens_generated=counters.generated,
            prompt_tokens_read=counters.read,
            prompt_tokens_reused=counters.reused,
            tokens_guessed=counters.guessed,
            tokens_guessed_right=counters.guessed_right,
            requests_finished=counters.finished,
            requests_cancelled=counters.cancelled,
            requests_refused=counters.refused,
            first_token=counters.waits(),
            tokens_per_second=counters.speed(),
            largest_batch=counters.largest_batch,
            alive=self._thread.is_alive(),
            switching=self._switching,
            waiting_users=tuple(Counter(sequence.user for sequence in waiting).items()),
        )

    async def close(self) -> None:
        """Stop after the current step; what still runs gets EngineStopped."""
        self._stopping = True
        self._commands.put(None)
        await asyncio.to_thread(self._thread.join)

    # ---- the asyncio side -------------------------------------------------------------------------------

    def _deliver(self, updates: Sequence[_Update]) -> None:
        for stream_id, update in updates:
            stream = self._streams.get(stream_id)
            if stream is None:
                continue
            if isinstance(update, EngineError):
                stream.error = update
            else:
                stream.progress = update
            stream.changed.set()

    # ---- the model thread -------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._load()
        except BaseException as error:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(_settle, self._ready, error)
            return
        self._loop.call_soon_threadsafe(_settle, self._ready, None)
        while not self._stopping:
            self._take_commands()
            if self._stopping:
                break
            self._expire()
            chunks = self._scheduler.schedule()
            for sequence in self._scheduler.running:
                if not sequence.started:
                    self._runner.begin(sequence)
                    self._counters.reused += sequence.computed
            self._publish_places()
            if chunks:
                self._step(chunks)
        self._post([(job, EngineStopped("the engine is shutting down")) for job in self._jobs])

    def _load(self) -> None:
        settings = self.settings
        devices = parse_devices(settings.device)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        register_attention()
        self._model = load(settings.folder, ATTENTION_NAME, settings.prefix_folder)
        model = self._model
        cached = settings.cache_tokens or LEAST_CACHE_TOKENS
        with opening(settings.folder):
            precision = (
                settings.precision
                or checkpoint_precision(model.module, model.checkpoint)
                or default_precision(devices[0])
            )
            self._runner = ModelRunner(
                model,
                placement=place(model.module, model.shape, devices, precision, cached),
                precision=precision,
                cache_tokens=settings.cache_tokens,
                on_progress=self._loaded,
            )
        self._scheduler = Scheduler(
            self._runner.allocator,
            max_batch=settings.max_batch,
            prefill_tokens=settings.prefill_tokens or _PREFILL_TOKENS[devices[0].type == "cpu"],
        )

    def _loaded(self, share: float) -> None:
        if self._stopping:
            raise EngineStopped("stopped while loading")
        if self._on_load is not None:
            self._on_load(share)

    def _take_commands(self) -> None:
        """Run every command that is there; with nothing to compute, wait for one."""
        idle = not self._scheduler.running and not self._scheduler.waiting
        while True:
            try:
                command = self._commands.get(block=idle)
            except queue.Empty:
                return
            if command is None:
                return
            command()
            idle = False

    def _submit(self, sequence: EngineSequence, begun: int) -> None:
        self._scheduler.add(sequence)
        self._jobs[sequence.id] = _Job(
            sequence,
            Detokenizer(
                self._model.chat_format.decode,
                sequence.sampling.stop,
                sequence.tokens[sequence.prompt_length - begun : sequence.prompt_length],
            ),
            random.Random(sequence.sampling.seed),
        )

    def _cancel(self, sequence_id: int) -> None:
        job = self._jobs.pop(sequence_id, None)
        if job is not None:
            self._counters.cancelled += 1
            self._scheduler.remove(job.sequence, retain=True)
            self._places.pop(sequence_id, None)

    def _expire(self) -> None:
        now = time.monotonic()
        late = [job for job in self._jobs.values() if (job.sequence.deadline or now) < now]
        self._post([self._end(job, FinishReason.DEADLINE) for job in late])

    def _publish_places(self) -> None:
        if not self._scheduler.waiting and not self._places:
            return
        places = {sequence.id: place for place, sequence in enumerate(self._scheduler.line(), 1)}
        self._post(
            [
                (waiting, Progress(place=place, prompt_tokens=self._jobs[waiting].sequence.prompt_length))
                for waiting, place in places.items()
                if self._places.get(waiting) != place
            ]
        )
        self._places = places

    def _step(self, chunks: list[Chunk]) -> None:
        chunks = self._with_guesses(chunks)
        try:
            logits = self._runner.step(chunks)
            drawing = [chunk for chunk in chunks if chunk.draws]
            drawn = self._draw(logits, drawing)
        except Exception as error:
            _log.exception("a step of %d sequences failed", len(chunks))
            failed = [self._jobs.pop(chunk.sequence.id) for chunk in chunks]
            for job in failed:
                self._scheduler.remove(job.sequence)
            self._post([(job.sequence.id, EngineError(f"the model failed: {error}")) for job in failed])
            return
        for chunk in chunks:
            read = min(chunk.length, max(0, chunk.sequence.prompt_length - chunk.sequence.computed))
            self._counters.read += read
            chunk.sequence.computed += chunk.length
        before = self._counters.generated
        updates = [self._take(chunk, tokens) for chunk, tokens in zip(drawing, drawn, strict=True)]
        self._post(updates)
        self._counters.step(len(chunks), self._counters.generated - before)

    def _with_guesses(self, chunks: list[Chunk]) -> list[Chunk]:
        """A few people alone leave the processor time to compute what may follow."""
        if len(chunks) > _MOST_GUESSING or not self._runner.native:
            return chunks
        if any(chunk.length > 1 or not chunk.draws for chunk in chunks):
            return chunks
        guessing: list[Chunk] = []
        for chunk in chunks:
            sequence = chunk.sequence
            # The last token that may be drawn is never computed.
            most = sequence.sampling.max_tokens - sequence.drawn - 1
            guessed = self._jobs[sequence.id].lookup.guess(sequence.tokens, most) if most > 0 else ()
            guessing.append(Chunk(sequence, chunk.length, guessed))
        return guessing

    def _draw(self, logits: torch.Tensor, drawing: Sequence[Chunk]) -> list[list[int]]:
        """Of each chunk the token after its own, and after each of its guesses."""
        if not drawing:
            return []
        draws: list[Draw] = []
        for chunk in drawing:
            sequence, job = chunk.sequence, self._jobs[chunk.sequence.id]
            penalised = sequence.sampling.repetition_penalty != 1.0
            while len(job.uniforms) <= len(chunk.guessed):
                job.uniforms.append(job.dice.random())
            for ahead in range(len(chunk.guessed) + 1):
                seen = sequence.seen | set(chunk.guessed[:ahead]) if penalised else ()
                draws.append(Draw(sequence.sampling, seen, job.uniforms[ahead]))
        tokens = iter(sample(logits, draws).tolist())
        return [[int(next(tokens)) for _ in range(len(chunk.guessed) + 1)] for chunk in drawing]

    def _take(self, chunk: Chunk, drawn: Sequence[int]) -> _Update:
        """Keep what was drawn as far as the guesses before it were right."""
        job = self._jobs[chunk.sequence.id]
        right = 0
        update = self._advance(job, drawn[0])
        while (
            right < len(chunk.guessed)
            and drawn[right] == chunk.guessed[right]
            and job.sequence.id in self._jobs
        ):
            right += 1
            chunk.sequence.computed += 1
            update = self._advance(job, drawn[right])
        if chunk.guessed:
            job.lookup.judge(len(chunk.guessed), right)
            self._counters.guessed += len(chunk.guessed)
            self._counters.guessed_right += right
        return update

    def _advance(self, job: _Job, token: int) -> _Update:
        sequence = job.sequence
        if token < 0:
            self._jobs.pop(sequence.id)
            self._scheduler.remove(sequence)
            return sequence.id, NumericalFault("the model computed NaN or infinity for this conversation")
        job.uniforms.popleft()
        self._counters.generated += 1
        sequence.tokens.append(token)
        sequence.seen.add(token)
        if sequence.drawn == 1:
            self._counters.first_token(time.monotonic() - sequence.arrival)
        if token in self._model.stop_tokens:
            return self._end(job, FinishReason.STOP)
        job.detokenizer.push(token)
        if job.detokenizer.stopped:
            return self._end(job, FinishReason.STOP)
        if sequence.drawn >= sequence.sampling.max_tokens:
            return self._end(job, FinishReason.LENGTH)
        return sequence.id, self._progress(job, job.detokenizer.text, None)

    def _end(self, job: _Job, reason: FinishReason) -> _Update:
        self._jobs.pop(job.sequence.id, None)
        self._scheduler.remove(job.sequence, retain=True)
        self._counters.finish()
        return job.sequence.id, self._progress(job, job.detokenizer.finish(), reason)

    def _progress(self, job: _Job, text: str, finish: FinishReason | None) -> Progress:
        return Progress(
            text=self._model.chat_format.finish_text(text),
            finish=finish,
            prompt_tokens=job.sequence.prompt_length,
            completion_tokens=job.sequence.drawn,
        )

    def _post(self, updates: Sequence[_Update]) -> None:
        if updates and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, list(updates))


_T = TypeVar("_T")


def _settle(future: asyncio.Future[_T], outcome: _T | BaseException) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
