"""Computing one step of many sequences on one model, and changing that model's precision between two steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import psutil
import torch
from torch import Tensor

from glmbot.engine.attention import Segment, StepLayout
from glmbot.engine.base import Precision, PrecisionChange
from glmbot.engine.kv_cache import Arena, RangeAllocator
from glmbot.engine.precision import activation_dtype, available_precisions, fill, weight_bytes
from glmbot.engine.scheduler import Chunk
from glmbot.errors import GlmbotError, PrecisionError
from glmbot.models.registry import LoadedModel

__all__ = ["ModelRunner"]

_log = logging.getLogger(__name__)

_PROBE_TEXT = "The quick brown fox jumps over the lazy dog. 你好，世界。"
_PROBE_PROMPT = 12
_PROBE_NEW = 8
_PROBE_ROOM = _PROBE_PROMPT + _PROBE_NEW
# Precisions of one model point the same way on the probe; random weights of a broken switch do not.
_PROBE_LIKENESS = 0.8


class ModelRunner:
    """Lives in the model thread; nothing here is safe to call from two threads."""

    def __init__(
        self,
        model: LoadedModel,
        *,
        device: torch.device,
        precision: Precision,
        cache_tokens: int,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self.model = model
        self.device = device
        self.precision = precision
        self.allocator = RangeAllocator(cache_tokens)
        fill(model.module, model.checkpoint, precision, device, on_progress)
        # The probe has room of its own behind the sequences' ranges, so that it never waits or disturbs.
        self._arena = Arena(
            layers=model.shape.layers,
            kv_heads=model.shape.kv_heads,
            head_dim=model.shape.head_dim,
            capacity=cache_tokens + _PROBE_ROOM,
            dtype=activation_dtype(precision, device),
            device=device,
        )
        self.weight_bytes = weight_bytes(model.module)
        self._probe_logits, self._probe_speed = self._probe()

    @torch.inference_mode()
    def step(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute the chunks. Returns float logits [rows, vocabulary], a row for each chunk that draws."""
        tokens: list[int] = []
        positions: list[int] = []
        places: list[int] = []
        segments: list[Segment] = []
        drawing: list[int] = []
        for chunk in chunks:
            sequence = chunk.sequence
            if sequence.place is None:
                raise RuntimeError(f"sequence {sequence.id} was scheduled without a cache range")
            start, end = sequence.computed, sequence.computed + chunk.length
            first = sequence.place.start
            segments.append(Segment(len(tokens), chunk.length, first, start))
            tokens += sequence.tokens[start:end]
            positions += range(start, end)
            places += range(first + start, first + end)
            if chunk.draws:
                drawing.append(len(tokens) - 1)
        return self._forward(tokens, positions, places, segments, drawing)

    def set_precision(
        self, precision: Precision, on_progress: Callable[[float], None] | None = None
    ) -> PrecisionChange:
        """Switch weights and cache. Raises PrecisionError; the old precision then serves on."""
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
            if not likeness >= _PROBE_LIKENESS:
                raise PrecisionError(f"the probe's answer changed too much (likeness {likeness:.2f})")
        except (GlmbotError, RuntimeError, MemoryError, OSError) as error:
            _log.warning("switch to %s failed, rolling back to %s: %s", precision, before, error)
            self._fill(before, None)
            raise PrecisionError(f"switch to {precision} failed, still at {before}: {error}") from error
        self.precision = precision
        self.weight_bytes = weight_bytes(self.model.module)
        self._probe_speed = speed
        return PrecisionChange(
            before, precision, bytes_before, self.weight_bytes, speed_before, speed, time.monotonic() - began
        )

    def _fill(self, precision: Precision, on_progress: Callable[[float], None] | None) -> None:
        fill(self.model.module, self.model.checkpoint, precision, self.device, on_progress)
        self._arena.convert(activation_dtype(precision, self.device), self.allocator.ranges)

    def _check_room(self, precision: Precision) -> None:
        wanted = {Precision.FP32: 4, Precision.INT8: 1}
        parameters = sum(
            owner.numel() for owner in (*self.model.module.parameters(), *self.model.module.buffers())
        )
        growth = parameters * wanted.get(precision, 2) - self.weight_bytes
        free = (
            torch.cuda.mem_get_info(self.device)[0]
            if self.device.type == "cuda"
            else psutil.virtual_memory().available
        )
        if growth > free:
            raise PrecisionError(
                f"{precision} needs about {growth / 2**30:.1f} GiB more, and {free / 2**30:.1f} GiB are free"
            )

    def _forward(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        places: Sequence[int],
        segments: Sequence[Segment],
        drawing: Sequence[int],
    ) -> Tensor:
        layout = StepLayout(self._arena, tuple(segments), torch.tensor(places, device=self.device))
        module: Any = self.model.module
        out = module(
            input_ids=torch.tensor([tokens], device=self.device),
            position_ids=torch.tensor([positions], device=self.device),
            use_cache=False,
            # No row to draw still needs a valid index; its logits are dropped below.
            logits_to_keep=torch.tensor(drawing or [0], device=self.device),
            layout=layout,
        )
        return cast(Tensor, out.logits)[0, : len(drawing)].float()

    @torch.inference_mode()
    def _probe(self) -> tuple[Tensor, float]:
        """Greedy tokens after a fixed prompt. Returns its first logits and the decode speed in tokens/s."""
        prompt = list(self.model.chat_format.encode_text(_PROBE_TEXT))[:_PROBE_PROMPT] or [0]
        base = self.allocator.capacity
        positions = range(len(prompt))
        places = [base + position for position in positions]
        segment = Segment(0, len(prompt), base, 0)
        first = self._forward(prompt, positions, places, [segment], [len(prompt) - 1])[0]
        logits = first
        began = time.perf_counter()
        for position in range(len(prompt), len(prompt) + _PROBE_NEW):
            if not bool(torch.isfinite(logits).all()):
                raise PrecisionError("the probe computed NaN or infinity")
            segment = Segment(0, 1, base, position)
            token = int(logits.argmax())
            logits = self._forward([token], [position], [base + position], [segment], [0])[0]
        return first.cpu(), _PROBE_NEW / (time.perf_counter() - began)
