"""Each kernel of ours against the exact result: the same operation in float32, from the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from gpu_model import Size
from torch import Tensor, nn

from glmbot.cuda.kernels import CardKernels, Kernels
from glmbot.cuda.layers import CardLayer, card_layer
from glmbot.cuda.program import Operation, Scratch, State
from glmbot.cuda.target import Card, CardBuilder
from glmbot.native.program import Rows
from glmbot.quantization.formats import quantize_groups, quantize_rows
from glmbot.quantization.linear import GroupedLinear, WidenedLinear

__all__ = ["check_kernels"]

_FEW = (1, 3, 8, 17, 32, 64)
_MANY = 100
_ALLOWED = {torch.float16: 3e-3, torch.bfloat16: 2e-2, torch.float32: 1e-4}
_MAKERS: dict[str, Callable[[Tensor, Tensor], nn.Module]] = {
    "float": lambda weight, bias: _floats(weight, bias),
    "rows8": lambda weight, bias: WidenedLinear(*quantize_rows(weight, 8), 8, bias),
    "rows4": lambda weight, bias: WidenedLinear(*quantize_rows(weight, 4), 4, bias),
    "runs8": lambda weight, bias: WidenedLinear(*quantize_rows(weight, 8, 2), 8, bias),
    "runs4": lambda weight, bias: WidenedLinear(*quantize_rows(weight, 4, 2), 4, bias),
    "groups8": lambda weight, bias: GroupedLinear(quantize_groups(weight, 8), bias),
    "groups4": lambda weight, bias: GroupedLinear(quantize_groups(weight, 4), bias),
}

# Another dtype is another compilation of each form, half a minute of them in all.
_BRIEFLY = ("float", "rows8", "rows4")


def _floats(weight: Tensor, bias: Tensor) -> nn.Module:
    with torch.device("meta"):
        made = nn.Linear(weight.shape[1], weight.shape[0])
    made.weight, made.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
    return made


@dataclass(frozen=True, slots=True)
class _Step:
    """A step's rows, and how many entries of the arena they see."""

    rows: Rows
    span: int


@dataclass
class _Bench:
    """Where the operations of one dtype are checked."""

    device: torch.device
    dtype: torch.dtype
    size: Size
    kernels: Kernels | None
    found: dict[str, float] = field(default_factory=dict[str, float])
    failed: dict[str, str] = field(default_factory=dict[str, str])

    def builder(self) -> CardBuilder:
        return Card(self.device, self.dtype, self.kernels).builder(self.size.hidden)

    def random(self, *shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, device=self.device) * scale).to(self.dtype)

    def layer(self, form: str, out: int, columns: int) -> CardLayer:
        weight = self.random(out, columns, scale=columns**-0.5)
        return card_layer(_MAKERS[form](weight, self.random(out, scale=0.1)))

    def check(self, name: str, builder: CardBuilder, step: _Step, kv_heads: int = 1) -> None:
        """All that the recorded operations write, each from random numbers; the worst of a name is kept."""
        count = step.rows.hidden.shape[0]
        try:
            error = max(self._apart(operation, builder, step, kv_heads) for operation in builder.operations)
        except Exception as problem:  # one kernel that fails is told beside the others
            self.failed[name] = f"{count} rows: {type(problem).__name__}: {problem}"[:300]
            return
        self.found[name] = max(self.found.get(name, 0.0), error)
        if not error <= _ALLOWED[self.dtype]:
            self.failed[name] = f"{count} rows: {error:.2g} away"

    def _apart(self, operation: Operation, builder: CardBuilder, step: _Step, kv_heads: int) -> float:
        """‖found - exact‖ / ‖exact‖, of what is furthest away."""
        count, head_dim = step.rows.hidden.shape[0], self.size.hidden // self.size.heads
        before = [self.random(count, width).to(dtype) for width, dtype in builder.widths]
        caches = [self.random(kv_heads, step.span, head_dim) for _ in range(2)]
        found, exact = ([each.clone() for each in before], [each.float() for each in before])
        kept, kept_exactly = ([each.clone() for each in caches], [each.float() for each in caches])
        state = self._state(found, kept, step, self.dtype)
        if self.kernels is None:
            operation.compute(state)
        else:
            operation.launch(state, self.kernels)
        operation.compute(self._state(exact, kept_exactly, step, torch.float32))
        pairs = [*zip(found, exact, strict=True), *zip(kept, kept_exactly, strict=True)]
        return max(float((mine.float() - true).norm() / true.norm().clamp(min=1e-6)) for mine, true in pairs)

    def _state(self, buffers: list[Tensor], caches: list[Tensor], step: _Step, dtype: torch.dtype) -> State:
        state = State(buffers, step.rows, Scratch(self.device, dtype))
        state.keys, state.values = caches[:1], caches[1:]
        return state

    def prompt(self, tokens: int, *, context: int = 0) -> _Step:
        """context: so many of the first tokens see each other in both directions."""
        counts = [max(context, row + 1) for row in range(tokens)]
        return self._step(list(range(tokens)), [0] * tokens, counts)

    def decoding(self, lengths: list[int]) -> _Step:
        starts = [sum(lengths[:row]) for row in range(len(lengths))]
        places = [start + length - 1 for start, length in zip(starts, lengths, strict=True)]
        return self._step(places, starts, lengths)

    def _step(self, places: list[int], bases: list[int], counts: list[int]) -> _Step:
        rows = len(places)
        place, base, seen = (
            torch.tensor(each, dtype=torch.int32, device=self.device) for each in (places, bases, counts)
        )
        angles = torch.rand(2, rows, self.size.hidden // self.size.heads // 4, device=self.device) * 6
        drawn = torch.arange(0, rows, 2, dtype=torch.int32, device=self.device)
        hidden = torch.zeros(rows, self.size.hidden, device=self.device)
        return _Step(Rows(hidden, place, base, seen, drawn, (angles.cos(), angles.sin())), max(places) + 1)


def check_kernels(
    device: torch.device, size: Size, dtype: torch.dtype, say: Callable[[str], None]
) -> dict[str, Any]:
    """The worst relative error of each kind of operation, and which are further away than their dtype explains."""
    torch.manual_seed(5)
    kernels = CardKernels(device, dtype) if device.type == "cuda" else None
    bench = _Bench(device, dtype, size, kernels)
    with torch.inference_mode():
        for form in _BRIEFLY if dtype == torch.bfloat16 else _MAKERS:
            say(f"checking products of {form} in {dtype}")
            _products(bench, form)
        say(f"checking rows and attention in {dtype}")
        _rows(bench)
        _attention(bench)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "by": "torch alone" if kernels is None else "kernels",
        "relative_error": {name: float(f"{error:.3g}") for name, error in bench.found.items()},
        "allowed": _ALLOWED[dtype],
        "failed": bench.failed,
    }


