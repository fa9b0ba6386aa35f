"""Rows that draw nothing end with the last attention."""

from __future__ import annotations

from functools import cache

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from glmbot.native.library import kernels
from glmbot.native.linear import NativeLinear
from glmbot.native.operations import Kind, Operation, drawn_early
from glmbot.native.program import Program, ProgramBuilder, Rows
from glmbot.quantization.native import native_float

HEADS, HEAD_DIM = 2, 16
WIDTH = HEADS * HEAD_DIM


@cache  # programs point into their layers
def layer(rows: int, columns: int, seed: int) -> NativeLinear:
    made = native_float(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)), None)
    assert made is not None
    return made


def blocks(*, beside: bool) -> Program:
    """Two layers and a head. beside: attention and MLP read the same norm, and share a buffer."""
    builder = ProgramBuilder(WIDTH)
    hidden = builder.hidden
    normed, attended = builder.buffer(WIDTH), builder.buffer(WIDTH)
    mixed, inner = builder.buffer(4 * WIDTH), builder.buffer(2 * WIDTH)
    for number in range(2):
        builder.norm(hidden, normed, torch.ones(WIDTH), 1e-5)
        builder.linear(normed, mixed, [layer(3 * WIDTH, WIDTH, number)])
        if beside:
            builder.linear(normed, mixed, [layer(WIDTH, WIDTH, 10 + number)], at=3 * WIDTH)
        builder.attend(
            mixed, attended, layer=number, heads=HEADS, kv_heads=HEADS, head_dim=HEAD_DIM,
            columns=(0, WIDTH, 2 * WIDTH), strides=(HEAD_DIM, HEAD_DIM), scaling=0.25,
        )  # fmt: skip
        builder.linear(attended, hidden, [layer(WIDTH, WIDTH, 20 + number)], adds=True)
        if beside:
            builder.linear(mixed, inner, [layer(2 * WIDTH, 4 * WIDTH, 30 + number)])
        else:
            builder.norm(hidden, normed, torch.ones(WIDTH), 1e-5)
            builder.linear(normed, inner, [layer(2 * WIDTH, WIDTH, 30 + number)])
        builder.linear(inner, hidden, [layer(WIDTH, 2 * WIDTH, 40 + number)], adds=True)
    last, logits = builder.buffer(WIDTH), builder.buffer(48)
    builder.gather(hidden, last)
    builder.norm(last, last, torch.ones(WIDTH), 1e-5)
    builder.linear(last, logits, [layer(48, WIDTH, 50)])
    return builder.build(kernels(), logits)


def run(program: Program, hidden: Tensor, drawn: list[int], threads: int) -> Tensor:
    count = len(hidden)
    places = torch.arange(count, dtype=torch.int32)
    cache = [torch.zeros(HEADS, count, HEAD_DIM) for _ in range(2)]
    rows = Rows(
        hidden, places, torch.zeros_like(places), places + 1, torch.tensor(drawn, dtype=torch.int32), None
    )
    return program.run(rows, cache, [torch.zeros_like(each) for each in cache], threads).clone()


@given(
    count=st.integers(1, 9),
    picked=st.sets(st.integers(0, 8)),
    beside=st.booleans(),
    threads=st.integers(1, 2),
)
def test_rows_that_draw_are_what_they_are_beside_others_that_draw(
    count: int, picked: set[int], beside: bool, threads: int
) -> None:
    hidden = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(count))
    drawn = sorted(row for row in picked if row < count)
    program = blocks(beside=beside)
    every = run(program, hidden, list(range(count)), threads)
    assert torch.equal(run(program, hidden, drawn, threads), every[drawn])


def test_the_last_mlp_is_computed_for_rows_that_draw() -> None:
    ops = [
        Operation(kind=Kind.NORM, src=0, dst=1, width=16, b=1),
        Operation(kind=Kind.ATTEND, src=1, dst=2),
        Operation(kind=Kind.SCALE, src=2, dst=0, width=16, x=1.0, y=1.0),
        Operation(kind=Kind.NORM, src=0, dst=1, width=16, b=1),
        Operation(kind=Kind.ACTIVATE, src=1, dst=0, width=16),
        Operation(kind=Kind.GATHER, src=0, dst=3, width=16),
        Operation(kind=Kind.NORM, src=3, dst=3, width=16, b=1),
    ]
    made, widths = drawn_early(ops, [16, 16, 16, 16])
    # What attention made and what it is added to are needed; what is made anew is not.
    assert [(each.kind, each.src, each.dst) for each in made] == [
        (Kind.NORM, 0, 1),
        (Kind.ATTEND, 1, 2),
        (Kind.GATHER, 2, 4),
        (Kind.GATHER, 0, 5),
        (Kind.SCALE, 4, 5),
        (Kind.NORM, 5, 1),
        (Kind.ACTIVATE, 1, 5),
        (Kind.NORM, 5, 5),
    ]
    assert widths == [16, 16, 16, 16, 16, 16]


def test_a_program_without_attention_stays_as_it_is() -> None:
    ops = [Operation(kind=Kind.NORM, src=0, dst=0, width=16, b=1)]
    made, widths = drawn_early(ops, [16])
    assert (made, widths) == (ops, [16])


def test_a_program_writes_to_the_cache_that_it_is_given() -> None:
    program = blocks(beside=False)
    hidden = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(1))
    place = torch.arange(3, dtype=torch.int32)
    rows = Rows(hidden, place, torch.zeros_like(place), place + 1, place[2:], None)
    first, second = ([torch.zeros(HEADS, 3, HEAD_DIM) for _ in range(4)] for _ in range(2))
    for tensors in (first, second, first):
        for tensor in tensors:
            tensor.zero_()
        program.run(rows, tensors[:2], tensors[2:], 1)
        assert all(bool(tensor.all(-1).all()) for tensor in tensors), "every key and value is there"
    # One tensor alone is another, as while a cache is converted.
    first[3] = torch.zeros_like(first[3])
    program.run(rows, first[:2], first[2:], 1)
    assert first[3].abs().sum() > 0
