"""Computing one step of many sequences on one model, and changing that model's precision between two steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Sequence as PlainSequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from glmbot.engine.attention import StepLayout
from glmbot.engine.base import Precision, PrecisionChange, Sampling
from glmbot.engine.heap import weights_apart
from glmbot.engine.kv_cache import Arena, RangeAllocator
from glmbot.engine.placement import Placement, align, free_memory
from glmbot.engine.precision import available_precisions, fill
from glmbot.engine.scheduler import Chunk, Sequence
from glmbot.engine.sizes import expected_weight_bytes, weight_bytes
from glmbot.engine.step import Step
from glmbot.engine.verification import Part, cached_heads, verify
from glmbot.errors import EngineError, EngineStopped, PrecisionError
from glmbot.models.causal_lm import GlmCausalLM
from glmbot.models.long_rope import LongRope, LongRopePositions
from glmbot.models.lowering import LoweredModel, lower
from glmbot.models.prefix import PrefixEncoder
from glmbot.models.registry import LoadedModel
from glmbot.native.program import Rows

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
# The program adds up in float32 where torch's modules round to bfloat16 in between.
_PROGRAM_LIKENESS = 0.98


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
    ) -> None:
        """cache_tokens: 0 for what memory has room for, then at least `context_length` where it has."""
        self.model = model
        self.placement = placement
        self.device = placement.device
        self.precision = self._loaded_precision = precision
        self._threads = torch.get_num_threads()
        with weights_apart():
            fill(model.module, model.checkpoint, precision, placement, on_progress)
        align(model.module, model.shape, placement)
        # Ours are written for this engine, and tests/conformance holds them.
        others = not isinstance(model.module, GlmCausalLM)
        if others:
            heads = cached_heads(model.name, model.module, model.shape.layers)
            model = self.model = replace(
                model, shape=replace(model.shape, kv_heads=heads[0], head_dim=heads[1])
            )
        self._trusted = True
        self._long_rope: LongRope | None = None
        if isinstance(model.positions, LongRopePositions):
            self._long_rope = LongRope(model.module, model.positions.boundary)
        self.lowered = self._lower()
        cache_tokens = cache_tokens or self._affordable_cache(context_length)
        self.allocator = RangeAllocator(cache_tokens)
        self._prefix = self._read_prefix()
        self.prefix_length = 0 if self._prefix is None else int(self._prefix.shape[2])
        self._probe_prompt = model.chat_format.encode_chat("", (), _PROBE_TEXT)
        # The probe has room of its own behind the sequences' ranges, so that it never waits or disturbs.
        self._arena = Arena(
            kv_heads=model.shape.kv_heads,
            head_dim=model.shape.head_dim,
            capacity=cache_tokens + self.prefix_length + len(self._probe_prompt) + _PROBE_NEW,
            dtype=placement.dtype(precision),
            devices=[placement.device_of(name) for name in model.shape.layer_names],
        )
        self.weight_bytes = weight_bytes(model.module)
        if others:
            self._verify()
        self._probe_logits, self._probe_speed = self._probe()

    @property
    def native(self) -> bool:
        """Whether steps are computed by a native program."""
        return self.lowered is not None

    @property
    def cache_bytes(self) -> int:
        return self._arena.bytes

    @torch.inference_mode()
    def step(self, chunks: list[Chunk]) -> Tensor:
        """Compute the chunks. Returns float logits [rows, vocabulary]: a row of each that draws, and one more
        for each token that is guessed; they are good until the next step."""
        step = Step(self.model.positions, self.prefix_length)
        for chunk in chunks:
            sequence = chunk.sequence
            if sequence.place is None:
                raise RuntimeError(f"sequence {sequence.id} was scheduled without a cache range")
            if not sequence.started:
                self.begin(sequence)
            step.add(
                [*sequence.tokens, *chunk.guessed] if chunk.guessed else sequence.tokens,
                sequence.prompt_length,
                start=sequence.computed,
                end=sequence.computed + chunk.length + len(chunk.guessed),
                place=sequence.place.start,
                regime=sequence.regime,
                drawing=1 + len(chunk.guessed) if chunk.draws else 0,
            )
        return self._forward(step)

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
        if self._prefix is not None:
            self._arena.write_prefix(sequence.place.start, self._prefix)
        if sequence.shares is not None:
            source, length = sequence.shares
            self._arena.copy(source, sequence.place.start + self.prefix_length, length)

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
            logits, speed = self._probe()
            likeness = float(torch.cosine_similarity(logits, self._probe_logits, dim=0))
            coarse = Precision.INT4 in (self._loaded_precision, precision)
            if not likeness >= (_PROBE_LIKENESS_INT4 if coarse else _PROBE_LIKENESS):
                raise PrecisionError(f"the probe's answer changed too much (likeness {likeness:.2f})")
        except EngineStopped:
            raise
        except BaseException as error:
            # Whatever it was, panics of a library included: some layers are converted and some are not.
            _log.warning("switch to %s failed, rolling back to %s: %s", precision, before, error)
            try:
                self._fill(before, None if on_progress is None else lambda _: on_progress(1.0))
            except EngineStopped:
                raise
            except BaseException as second:
                lost = (
                    f"switch to {precision} failed ({error}), and going back to {before} failed too: {second}"
                )
                raise ModelLost(lost) from second
            raise PrecisionError(f"switch to {precision} failed, still at {before}: {error}") from error
        self.precision = precision
        self.weight_bytes = weight_bytes(self.model.module)
        self._probe_speed = speed
        return PrecisionChange(
            before, precision, bytes_before, self.weight_bytes, speed_before, speed, time.monotonic() - began
        )

    def check(self) -> None:
        """Compute the probe again after a step that failed. Raises EngineError when the device computes nothing
        any more; memory may be short for a moment."""
        try:
            self._probe()
        except (MemoryError, torch.OutOfMemoryError) as error:
            _log.warning("memory is short: %s", error)
        except Exception as error:
            raise EngineError(f"the model computes nothing any more: {error}") from error

    def _fill(self, precision: Precision, on_progress: Callable[[float], None] | None) -> None:
        # A program points into the weights; it must not outlive them.
        self.lowered = None
        torch.set_num_threads(self._threads)
        with weights_apart():
            fill(self.model.module, self.model.checkpoint, precision, self.placement, on_progress)
        self.lowered = self._lower()
        self._prefix = self._read_prefix()
        self._arena.convert(self.placement.dtype(precision), self.allocator.ranges)

    @torch.inference_mode()
    def _read_prefix(self) -> Tensor | None:
        encoder = next(
            (part for part in self.model.module.modules() if isinstance(part, PrefixEncoder)), None
        )
        return None if encoder is None else encoder.keys_and_values()

    def _affordable_cache(self, context_length: int) -> int:
        """Tokens of KV cache for half of the memory that is still free; a context of the usual length always."""
        shape = self.model.shape
        homes = [self.placement.device_of(name) for name in shape.layer_names]
        room = min(
            free_memory(device)
            // 2
            // Arena.bytes_per_token(
                layers=homes.count(device),
                kv_heads=shape.kv_heads,
                head_dim=shape.head_dim,
                dtype=self.placement.dtype(self.precision),
            )
            for device in set(homes)
        )
        return max(LEAST_CACHE_TOKENS, min(max(MOST_CACHE_TOKENS, context_length), room))

    def _check_room(self, precision: Precision) -> None:
        growth = expected_weight_bytes(self.model.module, precision) - self.weight_bytes
        free = sum(map(free_memory, self.placement.devices))
        if growth > free:
            raise PrecisionError(
                f"{precision} needs about {growth / 2**30:.1f} GiB more, and {free / 2**30:.1f} GiB are free"
            )

    def _lower(self) -> LoweredModel | None:
        whole = self.placement.activations is None and not self.placement.parts
        able = self._trusted and whole and self.device.type == "cpu"
        return lower(self.model.module) if able else None

    def _forward(self, step: Step) -> Tensor:
        if self.lowered is None:
            return self._by_torch(step)
        # The program has threads of its own. Torch's would spin on their cores after each small operation between
        # two steps; torch keeps the number for this thread alone.
        torch.set_num_threads(1)
        return self._by_program(self.lowered, step)

    def _by_program(self, lowered: LoweredModel, step: Step) -> Tensor:
        positions = torch.tensor(step.positions)
        with self._told(step):
            rotation = None if lowered.rotation is None else lowered.rotation(positions)
        rows = Rows(
            hidden=lowered.embed(torch.tensor(step.tokens), positions),
            places=torch.tensor(step.places, dtype=torch.int32),
            bases=torch.tensor(step.bases(), dtype=torch.int32),
            counts=torch.tensor(step.counts(), dtype=torch.int32),
            drawn=torch.tensor(step.drawing, dtype=torch.int32),
            rotation=rotation,
        )
        return lowered.program.run(rows, self._arena.keys, self._arena.values, self._threads)

    def _by_torch(self, step: Step) -> Tensor:
        torch.set_num_threads(self._threads)
        places = torch.tensor(step.places, device=self.device)
        layout = StepLayout(self._arena, tuple(step.segments), places)
        positions = torch.tensor([step.positions], device=self.device)
        module: Any = self.model.module
        with self._told(step):
            out = module(
                input_ids=torch.tensor([step.tokens], device=self.device),
                position_ids=positions if len(step.positions) > 1 else positions[:, 0],
                use_cache=False,
                # No row to draw still needs a valid index; its logits are dropped below.
                logits_to_keep=torch.tensor(step.drawing or [0], device=self.device),
                layout=layout,
            )
        return cast(Tensor, out.logits)[0, : len(step.drawing)].float()

    def _told(self, step: Step) -> AbstractContextManager[None]:
        return (
            nullcontext()
            if self._long_rope is None
            else self._long_rope.told(step.regimes, step.positions[0])
        )

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
            return list(self._by_torch(step).clone().split([end - start for _, start, end in parts]))

        verify(
            self.model.name,
            self.model.module,
            self._probe_prompt,
            self.model.shape.layer_names,
            exact=self.precision is Precision.FP32,
            compute=compute,
        )

    @torch.inference_mode()
    def _probe(self) -> tuple[Tensor, float]:
        """Greedy tokens after a fixed prompt. Returns its first logits and the decode speed in tokens/s."""
        base = self.allocator.capacity
        if self._prefix is not None:
            self._arena.write_prefix(base, self._prefix)
        tokens = list(self._probe_prompt)
        prompt = len(tokens)

        def compute(start: int) -> Tensor:
            step = Step(self.model.positions, self.prefix_length)
            step.add(tokens, prompt, start=start, end=len(tokens), place=base, drawing=1)
            return self._forward(step)[0]

        first = compute(0).clone()
        if not self._agrees(first, tokens, base):
            # From here on torch computes alone, and what it says is what later switches are held against.
            self.lowered, self._trusted = None, False
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
        reference = self._by_torch(step)[0]
        if not bool(torch.isfinite(reference).all()):
            raise PrecisionError("the probe computed NaN or infinity")
        likeness = float(torch.cosine_similarity(logits, reference, dim=0))
        if likeness >= _PROGRAM_LIKENESS:
            return True
        _log.warning(
            "%s: the native program computes something else (likeness %.4f), so torch computes alone",
            self.model.name,
            likeness,
        )
        return False
