"""The thread that owns torch. What is raised in it fails the requests that it concerns, and those alone; a thread
that ends, for whatever reason, says so to everybody."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from glmbot.engine.answer import Answer
from glmbot.engine.base import EngineStats, FinishReason, Precision, PrecisionChange, Progress, Score
from glmbot.engine.collector import pass_over_modules
from glmbot.engine.computing import Computing
from glmbot.engine.counters import Counters
from glmbot.engine.loading import load_runner
from glmbot.engine.local_settings import LocalEngineSettings
from glmbot.engine.masks import FormCompiler, compiler_of
from glmbot.engine.runner import ModelLost, ModelRunner
from glmbot.engine.scheduler import Chunk, Scheduler
from glmbot.engine.scheduler import Sequence as EngineSequence
from glmbot.engine.scores import Drawn, most_rows
from glmbot.engine.workers import WorkersLost
from glmbot.errors import EngineError, EngineStopped, NumericalFault, first_words, in_one_line
from glmbot.models.registry import LoadedModel

__all__ = ["ModelThread", "Update", "words_of"]

_log = logging.getLogger(__name__)

# A step of so many prompt tokens lasts about a tenth of a second on a CPU: those who decode hardly notice.
_PREFILL_TOKENS = {True: 128, False: 512}


Update = tuple[int, Progress | EngineError]
"""A request's number, and what there is of it now."""


class Listener(Protocol):
    """Called in the model thread."""

    def loaded(self, error: BaseException | None) -> None: ...

    def updated(self, updates: Sequence[Update]) -> None: ...

    def ended(self, reason: EngineStopped) -> None: ...


