"""Attention of a whole step, and what turns and keeps: the kernels of a card, compiled for the CPU, against plain
softmax in float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cuda.host_kernels import HostKernels
from cuda.steps import bordered, borders_hold, buffer_of, close, integers, state_of
from glmbot.cuda.attention_operation import Attend, Turn, Turns, apart, tile_of
from glmbot.engine.attention import Segment
from glmbot.native.program import Buffer, Rows

DTYPES = [torch.float16, torch.bfloat16]
NAN = float("nan")


@dataclass(frozen=True)
class Sequence:
    """length: keys that it has with this step's. counts: how many of them each of its new tokens sees."""

    length: int
    counts: tuple[int, ...]


@st.composite
def sequences(draw: st.DrawFn, least: int, most: int) -> Sequence:
    """New tokens that see what is before them, or all, or whatever a mask may say."""
    count = draw(st.integers(least, most))
    length = count + draw(st.sampled_from([0, 1, 31, 32, 100, 300]))
    match draw(st.sampled_from(["causal", "both ways", "any"])):
        case "causal":
            counts = range(length - count + 1, length + 1)
        case "both ways":
            counts = [length] * count
        case _:
            counts = draw(st.lists(st.integers(1, length), min_size=count, max_size=count))
    return Sequence(length, tuple(counts))


@dataclass
class Step:
    bases: list[int]
    counts: list[int]
    places: list[int]
    capacity: int


def laid_out(given_: list[Sequence], gap: int) -> Step:
    """One after another in the arena, each from anywhere on; new tokens are each sequence's last."""
    bases: list[int] = []
    counts: list[int] = []
    places: list[int] = []
    at = gap
    for each in given_:
        bases += [at] * len(each.counts)
        counts += each.counts
        places += range(at + each.length - len(each.counts), at + each.length)
        at += each.length + gap
    return Step(bases, counts, places, at)


