"""What one process computes of a model: all of it, or its rows where several share one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from glmbot.cuda.kernels import CardKernels
from glmbot.cuda.program import CardProgram, Part
from glmbot.cuda.target import Card
from glmbot.engine.attention import StepLayout
from glmbot.engine.base import Precision
from glmbot.engine.card.buckets import SPARE
from glmbot.engine.card.decoding import CardDecoding
from glmbot.engine.card.recording import Recorder, recorder_of
from glmbot.engine.card.steps import CardSteps
from glmbot.engine.card.trust import GRAPHS, PROGRAM_LIKENESS, FastParts, settle
from glmbot.engine.heap import weights_apart
from glmbot.engine.kv_cache import Arena, Range
from glmbot.engine.placement import Placement, align, free_memory
from glmbot.engine.precision import fill
from glmbot.engine.step import Step
from glmbot.engine.tensor_group import TensorGroup, join_parts
from glmbot.errors import EngineStopped, in_one_line
from glmbot.models.long_rope import LongRope, LongRopePositions
from glmbot.models.lowering import LoweredModel, lower, lower_for
from glmbot.models.prefix import PrefixEncoder
from glmbot.models.registry import LoadedModel
from glmbot.native.program import Program, Rows

__all__ = ["AnyProgram", "ModelPart"]

_log = logging.getLogger(__name__)

AnyProgram = Program | CardProgram


class ModelPart:
    """Weights, program and cache. Of processes that share a model, each is told to do the same."""

    def __init__(self, model: LoadedModel, placement: Placement) -> None:
        self.model = model
        self.placement = placement
        self.trusted = True
        """Whether a program may compute."""
        self.lowered: LoweredModel[AnyProgram] | None = None
        self.decoding: CardDecoding | None = None
        """Where decoding steps are recorded and drawn; None where they are computed like any other."""
        self.fast: FastParts | None = None
        """Of a card's program at this precision."""
        self._fast_at: dict[Precision, FastParts] = {}
        self.prefix: Tensor | None = None
        self._group: TensorGroup | None = None
        self._threads = torch.get_num_threads()
        self._long_rope: LongRope | None = None
        self._arena: Arena | None = None
        self._spare = 0
        self._aligned = False
        self._hooks: list[RemovableHandle] = []
        self.meanwhile: Callable[[], None] = lambda: None
        """Called when a program has all that it needs for a step, which takes no more of Python."""

    @property
    def arena(self) -> Arena:
        if self._arena is None:
            raise RuntimeError("the cache is not made yet")
        return self._arena

    @property
    def kv_heads(self) -> int:
        shard = self.placement.shard
        return self.model.shape.kv_heads if shard is None else shard.kv_heads

    @property
    def fast_parts(self) -> tuple[str, ...]:
        """Those of a card that serve."""
        program = None if self.lowered is None else self.lowered.program
        if not isinstance(program, CardProgram):
            return ()
        kernels = (part.value for part in Part if part in program.parts)
        return (*kernels, *([] if self.decoding is None else [GRAPHS]))

    def fill(self, precision: Precision, on_progress: Callable[[float], None] | None = None) -> None:
        """Raises ModelFileError and PrecisionError."""
        module = self.model.module
        if self.decoding is not None:
            self.decoding.finish()
        # A program points into the weights; it must not outlive them.
        self.decoding = self.lowered = None
        torch.set_num_threads(self._threads)
        with weights_apart():
            fill(module, self.model.checkpoint, precision, self.placement, on_progress)
        if self.placement.device.type == "cuda":
            # What the old weights left, and what came between, in pieces that nothing else fits into.
            torch.cuda.empty_cache()
        if not self._aligned:
            self._aligned = True
            align(module, self.model.shape, self.placement)
            if isinstance(self.model.positions, LongRopePositions):
                self._long_rope = LongRope(module, self.model.positions.boundary)
        self._join()
        self.lowered = self._lower(precision)
        self.prefix = self._read_prefix()

    def meet(self, group: TensorGroup) -> None:
        """Compute with these others from now on."""
        self._group = group
        self._join()

    def distrust(self) -> None:
        """From here on torch computes alone."""
        self.decoding, self.lowered, self.trusted = None, None, False

    def make_arena(self, capacity: int, precision: Precision) -> None:
        shape = self.model.shape
        self.decoding = None
        # Behind all that anybody has: what the padding of recorded steps writes to.
        self._spare = capacity
        self._arena = Arena(
            kv_heads=self.kv_heads,
            head_dim=shape.head_dim,
            capacity=capacity + SPARE,
            dtype=self.placement.dtype(precision),
            devices=[self.placement.device_of(name) for name in shape.layer_names],
        )

    def convert(self, precision: Precision, live: tuple[Range, ...]) -> None:
        self.decoding = None
        self.arena.convert(self.placement.dtype(precision), live)

    def settle(self, probe: Sequence[Step], on_progress: Callable[[], None] = lambda: None) -> None:
        """Leave to a card what agrees with the model's own modules. probe: the last is of one row."""
        lowered, fast = self.lowered, self.fast
        if lowered is None or fast is None or not isinstance(lowered.program, CardProgram):
            return
        # It was recorded with what served then.
        self.decoding = None

        def compute(plainly: bool) -> Tensor:
            return torch.cat([self.compute(step, plainly=plainly).clone() for step in probe])

        if not settle(fast, lowered.program, compute):
            self.distrust()
            return
        expected = compute(False)[-1]
        self.record(on_progress)
        if self.decoding is not None:
            likeness = float(torch.cosine_similarity(compute(False)[-1], expected, dim=-1))
            if not likeness >= PROGRAM_LIKENESS:
                self.decoding = None
                fast.give_up(GRAPHS, f"they say something else (likeness {likeness:.4f})")

    def record(self, on_progress: Callable[[], None] = lambda: None) -> None:
        """Have decoding steps recorded where the card and the model allow it."""
        fast = self.fast
        # With LongRope the host chooses each position's frequencies.
        if fast is None or not fast.serves(GRAPHS) or self._long_rope is not None:
            return
        try:
            recorder = recorder_of(self.placement.device)
            if recorder is not None:
                self.record_with(recorder, on_progress)
        except (MemoryError, torch.OutOfMemoryError) as error:
            _log.warning("memory is short, so decoding steps are not recorded: %s", error)
        except EngineStopped:
            raise
        except Exception as error:
            # Whatever a driver or a release of torch says of it, steps are computed without.
            fast.give_up(GRAPHS, in_one_line(error))

    @torch.inference_mode()
    def record_with(self, recorder: Recorder, on_progress: Callable[[], None] = lambda: None) -> None:
        """Raises whatever is raised while it is recorded."""
        lowered, model, placement = self.lowered, self.model, self.placement
        if lowered is None or not isinstance(lowered.program, CardProgram):
            raise RuntimeError("there is no program for a card to be recorded")
        steps = CardSteps(
            LoweredModel(lowered.program, lowered.embed, lowered.rotation),
            self.arena,
            recorder,
            position_rows=model.positions.rows,
            vocabulary=model.shape.vocabulary,
            device=placement.device,
            spare=self._spare,
            embeds_on_host=placement.embeds_on_host,
        )
        steps.prepare(on_progress)
        self.decoding = CardDecoding(steps, recorder, self._spare)

    def write_prefix(self, start: int) -> None:
        if self.prefix is not None:
            self.arena.write_prefix(start, self.prefix)

    def copy(self, source: int, target: int, length: int) -> None:
        self.arena.copy(source, target, length)

    def affordable_tokens(self, precision: Precision) -> int:
        """Tokens of cache for half of the memory that is still free."""
        shape, dtype = self.model.shape, self.placement.dtype(precision)
        homes = [self.placement.device_of(name) for name in shape.layer_names]
        return min(
            free_memory(device)
            // 2
            // Arena.bytes_per_token(
                layers=homes.count(device), kv_heads=self.kv_heads, head_dim=shape.head_dim, dtype=dtype
            )
            for device in set(homes)
        )

    @torch.inference_mode()
    def compute(self, step: Step, *, plainly: bool = False) -> Tensor:
        """Logits float [rows that draw, vocabulary]; they are good until the next step. plainly: by the modules'
        own code, whether there is a program or not."""
        if self.lowered is None or plainly:
            made = self._by_torch(step)
        else:
            # The CPU's program has threads of its own. Torch's would spin on their cores after each small
            # operation between two steps; torch keeps the number for this thread alone.
            torch.set_num_threads(1)
            recorded = None if self.decoding is None else self.decoding.logits(step)
            made = self._by_program(self.lowered, step) if recorded is None else recorded
        shard = self.placement.shard
        if shard is None or self._group is None or not len(made):
            return made
        whole = made.new_empty(made.shape[0], shard.vocabulary[-1][1])
        self._group.gather(made, whole, shard.vocabulary)
        return whole

    def _join(self) -> None:
        for hook in self._hooks:
            hook.remove()
        if self._group is not None and self.placement.shard is not None:
            self._hooks = join_parts(self.model.module, self.placement.shard, self._group)

    def _lower(self, precision: Precision) -> LoweredModel[AnyProgram] | None:
        placement, self.fast = self.placement, None
        if not self.trusted or placement.activations is not None:
            return None
        if placement.device.type == "cpu" and not placement.parts:
            return lower(self.model.module, placement.shard)
        whole = placement.shard is None and set(placement.devices) == {placement.device}
        if not placement.nvidia or not whole or placement.plain:
            return None
        dtype = placement.dtype(precision)
        made = lower_for(
            Card(placement.device, dtype, CardKernels(placement.device, dtype)), self.model.module
        )
        if made is not None:
            self.fast = self._fast_at.setdefault(precision, FastParts(self.model.name))
            made.program.parts = {part for part in made.program.parts if self.fast.serves(part)}
        return made

    @torch.inference_mode()
    def _read_prefix(self) -> Tensor | None:
        encoder = next(
            (part for part in self.model.module.modules() if isinstance(part, PrefixEncoder)), None
        )
        if encoder is None:
            return None
        prefix, shard = encoder.keys_and_values(), self.placement.shard
        return prefix if shard is None else prefix[:, slice(*shard.kv_run)]

    def _by_program(self, lowered: LoweredModel[AnyProgram], step: Step) -> Tensor:
        device = self.placement.device
        positions, tokens = torch.tensor([*step.positions, step.tokens], device=device).split(
            [len(step.positions), 1]
        )
        with self._told(step):
            rotation = None if lowered.rotation is None else lowered.rotation(positions)
        numbers = (step.places, step.bases(), step.counts(), step.drawing)
        places, bases, counts, drawn = torch.tensor(
            list(chain(*numbers)), dtype=torch.int32, device=device
        ).split([len(each) for each in numbers])
        hidden = lowered.embed(tokens[0], positions)
        rows = Rows(hidden, places, bases, counts, drawn, rotation)
        program, arena = lowered.program, self.arena
        self.meanwhile()
        if isinstance(program, CardProgram):
            return program.run(rows, arena.keys, arena.values, step.segments)
        exchange = None if self._group is None else self._group.gather
        return program.run(rows, arena.keys, arena.values, self._threads, exchange)

    def _by_torch(self, step: Step) -> Tensor:
        torch.set_num_threads(self._threads)
        device = self.placement.device
        layout = StepLayout(self.arena, tuple(step.segments), torch.tensor(step.places, device=device))
        positions = torch.tensor([step.positions], device=device)
        module: Any = self.model.module
        with self._told(step):
            out = module(
                input_ids=torch.tensor([step.tokens], device=device),
                position_ids=positions if len(step.positions) > 1 else positions[:, 0],
                use_cache=False,
                # No row to draw still needs a valid index; its logits are dropped below.
                logits_to_keep=torch.tensor(step.drawing or [0], device=device),
                layout=layout,
            )
        return cast(Tensor, out.logits)[0, : len(step.drawing)].float()

    def _told(self, step: Step) -> AbstractContextManager[None]:
        if self._long_rope is None:
            return nullcontext()
        return self._long_rope.told(step.regimes, step.positions[0])