class ModelThread:
    """Public methods may be called from any thread; they leave commands, which run between two steps."""

    def __init__(self, settings: LocalEngineSettings, listener: Listener) -> None:
        self.settings = settings
        self.counters = Counters()
        self.model: LoadedModel
        self.runner: ModelRunner
        self.scheduler: Scheduler
        self.forms: FormCompiler | None = None
        """None where answers can't be held to a form."""
        self.on_load: Callable[[float], None] | None = None
        self._listener = listener
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._answers: dict[int, Answer] = {}
        self._places: dict[int, int] = {}
        self._updates: list[Update] = []
        """Not yet handed over."""
        self._stopping = False
        self._switching: float | None = None
        self._at_work_since: float | None = None
        self._thread = threading.Thread(target=self._main, name="model", daemon=True)

    # ---- for other threads -----------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the current step."""
        self._stopping = True
        self._commands.put(None)

    def join(self, timeout_s: float) -> bool:
        """Whether the thread has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def do(self, command: Callable[[], None]) -> None:
        """Run `command` in the thread. What it raises ends the thread."""
        self._commands.put(command)

    def submit(self, sequence: EngineSequence, begun: int) -> None:
        """The last `begun` tokens of the prompt are the beginning of the answer."""
        self.do(lambda: self._submit(sequence, begun))

    def cancel(self, sequence_id: int) -> None:
        """Harmless when the request has ended."""
        self.do(lambda: self._cancel(sequence_id))

    def set_precision(self, precision: Precision, report: Callable[[float], None]) -> PrecisionChange:
        """To be run in the thread. Raises PrecisionError, and EngineStopped in the middle of it."""

        def progress(share: float) -> None:
            self._go_on()
            self._switching = share
            report(share)

        # What other precisions computed is not carried on by those who begin at this one.
        self.scheduler.retained.forget()
        try:
            return self.runner.set_precision(precision, progress)
        except WorkersLost as error:
            self._mend(error)
            raise
        finally:
            self._switching = None

    def stats(self) -> EngineStats:
        scheduler, runner, counters = self.scheduler, self.runner, self.counters
        waiting, since = list(scheduler.waiting), self._at_work_since
        return EngineStats(
            model=self.model.name,
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
            alive=self.alive,
            step_s=0.0 if since is None else max(0.0, time.monotonic() - since),
            thread=self._thread.ident,
            switching=self._switching,
            cache_bytes=runner.cache_bytes,
            waiting_users=tuple(Counter(sequence.user for sequence in waiting).items()),
        )

    # ---- the thread itself -----------------------------------------------------------------------------------

    def _main(self) -> None:
        pass_over_modules()
        # Not only Exception: a panic of a library in Rust, for one, is none.
        try:
            self._load()
        except BaseException as error:
            self._listener.loaded(error)
            return
        self._listener.loaded(None)
        reason = self._serve()
        self._flush()
        self._at_work_since = None
        self.counters.working(False)
        self.runner.close()
        self._computing.close()
        self._listener.ended(reason)

    def _serve(self) -> EngineStopped:
        """Until it is stopped. Returns why it ended."""
        try:
            while not self._stopping:
                self._round()
        except BaseException as error:
            _log.critical("the model thread ended, nothing is answered until a restart", exc_info=True)
            return EngineStopped(f"the model thread ended ({words_of(error)}); restart glmbot")
        return EngineStopped("the engine is shutting down")

    def _load(self) -> None:
        settings = self.settings
        self.runner = load_runner(settings, lambda: self.do(self._mend), self._loaded)
        self.model = self.runner.model
        self.runner.part.meanwhile = self._flush
        self._computing = Computing(self.runner, self._answers)
        self._say_what_is_served()
        self.forms = compiler_of(self.model, thinks=settings.thinks)
        self.scheduler = Scheduler(
            self.runner.allocator,
            max_batch=settings.max_batch,
            prefill_tokens=settings.prefill_tokens or _PREFILL_TOKENS[self.runner.device.type == "cpu"],
            scored_tokens=most_rows(self.model.shape.vocabulary),
        )

    @property
    def context_length(self) -> int:
        """Tokens that one conversation can have here."""
        cache = self.runner.allocator.capacity - self.runner.prefix_length
        return min(self.settings.context_length, self.model.shape.positions, cache)

    def _say_what_is_served(self) -> None:
        asked, served = self.settings.context_length, self.context_length
        if served == asked:
            return
        reason = "memory has no room for more"
        if served == self.model.shape.positions:
            reason = "the model has no more positions"
        elif self.settings.cache_tokens:
            reason = "[model] cache_tokens allows no more"
        _log.warning("[model] context_length is %d, and %d are served: %s", asked, served, reason)

    def _loaded(self, share: float) -> None:
        if self._stopping:
            raise EngineStopped("stopped while loading")
        if self.on_load is not None:
            self.on_load(share)

    def _round(self) -> None:
        self._take_commands()
        if self._stopping:
            return
        self._expire()
        chunks = self.scheduler.schedule()
        self._begin()
        self._publish_places()
        chunks = [chunk for chunk in chunks if chunk.sequence.id in self._answers]
        if chunks:
            self._step(self._computing.with_guesses(chunks))
        else:
            self._flush()

    def _take_commands(self) -> None:
        """Run every command that is there; with nothing to compute, wait for one."""
        idle = not self.scheduler.running and not self.scheduler.waiting
        if idle:
            self._flush()
            self._at_work_since = None
            self.counters.working(False)
        while True:
            try:
                command = self._commands.get(block=idle)
            except queue.Empty:
                break
            # It may take long.
            self._flush()
            if command is None:
                break
            self._at_work_since = time.monotonic()
            command()
            idle = False
        self._at_work_since = time.monotonic()

    def _submit(self, sequence: EngineSequence, begun: int) -> None:
        model = self.model
        try:
            self._answers[sequence.id] = Answer(sequence, begun, model.chat_format, model.stop_tokens)
            self.scheduler.add(sequence)
        except BaseException as error:
            self._tell([self._fail(sequence, error)])
            return
        self.counters.working(True)

    def _cancel(self, sequence_id: int) -> None:
        answer = self._answers.pop(sequence_id, None)
        if answer is not None:
            self.counters.cancelled += 1
            self.scheduler.remove(answer.sequence, retain=True)
            self._places.pop(sequence_id, None)

    def _fail(self, sequence: EngineSequence, error: BaseException) -> Update:
        """Take one request out, whatever became of it."""
        told = error if type(error) is EngineError else EngineError(f"the model failed: {words_of(error)}")
        # Of what anybody can bring about a line is enough.
        _log.error("request %d failed: %s", sequence.id, told, exc_info=None if told is error else error)
        self._answers.pop(sequence.id, None)
        self._places.pop(sequence.id, None)
        self.scheduler.remove(sequence)
        return sequence.id, told

    def _expire(self) -> None:
        now = time.monotonic()
        late = [each for each in self._answers.values() if (each.sequence.deadline or now) < now]
        if late:
            self._tell([self._ended(answer, FinishReason.DEADLINE) for answer in late])

    def _begin(self) -> None:
        """Copy what those who were admitted share with others."""
        for sequence in list(self.scheduler.running):
            if sequence.started:
                continue
            # What it shares may be long.
            self._flush()
            try:
                self.runner.begin(sequence)
            except WorkersLost as error:
                self._mend(error)
                return
            except BaseException as error:
                self._tell([self._fail(sequence, error)])
                # Nobody may copy from what was not begun.
                for other in self.scheduler.running:
                    if not other.started:
                        other.shares, other.computed = None, 0
            else:
                self.counters.reused += sequence.computed

    def _publish_places(self) -> None:
        if not self.scheduler.waiting and not self._places:
            return
        places = {sequence.id: place for place, sequence in enumerate(self.scheduler.line(), 1)}
        updates: list[Update] = [
            (waiting, Progress(place=place, prompt_tokens=self._answers[waiting].sequence.prompt_length))
            for waiting, place in places.items()
            if self._places.get(waiting) != place
        ]
        if updates:
            self._tell(updates)
        self._places = places

    def _step(self, chunks: list[Chunk]) -> None:
        drawing = [chunk for chunk in chunks if chunk.draws]
        try:
            scores, drawn = self._computing.compute(chunks, undisturbed=self._undisturbed(chunks))
        except BaseException as error:
            self._step_failed(chunks, error)
            return
        for chunk in chunks:
            read = min(chunk.length, max(0, chunk.sequence.prompt_length - chunk.sequence.computed))
            self.counters.read += read
            chunk.sequence.computed += chunk.length
            if chunk.scores:
                self._answers[chunk.sequence.id].read(scores[chunk.sequence.id])
                chunk.sequence.scored += chunk.length
        before = self.counters.generated
        updates: list[Update] = []
        for chunk, tokens in zip(drawing, drawn, strict=True):
            try:
                updates.append(self._take(chunk, tokens))
            except BaseException as error:
                updates.append(self._fail(chunk.sequence, error))
        self._updates += updates
        if not (self.runner.native and self.runner.device.type == "cpu"):
            self._flush()
        self.counters.step(len(chunks), self.counters.generated - before)

    def _tell(self, updates: Sequence[Update]) -> None:
        self._updates += updates
        self._flush()

    def _flush(self) -> None:
        """Hand over what the last step brought. A program computes without Python, so the event loop has its turn
        while the next step is computed, and not before."""
        updates, self._updates = self._updates, []
        if updates:
            self._listener.updated(updates)

    def _undisturbed(self, chunks: list[Chunk]) -> bool:
        scheduler = self.scheduler
        return not scheduler.waiting and len(chunks) == len(scheduler.running) and self._commands.empty()

    def _step_failed(self, chunks: list[Chunk], error: BaseException) -> None:
        """Who makes a step fail is found by computing each alone: a step that failed has changed nothing."""
        if isinstance(error, WorkersLost):
            self._mend(error)
            return
        if len(chunks) > 1:
            _log.warning(
                "a step of %d sequences failed, each goes on alone: %s", len(chunks), words_of(error)
            )
            for chunk in chunks:
                self._step([chunk])
            return
        self._tell([self._fail(chunks[0].sequence, error)])
        # A device that has failed fails every step from now on.
        self.runner.check()

    def _mend(self, error: WorkersLost | None = None) -> None:
        """Start the processes that share the model again, once one was lost: what is in the cache went with it."""
        if error is None:
            if self.runner.whole:
                return
            error = WorkersLost("a process that shares the model has ended")
        self._tell([self._fail(sequence, error) for sequence in list(self.scheduler.running)])
        self.scheduler.retained.forget()
        _log.warning("the processes that share the model are started again")
        self.runner.restart(lambda _: self._go_on())

    def _go_on(self) -> None:
        """Called now and then by what lasts. Raises EngineStopped when the thread is to end."""
        if self._stopping:
            raise EngineStopped("the engine is shutting down")
        self._at_work_since = time.monotonic()

    def _take(self, chunk: Chunk, drawn: Sequence[Drawn]) -> Update:
        """Keep what was drawn as far as the guesses before it were right."""
        answer = self._answers[chunk.sequence.id]
        right = 0
        update = self._advance(answer, *drawn[0])
        while (
            right < len(chunk.guessed)
            and drawn[right][0] == chunk.guessed[right]
            and answer.sequence.id in self._answers
        ):
            right += 1
            chunk.sequence.computed += 1
            update = self._advance(answer, *drawn[right])
        if chunk.guessed:
            answer.judge(len(chunk.guessed), right)
            self.counters.guessed += len(chunk.guessed)
            self.counters.guessed_right += right
        return update

    def _advance(self, answer: Answer, token: int, score: Score | None) -> Update:
        sequence = answer.sequence
        if token < 0:
            self._answers.pop(sequence.id)
            self.scheduler.remove(sequence)
            return sequence.id, NumericalFault("the model computed NaN or infinity for this conversation")
        if sequence.drawn == 0:
            self.counters.first_token(time.monotonic() - sequence.arrival)
        self.counters.generated += 1
        if (reason := answer.append(token, score)) is not None:
            return self._ended(answer, reason)
        return sequence.id, answer.growing()

    def _ended(self, answer: Answer, reason: FinishReason) -> Update:
        try:
            progress = answer.ended(reason)
        except BaseException as error:
            return self._fail(answer.sequence, error)
        self._answers.pop(answer.sequence.id, None)
        self.scheduler.remove(answer.sequence, retain=True)
        self.counters.finish()
        return answer.sequence.id, progress


def words_of(error: BaseException) -> str:
    """What an error says of itself, in one line."""
    return first_words(error) if isinstance(error, ModelLost | WorkersLost) else in_one_line(error)
