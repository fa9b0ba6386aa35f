"""Whether a card's fast parts work here, found out without a model's files: a small one of random numbers is
computed by them and by torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from glmbot.cuda.kernels import CardKernels, Kernels
from glmbot.cuda.program import CardProgram, Part
from glmbot.cuda.target import Card
from glmbot.engine.card.recording import Recorder, recorder_of
from glmbot.engine.card.trust import GRAPHS, FastParts, settle
from glmbot.errors import in_one_line
from glmbot.native.program import Rows
from glmbot.quantization.formats import quantize_groups, quantize_rows
from glmbot.quantization.linear import GroupedLinear, WidenedLinear

__all__ = ["tried"]

_HEADS, _HEAD_DIM, _WORDS = 2, 64, 128
_HIDDEN = _HEADS * _HEAD_DIM
_STEPS = (70, 40, 12, 1)


def tried(device: torch.device, kernels: Kernels | None = None) -> FastParts:
    """Takes as long as compiling them. kernels: those of the card unless others are named."""
    dtype = torch.float16
    fast = FastParts(str(device))
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        program = _program(device, dtype, kernels or CardKernels(device, dtype))
        steps = [_rows(device, count) for count in _STEPS]
        cache = [torch.zeros(_HEADS, max(_STEPS), _HEAD_DIM, dtype=dtype, device=device) for _ in range(2)]

        def compute(plainly: bool) -> Tensor:
            parts = program.parts
            program.parts = set[Part]() if plainly else parts
            try:
                return torch.cat([program.run(rows, cache[:1], cache[1:]).clone() for rows in steps])
            finally:
                program.parts = parts

        recorder = recorder_of(device)
        if settle(fast, program, compute) and recorder is not None:
            _try_recording(fast, recorder, lambda: program.run(steps[-1], cache[:1], cache[1:]))
    return fast


def _try_recording(fast: FastParts, recorder: Recorder, compute: Callable[[], Tensor]) -> None:
    """compute: a step of few rows, whose logits are always in the same place."""

    def step() -> None:
        compute()

    try:
        made = compute()
        expected = made.clone()
        again = recorder.record(step)
        made.zero_()
        again()
        if not torch.allclose(made, expected, atol=1e-2, rtol=1e-2):
            raise RuntimeError("a graph says something else than the step that it was recorded of")
    except Exception as error:  # whatever a driver or a release of torch says of it
        fast.give_up(GRAPHS, in_one_line(error))


def _program(device: torch.device, dtype: torch.dtype, kernels: Kernels) -> CardProgram:
    """One block with a layer of each form."""
    target = Card(device, dtype, kernels)
    builder = target.builder(_HIDDEN)
    hidden = builder.hidden
    normed, mixed = builder.buffer(_HIDDEN), builder.buffer(3 * _HIDDEN)
    attended, inner = builder.buffer(_HIDDEN), builder.buffer(2 * _HIDDEN)
    ones = torch.ones(_HIDDEN, device=device)
    wide = [_weight(device, dtype, *shape) for shape in ((3, 1), (1, 1), (2, 1), (1, 2))]
    layers = (
        WidenedLinear(*quantize_rows(wide[0], 8), 8, None),
        WidenedLinear(*quantize_rows(wide[1], 4), 4, None),
        GroupedLinear(quantize_groups(wide[2], 4), None),
        GroupedLinear(quantize_groups(wide[3], 8), None),
    )
    builder.norm(hidden, normed, ones, 1e-5, bias=0.1 * ones, centred=True)
    builder.linear(normed, mixed, target.stored(layers[0]))
    for at in (0, _HIDDEN):
        builder.rotate(
            mixed, at, heads=_HEADS, stride=_HEAD_DIM, angles=_HEAD_DIM // 2, neighbours=False, table=0
        )
    builder.attend(
        mixed, attended, layer=0, heads=_HEADS, kv_heads=_HEADS, head_dim=_HEAD_DIM,
        columns=(0, _HIDDEN, 2 * _HIDDEN), strides=(_HEAD_DIM, _HEAD_DIM), scaling=_HEAD_DIM**-0.5,
    )  # fmt: skip
    builder.linear(attended, hidden, target.stored(layers[1]), adds=True)
    builder.norm(hidden, normed, ones, 1e-5)
    builder.linear(normed, inner, target.stored(layers[2]))
    builder.gelu(inner, inner, 2 * _HIDDEN)
    builder.linear(inner, hidden, target.stored(layers[3]), adds=True)
    last = builder.buffer(_HIDDEN)
    logits = builder.buffer(_WORDS)
    builder.gather(hidden, last)
    builder.norm(last, last, ones, 1e-5)
    head = nn.Linear(_HIDDEN, _WORDS, bias=False, device=device, dtype=dtype)
    builder.linear(last, logits, [target.head(head)])
    return target.build(builder, logits)


def _weight(device: torch.device, dtype: torch.dtype, out: int, columns: int) -> Tensor:
    made = torch.randn(out * _HIDDEN, columns * _HIDDEN) * (columns * _HIDDEN) ** -0.5
    return made.to(device, dtype)


def _rows(device: torch.device, count: int) -> Rows:
    """A prompt of so many tokens."""
    numbers = torch.arange(count, dtype=torch.int32)
    angles = torch.arange(count)[None, :, None] * torch.linspace(1.0, 0.01, _HEAD_DIM // 2)
    return Rows(
        torch.randn(count, _HIDDEN).to(device),
        numbers.to(device),
        torch.zeros_like(numbers).to(device),
        (numbers + 1).to(device),
        numbers.to(device),
        (angles.cos().to(device), angles.sin().to(device)),
    )