def exact(query: Tensor, keys: Tensor, values: Tensor, step: Step, attend: Attend) -> tuple[Tensor, Tensor]:
    """query: float64 [tokens, heads, head_dim]; keys, values: of the arena. Returns [tokens, heads · head_dim], and
    how much each may be wrong: scores are sums in float32."""
    group = attend.heads // attend.kv_heads
    made, wrong = torch.zeros_like(query), torch.zeros_like(query)
    for token, (base, count) in enumerate(zip(step.bases, step.counts, strict=True)):
        seen = slice(base + (max(0, count - attend.window) if attend.window else 0), base + count)
        for head in range(attend.heads):
            known, worth = keys[head // group, seen].double(), values[head // group, seen].double()
            scores = known @ query[token, head] * attend.scaling
            sizes = known.abs() @ query[token, head].abs() * attend.scaling
            if attend.cap:
                scores = torch.tanh(scores / attend.cap) * attend.cap
            made[token, head] = torch.softmax(scores, 0) @ worth
            wrong[token, head] = 2.0**-19 * (4 + sizes.max()) * worth.abs().max()
    return made.flatten(1), wrong.flatten(1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=30)
@given(
    # Steps of more than 32 rows have blocks of several neighbours.
    given_=st.one_of(
        st.lists(sequences(1, 3), min_size=1, max_size=4), st.lists(sequences(17, 40), min_size=2, max_size=2)
    ),
    gap=st.integers(0, 70),
    shape=st.sampled_from([(2, 1, 8), (4, 4, 16), (8, 2, 24), (5, 1, 64), (32, 2, 16), (17, 1, 8), (2, 1, 128),
                           (2, 2, 192), (4, 1, 256)]),
    interleaved=st.booleans(),
    window=st.sampled_from([0, 0, 1, 7, 40, 150]),
    cap=st.sampled_from([0.0, 0.0, 5.0]),
    turned=st.booleans(),
    multiprocessors=st.sampled_from([1, 3, 20]),
    backwards=st.booleans(),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_each_token_mixes_what_it_sees(
    dtype: torch.dtype, given_: list[Sequence], gap: int, shape: tuple[int, int, int], interleaved: bool,
    window: int, cap: float, turned: bool, multiprocessors: int, backwards: bool, seed: int,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    step, (heads, kv_heads, head_dim) = laid_out(given_, gap), shape
    tokens, group = len(step.bases), heads // kv_heads
    # Queries, keys and values one after another, or beside each other for each head as ChatGLM-6B has them.
    if interleaved and group == 1:
        columns, strides = (0, head_dim, 2 * head_dim), (3 * head_dim, 3 * head_dim)
    else:
        columns, strides = (0, heads * head_dim, (heads + kv_heads) * head_dim), (head_dim, head_dim)
    width = (heads + 2 * kv_heads) * head_dim
    angles = head_dim // 2
    turns = (
        Turn(columns[0], heads, strides[0], angles, neighbours=False, table=0),
        Turn(columns[1], kv_heads, strides[1], angles, neighbours=False, table=0),
    )
    src = bordered(torch.randn(tokens, width, generator=generator).to(dtype))
    dst = bordered(torch.full((tokens, heads * head_dim), NAN, dtype=dtype))
    # What nobody sees may be anything.
    keys, values = (torch.full((kv_heads, step.capacity, head_dim), NAN, dtype=dtype) for _ in range(2))
    for base, count in zip(step.bases, step.counts, strict=True):
        for each in (keys, values):
            each[:, base : base + count] = torch.randn(kv_heads, count, head_dim, generator=generator).to(
                dtype
            )
    rotation = table(tokens, 1, angles, generator)
    rows = Rows(
        torch.zeros(tokens, 1), integers(step.places), integers(step.bases), integers(step.counts),
        integers([]), rotation,
    )  # fmt: skip
    state = state_of([src, dst], rows=rows, dtype=dtype, multiprocessors=multiprocessors)
    state.keys, state.values = [keys], [values]
    kept = [each.clone() for each in (keys, values)]
    before = src.double()
    attend = Attend(
        buffer_of(0, src), buffer_of(1, dst), turns if turned else (), 0, heads, kv_heads, head_dim, columns, strides,
        head_dim**-0.5, window, cap,
    )  # fmt: skip
    attend.launch(state, HostKernels(dtype, backwards=backwards))

    if turned:
        for turn in turns:
            turn_exactly(before, turn, rotation)
        close(src, before, 1e-6 * before.abs().max())
    assert torch.equal(src.double(), before) or turned
    heads_of = [
        torch.stack([src[:, at + head * stride :][:, :head_dim] for head in range(count)])
        for at, stride, count in zip(columns, (strides[0], *[strides[1]] * 2), (heads, kv_heads, kv_heads), strict=True)
    ]  # fmt: skip
    for was, now, new in zip(kept, (keys, values), heads_of[1:], strict=True):
        was[:, step.places] = new
        assert torch.equal(was.nan_to_num(9e3), now.nan_to_num(9e3))
    right, wrong = exact(heads_of[0].transpose(0, 1).double(), keys, values, step, attend)
    close(dst, right, wrong)
    assert borders_hold(dst)
    assert borders_hold(src)
    assert not state.scratch.take(torch.int32, 1).any(), "what was counted in is left as it was"


@pytest.mark.parametrize("window", [0, 30])
def test_a_long_prompt_is_mixed_by_torch_as_it_is_by_the_kernel(window: int) -> None:
    """A prompt that goes on, a context that sees itself in both directions, and people who decode between them."""
    heads, kv_heads, head_dim, capacity = 4, 2, 16, 200
    generator = torch.Generator().manual_seed(5)
    stretches = [
        Segment(0, 1, 150, 7),
        Segment(1, 40, 0, 20),
        Segment(41, 2, 160, 3),
        Segment(43, 1, 170, 9),
        Segment(44, 35, 80, 0, causal=False),
    ]
    step = Step([], [], [], capacity)
    for each in stretches:
        end = each.cached + each.length
        step.bases += [each.start] * each.length
        step.counts += range(each.cached + 1, end + 1) if each.causal else [end] * each.length
        step.places += range(each.start + each.cached, each.start + end)
    width = (heads + 2 * kv_heads) * head_dim
    src = torch.randn(len(step.bases), width, generator=generator).to(torch.float16)
    keys, values = (torch.randn(kv_heads, capacity, head_dim, generator=generator).half() for _ in range(2))
    nothing = integers([])
    rows = Rows(
        torch.zeros(len(src), 1),
        integers(step.places),
        integers(step.bases),
        integers(step.counts),
        nothing,
        None,
    )
    found: list[Tensor] = []
    for known in ((), stretches):
        dst = torch.full((len(src), heads * head_dim), NAN, dtype=torch.float16)
        state = state_of([src, dst], rows=rows)
        state.stretches, state.keys, state.values = known, [keys.clone()], [values.clone()]
        Attend(
            buffer_of(0, src), buffer_of(1, dst), (), 0, heads, kv_heads, head_dim,
            (0, heads * head_dim, (heads + kv_heads) * head_dim), (head_dim, head_dim), 0.25, window, 0.0,
        ).launch(state, HostKernels(torch.float16))  # fmt: skip
        found.append(dst)
    torch.testing.assert_close(found[1], found[0], atol=2e-3, rtol=2e-3)


def test_long_stretches_stand_alone_and_short_neighbours_together() -> None:
    stretches = [Segment(0, 1, 0, 0), Segment(1, 2, 9, 0), Segment(3, 32, 20, 0), Segment(35, 1, 90, 0)]
    assert apart(stretches) == [(0, 3, None), (3, 35, stretches[2]), (35, 36, None)]


def test_a_token_alone_and_neighbours_together_are_both_tried() -> None:
    """The property above reaches every kernel."""
    assert {tile_of(per_key, 1)[0] for per_key in (1, 2, 4, 5, 16)} == {1, 4, 16}
    assert tile_of(1, 40)[2] > 1


@settings(max_examples=30)
@given(
    tokens=st.integers(1, 4),
    heads=st.integers(1, 5),
    angles=st.integers(1, 32),
    rest=st.sampled_from([0, 8]),
    neighbours=st.booleans(),
    halves=st.booleans(),
    seed=st.integers(0, 999),
)
def test_heads_are_turned_by_their_positions(
    tokens: int, heads: int, angles: int, rest: int, neighbours: bool, halves: bool, seed: int
) -> None:
    """Two turns of each head by tables of their own, as ChatGLM-6B has them, or one of its beginning."""
    generator = torch.Generator().manual_seed(seed)
    head_dim = (4 if halves else 2) * angles + rest
    turns = tuple(
        Turn(2 * angles * half, heads, head_dim, angles, neighbours, half) for half in range(1 + halves)
    )
    src = bordered(torch.randn(tokens, heads * head_dim, generator=generator).to(torch.float16))
    nothing = integers([])
    rotation = table(tokens, 2, angles + 3, generator)
    rows = Rows(torch.zeros(tokens, 1), nothing, nothing, nothing, nothing, rotation)
    right = src.double()
    for turn in turns:
        turn_exactly(right, turn, rotation)
    Turns(Buffer(0, heads * head_dim), turns, head_dim).launch(
        state_of([src], rows=rows), HostKernels(torch.float16)
    )
    close(src, right, 1e-6 * right.abs().max())
    assert borders_hold(src)


def table(tokens: int, tables: int, angles: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [tables, tokens, angles]."""
    turned = torch.randn(tables, tokens, angles, generator=generator) * 100
    return turned.cos(), turned.sin()


def turn_exactly(row: Tensor, turn: Turn, rotation: tuple[Tensor, Tensor]) -> None:
    """row: float64 [tokens, width], in place: each pair of columns is a number of the complex plane."""
    cosines, sines = (each[turn.table, :, : turn.angles].double() for each in rotation)
    for head in range(turn.heads):
        at = turn.at + head * turn.stride
        part = row[:, at : at + 2 * turn.angles]
        pairs = part.unflatten(1, (-1, 2)) if turn.neighbours else part.unflatten(1, (2, -1)).transpose(1, 2)
        turned = torch.view_as_complex(pairs.contiguous()) * torch.complex(cosines, sines)
        made = torch.view_as_real(turned)
        part.copy_((made if turn.neighbours else made.transpose(1, 2)).flatten(1))
