"""The native kernels, against torch, with each instruction set that this processor has."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from glmbot.native import linear as native_linear
from glmbot.native.instruction_sets import SETS, family, features, usable
from glmbot.native.library import choose
from glmbot.native.linear import NativeLinear
from glmbot.native.program import ProgramBuilder, Rows
from glmbot.native.weights import WeightKind
from glmbot.quantization.formats import Groups, dequantize_groups, quantize_groups, quantize_rows
from glmbot.quantization.native import native_float, native_groups, native_rows

FORMATS = (
    "fp32", "bf16", "int8", "int4", "int4 in groups", "int8 in groups", "int8 in halves", "rows bf16", "rows fp32",
)  # fmt: skip


# Elsewhere the only kernels are those compiled for the machine.
ARCHITECTURES = [one.name for one in usable(features(), SETS.get(family(), ()))] or ["native"]


@pytest.fixture(scope="module", params=ARCHITECTURES, autouse=True)
def library(request: pytest.FixtureRequest) -> Generator[None]:
    made = choose(request.param)
    if made is None:
        pytest.skip("neither prebuilt nor a compiler here")
    assert made.architecture == request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_linear, "kernels", lambda: made.library)
        yield


def in_halves(weight: Tensor) -> Groups:
    """A scale for each 16 columns, and zero in the middle, as Q6_K of GGUF files has it."""
    apart = weight.unflatten(1, (-1, 16))
    scale = (apart.abs().amax(-1) / 127).to(torch.float16)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    codes = (apart / scale.float()[..., None]).round().clamp(-127, 127) + 128
    return Groups(codes.to(torch.uint8).flatten(1), scale, -128 * scale, 8)


def layer(kind: str, weight: Tensor, bias: Tensor | None) -> tuple[NativeLinear, Tensor]:
    """The layer, and the float weights that it stands for."""
    if kind == "fp32":
        made, wide = native_float(weight, bias), weight
    elif kind == "bf16":
        made, wide = native_float(weight.bfloat16(), bias), weight.bfloat16().float()
    elif kind.endswith("in groups"):
        groups = quantize_groups(weight, int(kind[3]))
        made, wide = native_groups(groups, bias), dequantize_groups(groups)
    elif kind.endswith("in halves"):
        groups = in_halves(weight)
        made, wide = native_groups(groups, bias), dequantize_groups(groups)
    elif kind.startswith("rows"):
        stored = weight.bfloat16() if kind.endswith("bf16") else weight
        name = WeightKind.ROWS_BFLOAT16 if kind.endswith("bf16") else WeightKind.ROWS_FLOAT32
        made, wide = NativeLinear(name, weight.shape[0], weight.shape[1], stored, bias=bias), stored.float()
    else:
        bits = int(kind[3])
        quantized, scale = quantize_rows(weight, bits)
        made, wide = native_rows(quantized, scale, bits, bias), quantized.float() * scale.float()[:, None]
    assert made is not None
    return made, wide


@pytest.mark.parametrize("kind", FORMATS)
@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 7).map(lambda count: 32 * count),
    tokens=st.integers(1, 19),
    seed=st.integers(0, 999),
    biased=st.booleans(),
)
def test_a_product_is_torchs(
    kind: str, rows: int, columns: int, tokens: int, seed: int, biased: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    bias = torch.randn(rows, generator=generator) if biased else None
    x = torch.randn(tokens, columns, generator=generator)
    made, wide = layer(kind, weight, bias)
    expected = torch.nn.functional.linear(x, wide, bias)
    # Integer weights: activations are rounded to 1/127 of the largest of their 32; bfloat16: to 8 bits.
    noise = {"fp32": 1e-5, "rows fp32": 1e-5, "rows bf16": 4e-3, "bf16": 4e-3}.get(kind, 8e-3)
    spread = float(x.abs().max() * wide.abs().max()) * columns**0.5
    assert float((made(x) - expected).abs().max()) <= noise * spread


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind.startswith("int")])
@given(
    tokens=st.integers(1, 9),
    blocks=st.integers(1, 5),
    seed=st.integers(0, 999),
    extreme=st.booleans(),
)
def test_sums_of_integers_are_exact(kind: str, tokens: int, blocks: int, seed: int, extreme: bool) -> None:
    """Activations that are whole lose nothing when they are quantised; at their extremes nothing overflows."""
    generator = torch.Generator().manual_seed(seed)
    columns = 32 * blocks
    weight = torch.randn(20, columns, generator=generator)
    x = torch.randint(-127, 128, (tokens, columns), generator=generator).float()
    if extreme:
        weight, x = weight.sign(), x.sign() * 127
    x[:, ::32] = 127.0
    made, wide = layer(kind, weight, None)
    expected = torch.nn.functional.linear(x.double(), wide.double())
    size = torch.nn.functional.linear(x.double().abs(), wide.double().abs())
    # Scales are rounded to float16 alike on both sides; what is left are float32 sums of blocks.
    assert bool(((made(x).double() - expected).abs() <= 2e-6 * size).all())


def test_layers_of_one_product_may_round_activations_each_in_its_way() -> None:
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(rows, 256, generator=generator) for rows in (32, 16, 20, 16)]
    long = native_groups(replace(quantize_groups(weights[1], 8), activation_run=256), None)
    assert long is not None
    layers = [layer("int8 in groups", weights[0], None)[0], long]
    layers += [
        layer(kind, weight, None)[0]
        for kind, weight in zip(("int8", "int8 in halves"), weights[2:], strict=True)
    ]
    builder = ProgramBuilder(256)
    out = builder.buffer(96)
    builder.linear(builder.hidden, out, layers, at=4)
    x = torch.randn(3, 256, generator=generator)
    drawn = torch.zeros(3, dtype=torch.int32)
    none = drawn[:0]
    made = builder.build(native_linear.kernels(), out).run(Rows(x, none, none, none, drawn, None), (), (), 2)
    assert torch.equal(made[:, 4:88], torch.cat([each(x) for each in layers], dim=1))


@pytest.mark.parametrize("run", [32, 256])
@pytest.mark.parametrize("bits", [4, 8])
def test_activations_are_rounded_by_a_scale_for_as_many_columns_as_the_format_says(
    bits: int, run: int
) -> None:
    generator = torch.Generator().manual_seed(run)
    groups = quantize_groups(torch.randn(20, 768, generator=generator), bits)
    made = native_groups(replace(groups, activation_run=run), None)
    assert made is not None
    x = torch.randn(5, 768, generator=generator) * torch.rand(768, generator=generator) ** 4
    runs = x.unflatten(1, (-1, run))
    largest = runs.abs().amax(-1, keepdim=True)
    rounded = ((runs * (127 / largest)).round() * largest / 127).flatten(1)
    expected = torch.nn.functional.linear(rounded, dequantize_groups(groups))
    torch.testing.assert_close(made(x), expected, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", FORMATS)
@given(tokens=st.integers(2, 21), seed=st.integers(0, 999))
def test_a_row_is_the_same_in_any_company_bit_for_bit(kind: str, tokens: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    made, _ = layer(kind, torch.randn(50, 96, generator=generator), None)
    x = torch.randn(tokens, 96, generator=generator)
    together = made(x)
    alone = torch.cat([made(row[None]) for row in x])
    assert torch.equal(together, alone)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert torch.equal(made(x), together)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_fault_is_not_hidden(kind: str) -> None:
    made, _ = layer(kind, torch.randn(16, 64), None)
    x = torch.randn(3, 64)
    x[1, 5] = float("nan")
    out = made(x)
    assert torch.isnan(out[1]).all()
    assert torch.isfinite(out[[0, 2]]).all()


@given(
    lengths=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=1, max_size=4),
    heads=st.sampled_from([(4, 2), (6, 2), (8, 1), (3, 3)]),
    head_dim=st.sampled_from([16, 32, 64]),
    wide=st.booleans(),
    seed=st.integers(0, 99),
)
def test_attention_is_torchs(
    lengths: list[tuple[int, int]], heads: tuple[int, int], head_dim: int, wide: bool, seed: int
) -> None:
    """lengths: tokens in the cache and new ones, of each sequence."""
    count, kv_heads = heads
    generator = torch.Generator().manual_seed(seed)
    capacity = sum(cached + new for cached, new in lengths) + 5
    dtype = torch.float32 if wide else torch.bfloat16
    keys, values = (
        torch.randn(kv_heads, capacity, head_dim, generator=generator).to(dtype) for _ in range(2)
    )
    tokens = sum(new for _, new in lengths)
    width, kv_width = count * head_dim, kv_heads * head_dim
    mixed = torch.randn(tokens, width + 2 * kv_width, generator=generator)
    places: list[int] = []
    bases: list[int] = []
    counts: list[int] = []
    base = 3
    for cached, new in lengths:
        places += range(base + cached, base + cached + new)
        bases += [base] * new
        counts += range(cached + 1, cached + new + 1)
        base += cached + new
    builder = ProgramBuilder(width + 2 * kv_width)
    out = builder.buffer(width)
    builder.attend(
        builder.hidden, out, layer=0, heads=count, kv_heads=kv_heads, head_dim=head_dim,
        columns=(0, width, width + kv_width), strides=(head_dim, head_dim), scaling=head_dim**-0.5,
    )  # fmt: skip
    where, starts, seen_keys = (
        torch.tensor(numbers, dtype=torch.int32) for numbers in (places, bases, counts)
    )
    program = builder.build(native_linear.kernels(), out)
    drawn = torch.zeros(tokens, dtype=torch.int32)
    result = program.run(Rows(mixed, where, starts, seen_keys, drawn, None), [keys], [values], 2).clone()
    query, new_keys, new_values = mixed.split((width, kv_width, kv_width), dim=1)
    for place, row in zip(places, range(tokens), strict=True):
        assert torch.equal(keys[:, place], new_keys[row].view(kv_heads, head_dim).to(dtype))
        assert torch.equal(values[:, place], new_values[row].view(kv_heads, head_dim).to(dtype))
    for row in range(tokens):
        seen = slice(bases[row], bases[row] + counts[row])
        expected = torch.nn.functional.scaled_dot_product_attention(
            query[row].view(1, count, 1, head_dim),
            keys[None, :, seen].float(),
            values[None, :, seen].float(),
            enable_gqa=True,
        )
        torch.testing.assert_close(result[row], expected.reshape(-1), atol=2e-5 if wide else 3e-2, rtol=0)
    for count in (1, 3):
        again = program.run(Rows(mixed, where, starts, seen_keys, drawn, None), [keys], [values], count)
        assert torch.equal(again[:tokens], result)
    for row in range(tokens):
        own = slice(row, row + 1)
        rows = Rows(mixed[own], where[own], starts[own], seen_keys[own], drawn[own], None)
        assert torch.equal(program.run(rows, [keys], [values], 2)[0], result[row]), "alone as in company"


@given(seed=st.integers(0, 99), gate=st.booleans())
def test_activations_are_torchs(seed: int, gate: bool) -> None:
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(seed)) * 6
    builder = ProgramBuilder(64)
    out = builder.buffer(32)
    if gate:
        builder.silu_product(builder.hidden, out, 32)
        expected = torch.nn.functional.silu(x[:, :32]) * x[:, 32:]
    else:
        builder.gelu(builder.hidden, out, 32)
        expected = torch.nn.functional.gelu(x[:, :32], approximate="tanh")
    none = torch.zeros(0, dtype=torch.int32)
    drawn = torch.zeros(5, dtype=torch.int32)
    program = builder.build(native_linear.kernels(), out)
    result = program.run(Rows(x, none, none, none, drawn, None), (), (), 2)
    torch.testing.assert_close(result, expected, atol=2e-5, rtol=1e-5)


def test_sizes_that_do_not_fit_are_refused() -> None:
    builder = ProgramBuilder(24)
    with pytest.raises(ValueError, match="multiple of 16"):
        builder.norm(builder.hidden, builder.hidden, torch.ones(24), 1e-5)
    assert native_rows(torch.zeros(4, 24, dtype=torch.int8), torch.ones(4).half(), 8, None) is None