def _products(bench: _Bench, form: str) -> None:
    size = bench.size
    # Of a block, query to values, the way in and the way out; the sums are float32.
    shapes = [(3 * size.hidden, size.hidden), (size.inner, size.hidden), (size.hidden, size.inner)]
    for out, columns in shapes:
        layer = bench.layer(form, out, columns)
        for rows in (*_FEW, _MANY):
            builder = bench.builder()
            src, dst = builder.buffer(columns), builder.buffer(out)
            builder.linear(src, dst, [layer])
            if out == size.inner:
                builder.gelu(dst, dst, out)
            if out == size.hidden:
                builder.linear(src, builder.hidden, [layer], adds=True)
                builder.scale(dst, builder.hidden, 7.5)
                builder.linear(src, builder.hidden, [layer], adds=True)
            bench.check(f"product {form}", builder, bench.prompt(rows))
    if form == "float":
        head = bench.layer(form, size.vocabulary, size.hidden)
        for rows in (1, 8, 32):
            builder = bench.builder()
            src, dst = builder.buffer(size.hidden), builder.buffer(size.vocabulary)
            builder.widths[dst.index] = (dst.width, torch.float32)
            builder.linear(src, dst, [head])
            bench.check("product of the head", builder, bench.prompt(rows))


def _rows(bench: _Bench) -> None:
    size = bench.size
    weight, bias = torch.rand(2, size.hidden, device=bench.device)
    for rows in (1, 32, _MANY):
        step = bench.prompt(rows)
        for centred in (False, True):
            builder = bench.builder()
            dst = builder.buffer(size.hidden)
            builder.norm(builder.hidden, dst, weight, 1e-5, bias=bias if centred else None, centred=centred)
            builder.norm(dst, dst, weight, 1e-5, centred=centred)
            bench.check("layer norm" if centred else "RMS norm", builder, step)
        builder = bench.builder()
        wide, narrow = builder.buffer(2 * size.inner), builder.buffer(size.inner)
        builder.silu_product(wide, narrow, size.inner)
        builder.gelu_product(wide, narrow, size.inner)
        builder.gelu(narrow, narrow, size.inner, exactly=True)
        builder.squared_relu(narrow, narrow, size.inner)
        builder.cap(narrow, 3.0)
        bench.check("activations", builder, step)
        builder = bench.builder()
        dst = builder.buffer(size.hidden)
        builder.scale(dst, builder.hidden, 0.5, keeps=1.0)
        builder.gather(builder.hidden, dst)
        bench.check("sums and rows that draw", builder, step)


def _attention(bench: _Bench) -> None:
    size = bench.size
    head_dim = size.hidden // size.heads
    longest = 1000 if size.hidden > 1000 else 40
    steps = {
        "attention, decoding": [
            bench.decoding([length] * rows)
            for rows, length in ((1, 1), (1, longest), (3, 33), (8, longest), (32, 40), (32, longest))
        ],
        "attention, prompts": [bench.prompt(33), bench.prompt(_MANY), bench.prompt(_MANY, context=60)],
    }
    for name, all_of_them in steps.items():
        for step in all_of_them:
            for kv_heads, window, cap in ((size.heads, None, 0.0), (size.heads // 4, 16, 20.0)):
                builder = bench.builder()
                width = (size.heads + 2 * kv_heads) * head_dim
                mixed, attended = builder.buffer(width), builder.buffer(size.heads * head_dim)
                key_at = size.heads * head_dim
                for at, heads in ((0, size.heads), (key_at, kv_heads)):
                    for table in (0, 1):
                        builder.rotate(
                            mixed, at + table * head_dim // 2, heads=heads, stride=head_dim,
                            angles=head_dim // 4, neighbours=False, table=table,
                        )  # fmt: skip
                builder.attend(
                    mixed, attended, layer=0, heads=size.heads, kv_heads=kv_heads, head_dim=head_dim,
                    columns=(0, key_at, key_at + kv_heads * head_dim), strides=(head_dim, head_dim),
                    scaling=head_dim**-0.5, window=window, cap=cap,
                )  # fmt: skip
                bench.check(name, builder, step, kv_heads)
