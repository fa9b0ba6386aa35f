"""Computing one step of many sequences on one model, and changing that model's precision between two steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Sequence as PlainSequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from glmbot.engine.base import Precision, PrecisionChange, Sampling
from glmbot.engine.card.decoding import Begun, CardDecoding
from glmbot.engine.card.trust import PROGRAM_LIKENESS, probe_steps, probed_tokens
from glmbot.engine.kv_cache import RangeAllocator
from glmbot.engine.part import AnyProgram, ModelPart
from glmbot.engine.placement import Placement, free_memory
from glmbot.engine.precision import available_precisions
from glmbot.engine.sampling import Draw
from glmbot.engine.scheduler import Chunk, Sequence
from glmbot.engine.sizes import expected_weight_bytes, weight_bytes
from glmbot.engine.step import Step, step_of
from glmbot.engine.tensor_group import TensorGroup
from glmbot.engine.verification import Part, cached_heads, verify
from glmbot.engine.workers import Workers, WorkersLost
from glmbot.errors import EngineError, EngineStopped, PrecisionError, in_one_line
from glmbot.models.causal_lm import GlmCausalLM
from glmbot.models.lowering import LoweredModel
from glmbot.models.registry import LoadedModel

__all__ = ["LEAST_CACHE_TOKENS", "MOST_CACHE_TOKENS", "ModelLost", "ModelRunner"]

_log = logging.getLogger(__name__)

_PROBE_TEXT = "The quick brown fox. 你好，世界。"
_PROBE_NEW = 8
LEAST_CACHE_TOKENS = 2048
MOST_CACHE_TOKENS = 16384
# Precisions of one model point the same way on the probe; random weights of a broken switch point nowhere
# (likeness 0 within a few hundredths). Four bits turn a small model's answer far.
_PROBE_LIKENESS = 0.8
_PROBE_LIKENESS_INT4 = 0.3


class ModelLost(PrecisionError):
    """The weights are those of no precision any more: a switch failed, and so did going back."""


class ModelRunner:
    """Lives in the model thread; nothing here is safe to call from two threads."""

    def __init__(
        self,
        model: LoadedModel,
        *,
        placement: Placement,
        precision: Precision,
        cache_tokens: int,
        context_length: int = 0,
        on_progress: Callable[[float], None] | None = None,
        workers: Workers | None = None,
    ) -> None:
        """cache_tokens: 0 for what memory has room for, then at least `context_length` where it has. workers: the
        other processes where several share the model, which are started here."""
        self.model = model
        self.placement = placement
        self.device = placement.device
        self.precision = self._loaded_precision = precision
        self.part = ModelPart(model, placement)
        self._workers = workers
        self._others_bytes = 0
        self._unsettled = False
        try:
            self._load(cache_tokens, context_length, on_progress)
        except BaseException:
            self.close()
            raise

    def _load(
        self, cache_tokens: int, context_length: int, on_progress: Callable[[float], None] | None
    ) -> None:
        model, workers, precision = self.model, self._workers, self.precision
        self._start_others(precision, on_progress)
        self.part.fill(precision, on_progress)
        # Ours are written for this engine, and tests/conformance holds them. A part of a model is no model that
        # could be run by itself: those that can be shared are few, and tests hold each.
        others = not isinstance(model.module, GlmCausalLM) and workers is None
        if others:
            heads = cached_heads(model.name, model.module, model.shape.layers, self.device)
            model = self.model = self.part.model = replace(
                model, shape=replace(model.shape, kv_heads=heads[0], head_dim=heads[1])
            )
        self._others_loaded(on_progress)
        cache_tokens = cache_tokens or self._affordable_cache(context_length)
        self.allocator = RangeAllocator(cache_tokens)
        prefix = self.part.prefix
        self.prefix_length = 0 if prefix is None else int(prefix.shape[2])
        self._probe_prompt = model.chat_format.encode_chat("", (), _PROBE_TEXT)
        # The probe has room of its own behind the sequences' ranges, so that it never waits or disturbs.
        room = len(self._probe_prompt) + _PROBE_NEW
        if self.part.fast is not None:
            room = max(room, probed_tokens(model.positions, self._probe_prompt))
        self._capacity = cache_tokens + self.prefix_length + room
        self.part.make_arena(self._capacity, precision)
        self._meet(precision)
        self.weight_bytes = weight_bytes(model.module) + self._others_bytes
        if others:
            self._verify()
        self._probe_logits, self._probe_speed = self._probe(on_progress)

    @property
    def lowered(self) -> LoweredModel[AnyProgram] | None:
        """The program by which this process computes steps; None where torch does."""
        return self.part.lowered

    @property
    def native(self) -> bool:
        """Whether steps are computed by a program rather than by torch's modules."""
        return self.lowered is not None

    @property
    def decoding(self) -> CardDecoding | None:
        """Where a card decodes and draws by itself."""
        return self.part.decoding

    @property
    def cache_bytes(self) -> int:
        return self.part.arena.bytes * (1 if self._workers is None else self._workers.world)

    @property
    def shared(self) -> bool:
        """Whether other processes share the model."""
        return self._workers is not None

    @property
    def whole(self) -> bool:
        """Whether all processes that share the model are there."""
        return self._workers is None or self._workers.whole

    @torch.inference_mode()
    def step(self, chunks: list[Chunk]) -> Tensor:
        """Compute the chunks. Returns float logits [rows, vocabulary]: those of each chunk's `rows`, in turn; they
        are good until the next step."""
        return self._forward(self._laid_out(chunks))

    @torch.inference_mode()
    def begin_drawing(
        self,
        chunks: PlainSequence[Chunk],
        draws: PlainSequence[Draw],
        after: Begun | None = None,
        sources: PlainSequence[int] = (),
    ) -> Begun | None:
        """Compute chunks that decode, and draw after each of their rows, on the card. Of a step `after` that is
        under way they are what follows: see `CardDecoding.begin`. None where that can't be done."""
        if self.decoding is None:
            return None
        owners = [chunk.sequence for chunk in chunks for _ in range(chunk.rows)]
        step = self._laid_out(chunks, ahead=after is not None)
        return self.decoding.begin(step, owners, draws, after, sources)

    def _laid_out(self, chunks: PlainSequence[Chunk], *, ahead: bool = False) -> Step:
        for chunk in chunks:
            if not chunk.sequence.started:
                self.begin(chunk.sequence)
        return step_of(chunks, self.model.positions, self.prefix_length, ahead=ahead)

    @torch.inference_mode()
    def sequence(
        self,
        number: int,
        user: str,
        prompt: PlainSequence[int],
        sampling: Sampling,
        *,
        arrival: float,
        deadline: float | None = None,
    ) -> Sequence:
        """A request of this model's, nothing of it computed yet."""
        positions = self.model.positions
        return Sequence(
            id=number,
            user=user,
            prompt_length=len(prompt),
            tokens=list(prompt),
            sampling=sampling,
            arrival=arrival,
            deadline=deadline,
            whole_prefill=positions.context_length(prompt) > 0,
            regime=positions.regime(prompt),
            anew_after=positions.anew_after(prompt),
            prefix=self.prefix_length,
            seen=set(prompt),
        )

    def begin(self, sequence: Sequence) -> None:
        """Put into a sequence's range what is there before its first token is computed. To be called when it is
        admitted: what it shares may be overwritten later."""
        if sequence.place is None:
            raise RuntimeError(f"sequence {sequence.id} has no cache range")
        sequence.started = True
        if self.prefix_length:
            self._together("write_prefix", sequence.place.start)
        if sequence.shares is not None:
            source, length = sequence.shares
            self._together("copy", source, sequence.place.start + self.prefix_length, length)

    def set_precision(
        self, precision: Precision, on_progress: Callable[[float], None] | None = None
    ) -> PrecisionChange:
        """Switch weights and cache. Raises PrecisionError, and the old precision serves on; ModelLost when it
        can't. on_progress may raise EngineStopped, and then nothing is put back: the process ends."""
        if precision not in available_precisions(self.device):
            known = ", ".join(available_precisions(self.device))
            raise PrecisionError(f"{precision} is not available on {self.device.type}; choose one of {known}")
        began = time.monotonic()
        before, bytes_before, speed_before = self.precision, self.weight_bytes, self._probe_speed
        self._check_room(precision)
        try:
            self._fill(precision, on_progress)
            logits, speed = self._probe(on_progress)
            likeness = float(torch.cosine_similarity(logits, self._probe_logits, dim=0))
            coarse = Precision.INT4 in (self._loaded_precision, precision)
            if not likeness >= (_PROBE_LIKENESS_INT4 if coarse else _PROBE_LIKENESS):
                raise PrecisionError(f"the probe's answer changed too much (likeness {likeness:.2f})")
        except (EngineStopped, WorkersLost):
            raise
        except BaseException as error:
            # Whatever it was, panics of a library included: some layers are converted and some are not.
            _log.warning("switch to %s failed, rolling back to %s: %s", precision, before, error)
            try:
                self._fill(before, None if on_progress is None else lambda _: on_progress(1.0))
                self.part.record(_ticking(on_progress))
            except (EngineStopped, WorkersLost):
                raise
            except BaseException as second:
                lost = (
                    f"switch to {precision} failed ({error}), and going back to {before} failed too: {second}"
                )
                raise ModelLost(lost) from second
            raise PrecisionError(f"switch to {precision} failed, still at {before}: {error}") from error
        self.precision = precision
        self.weight_bytes = weight_bytes(self.model.module) + self._others_bytes
        self._probe_speed = speed
        return PrecisionChange(
            before, precision, bytes_before, self.weight_bytes, speed_before, speed, time.monotonic() - began
        )

    def check(self) -> None:
        """Compute the probe again after a step that failed. Raises EngineError when the device computes nothing
        any more; memory may be short for a moment."""
        try:
            self._probe()
        except WorkersLost:
            raise
        except (MemoryError, torch.OutOfMemoryError) as error:
            _log.warning("memory is short: %s", error)
        except Exception as error:
            raise EngineError(f"the model computes nothing any more: {error}") from error

    def restart(self, on_progress: Callable[[float], None] | None = None) -> None:
        """Start the other processes anew; the cache holds nothing then.

        Raises WorkersLost when they don't come up, and PrecisionError when they can't hold the model any more.
        """
        if self._workers is None:
            return
        self._start_others(self.precision, on_progress)
        if self._unsettled:
            # They were lost in the middle of a switch.
            self.part.fill(self.precision, on_progress)
            self.part.convert(self.precision, ())
            self._unsettled = False
        self._others_loaded(on_progress)
        self._meet(self.precision)
        self.check()

    def close(self) -> None:
        """End the other processes."""
        if self._workers is not None:
            self._workers.close()

    def _fill(self, precision: Precision, on_progress: Callable[[float], None] | None) -> None:
        self._unsettled = True
        if self._workers is not None:
            self._workers.tell("fill", precision)
        try:
            self.part.fill(precision, on_progress)
        finally:
            # They must be done with it, whatever became of it here, before they are told something else.
            self._others_loaded(on_progress)
        self._together("convert", precision, self.allocator.ranges)
        self._unsettled = False

    def _start_others(self, precision: Precision, on_progress: Callable[[float], None] | None) -> None:
        """Have the others begin to load what this process loads."""
        if self._workers is not None:
            self._workers.start()
            self._workers.wait("opening the model", _ticking(on_progress))
            self._workers.tell("fill", precision)

    def _others_loaded(self, on_progress: Callable[[float], None] | None) -> None:
        if self._workers is not None:
            self._others_bytes = sum(self._workers.wait("loading the model", _ticking(on_progress)))

    def _meet(self, precision: Precision) -> None:
        workers = self._workers
        if workers is None or workers.meeting is None:
            return
        if not self.part.trusted:
            workers.tell("distrust")
        workers.tell("make_arena", self._capacity, precision)
        workers.wait("making the cache")
        workers.tell("meet")
        try:
            group = TensorGroup(str(workers.meeting), 0, workers.world, self.device)
        except RuntimeError as error:
            raise workers.lost(f"they did not meet ({error})") from error
        self.part.meet(group)
        workers.wait("meeting the others")

    def _together(self, what: str, *arguments: Any) -> None:
        """Do something that nobody waits for here and in the other processes."""
        if self._workers is not None:
            self._workers.tell(what, *arguments)
        getattr(self.part, what)(*arguments)

    def _affordable_cache(self, context_length: int) -> int:
        """Tokens of KV cache for half of the memory that is still free; a context of the usual length always."""
        room = self.part.affordable_tokens(self.precision)
        if self._workers is not None:
            self._workers.tell("affordable", self.precision)
            least = min([room, *self._workers.wait("counting memory")])
            # Those on one CPU share its memory.
            room = least // self._workers.world if self.device.type == "cpu" else least
        return max(LEAST_CACHE_TOKENS, min(max(MOST_CACHE_TOKENS, context_length), room))

    def _check_room(self, precision: Precision) -> None:
        growth = expected_weight_bytes(self.model.module, precision) - weight_bytes(self.model.module)
        free = sum(map(free_memory, self.placement.devices))
        if growth > free:
            raise PrecisionError(
                f"{precision} needs about {growth / 2**30:.1f} GiB more, and {free / 2**30:.1f} GiB are free"
            )

    def _forward(self, step: Step, *, plainly: bool = False) -> Tensor:
        if self._workers is None:
            return self.part.compute(step, plainly=plainly)
        self._workers.tell("compute", step, plainly)
        try:
            return self.part.compute(step, plainly=plainly)
        except Exception as error:
            # Wherever it stopped, the others wait for it somewhere else.
            raise self._workers.lost(in_one_line(error)) from error

    @torch.inference_mode()
    def _verify(self) -> None:
        """Raises ModelFileError when the model can't share a step. Nobody has a place in the cache yet."""

        def compute(sequences: PlainSequence[PlainSequence[int]], parts: PlainSequence[Part]) -> list[Tensor]:
            step = Step(self.model.positions, self.prefix_length)
            for number, start, end in parts:
                tokens = list(sequences[number])
                place = sum(map(len, sequences[:number]))
                regime = self.model.positions.regime(tokens)
                step.add(
                    tokens, len(tokens), start=start, end=end, place=place, drawing=end - start, regime=regime
                )
            return list(
                self._forward(step, plainly=True).clone().split([end - start for _, start, end in parts])
            )

        verify(
            self.model.name,
            self.model.module,
            self._probe_prompt,
            self.model.shape.layer_names,
            placement=self.placement,
            exact=self.precision is Precision.FP32,
            compute=compute,
        )

    @torch.inference_mode()
    def _probe(self, on_progress: Callable[[float], None] | None = None) -> tuple[Tensor, float]:
        """Greedy tokens after a fixed prompt. Returns its first logits and the decode speed in tokens/s."""
        base = self.allocator.capacity
        if self.prefix_length:
            self._together("write_prefix", base)
        tokens = list(self._probe_prompt)
        prompt = len(tokens)

        def compute(start: int) -> Tensor:
            step = Step(self.model.positions, self.prefix_length)
            step.add(tokens, prompt, start=start, end=len(tokens), place=base, drawing=1)
            return self._forward(step)[0]

        if self.part.fast is not None:
            steps = probe_steps(self.model.positions, self._probe_prompt, self.prefix_length, base)
            self.part.settle(steps, _ticking(on_progress))
        first = compute(0).clone()
        if not self._agrees(first, tokens, base):
            # From here on torch computes alone, and what it says is what later switches are held against.
            self._together("distrust")
            first = compute(0).clone()
        logits = first
        began = time.perf_counter()
        for _ in range(_PROBE_NEW):
            if not bool(torch.isfinite(logits).all()):
                raise PrecisionError("the probe computed NaN or infinity")
            tokens.append(int(logits.argmax()))
            logits = compute(len(tokens) - 1)
        return first.cpu(), _PROBE_NEW / (time.perf_counter() - began)

    def _agrees(self, logits: Tensor, tokens: list[int], place: int) -> bool:
        """Whether the program says what the model's own modules say."""
        if self.lowered is None:
            return True
        step = Step(self.model.positions, self.prefix_length)
        step.add(tokens, len(tokens), start=0, end=len(tokens), place=place, drawing=1)
        reference = self._forward(step, plainly=True)[0]
        if not bool(torch.isfinite(reference).all()):
            raise PrecisionError("the probe computed NaN or infinity")
        likeness = float(torch.cosine_similarity(logits, reference, dim=0))
        if likeness >= PROGRAM_LIKENESS:
            return True
        _log.warning(
            "%s: the native program computes something else (likeness %.4f), so torch computes alone",
            self.model.name,
            likeness,
        )
        return False


def _ticking(on_progress: Callable[[float], None] | None) -> Callable[[], None]:
    """Says now and then that this process has done its share and others have not."""
    return lambda: None if on_progress is None else on_progress(1.0)
