"""Operations on single rows: the kernels of a card, compiled for the CPU, against float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cuda.host_kernels import HostKernels
from cuda.steps import activated_exactly, bordered, borders_hold, buffer_of, close, integers, state_of
from glmbot.cuda.row_operations import Activate, Activation, Gather, Norm, Scale
from glmbot.native.program import Rows

ACTIVATIONS = [torch.float16, torch.bfloat16]
# Narrow, of a block's threads and a little more, and wider than what a thread keeps in its registers.
WIDTHS = st.one_of(st.integers(1, 40), st.sampled_from([256, 257, 700, 4096, 4103]))
DTYPES = st.tuples(st.booleans(), st.booleans())


def rows_of(tokens: int, width: int, seed: int, dtype: torch.dtype, mean: float = 0.0) -> Tensor:
    made = torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))
    return bordered((made + mean).to(dtype))


@pytest.mark.parametrize("dtype", ACTIVATIONS, ids=str)
@settings(max_examples=20)
@given(
    tokens=st.integers(1, 3), width=WIDTHS, pieces=st.integers(1, 3), at=st.integers(0, 5), floats=DTYPES,
    biased=st.booleans(), centred=st.booleans(), in_place=st.booleans(), backwards=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip
def test_rows_are_normed(
    dtype: torch.dtype, tokens: int, width: int, pieces: int, at: int, floats: tuple[bool, bool], biased: bool,
    centred: bool, in_place: bool, backwards: bool, seed: int,
) -> None:  # fmt: skip
    kinds = [torch.float32 if each else dtype for each in floats]
    src = rows_of(tokens, at + pieces * width, seed, kinds[0], mean=0.5)
    dst = src if in_place else rows_of(tokens, at + pieces * width, seed + 1, kinds[1])
    weight, bias = rows_of(2, width, seed + 2, torch.float32).contiguous()
    x, before = src[:, at:].double().unflatten(1, (pieces, width)), dst[:, :at].clone()
    norm = Norm(
        buffer_of(0, src), buffer_of(1, dst), weight, bias if biased else None, 1e-5, centred, at, pieces
    )
    norm.launch(state_of([src, dst], tokens=tokens), HostKernels(dtype, backwards=backwards))

    if centred:
        x = x - x.mean(-1, keepdim=True)
    right = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    wrong = 2.0**-19 * (right.abs() + weight.abs().double())
    if centred:
        # A mean in float32 is wrong by some of its last digits, which a row of one column has nothing but.
        wrong = wrong + 2.0**-22 * weight.abs() / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    if biased:
        right = right + bias.double()
    close(dst[:, at:], right.flatten(1), wrong.flatten(1) + 2.0**-22)
    assert torch.equal(dst[:, :at], before)
    assert borders_hold(dst)


@pytest.mark.parametrize("dtype", ACTIVATIONS, ids=str)
@settings(max_examples=20)
@given(
    tokens=st.integers(1, 3), width=WIDTHS, gate_at=st.integers(0, 3), other=st.one_of(st.none(), st.integers(0, 3)),
    floats=DTYPES, kind=st.integers(0, 4), size=st.sampled_from([1.0, 30.0]), seed=st.integers(0, 999),
)  # fmt: skip
def test_rows_are_activated(
    dtype: torch.dtype, tokens: int, width: int, gate_at: int, other: int | None, floats: tuple[bool, bool],
    kind: int, size: float, seed: int,
) -> None:  # fmt: skip
    kinds = [torch.float32 if each else dtype for each in floats]
    other_at = -1 if other is None else gate_at + width + other
    src = rows_of(tokens, max(gate_at, other_at) + width, seed, kinds[0])
    src *= size
    dst = rows_of(tokens, width + 3, seed + 1, kinds[1])
    before = dst[:, width:].clone()
    activate = Activate(buffer_of(0, src), buffer_of(1, dst), width, kind, gate_at, other_at, 7.0)
    activate.launch(state_of([src, dst], tokens=tokens), HostKernels(dtype))

    gate = src[:, gate_at : gate_at + width].double()
    right = 7 * torch.tanh(gate / 7) if kind == Activation.CAP else activated_exactly(gate, kind)
    wrong = 2.0**-20 * (gate.abs() + right.abs())
    if other_at >= 0:
        times = src[:, other_at : other_at + width].double()
        right, wrong = right * times, wrong * times.abs()
    close(dst[:, :width], right, wrong)
    assert torch.equal(dst[:, width:], before)
    assert borders_hold(dst)


@pytest.mark.parametrize("dtype", ACTIVATIONS, ids=str)
@settings(max_examples=20)
@given(
    tokens=st.integers(1, 4), width=WIDTHS, floats=DTYPES, factor=st.sampled_from([1.0, -0.5, 12.25]),
    keeps=st.sampled_from([0.0, 1.0, 0.3]), drawn=st.lists(st.integers(0, 3), max_size=5), seed=st.integers(0, 999),
)  # fmt: skip
def test_rows_are_scaled_added_and_gathered(
    dtype: torch.dtype, tokens: int, width: int, floats: tuple[bool, bool], factor: float, keeps: float,
    drawn: list[int], seed: int,
) -> None:  # fmt: skip
    kinds = [torch.float32 if each else dtype for each in floats]
    src, dst = rows_of(tokens, width, seed, kinds[0]), rows_of(tokens, width, seed + 1, kinds[1])
    if not keeps:
        dst.fill_(float("nan"))
    before = dst.double()
    scale = Scale(buffer_of(0, src), buffer_of(1, dst), factor, keeps)
    scale.launch(state_of([src, dst], tokens=tokens), HostKernels(dtype))
    right = factor * src.double()
    if keeps:
        right = right + keeps * before
    close(dst, right, 2.0**-22 * (factor * src.double().abs() + (before.abs() if keeps else 0)).abs())
    assert borders_hold(dst)

    chosen = [each % tokens for each in drawn]
    nothing = integers([])
    rows = Rows(torch.zeros(tokens, 1), nothing, nothing, nothing, integers(chosen), None)
    into = rows_of(len(chosen) + 1, width, seed + 2, kinds[1])
    last = into[-1].clone()
    state = state_of([src, into], rows=rows)
    Gather(buffer_of(0, src), buffer_of(1, into)).launch(state, HostKernels(dtype))
    assert state.count == len(chosen)
    assert torch.equal(into[:-1], src[chosen].to(kinds[1]))
    assert torch.equal(into[-1], last)
    assert borders_hold(into)
