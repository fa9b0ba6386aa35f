"""Products with packed weights: the kernels of a card, compiled for the CPU, against the exact product."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cuda.host_kernels import HostKernels
from cuda.steps import EPS, activated_exactly, bordered, borders_hold, buffer_of, close, state_of
from glmbot.cuda.layers import CardLayer, card_layer
from glmbot.cuda.product_operation import Product
from glmbot.cuda.row_operations import Activation
from glmbot.quantization.formats import Groups, quantize_groups
from glmbot.quantization.linear import GroupedLinear, WidenedLinear

FORMS = ("float", "rows8", "rows4", "runs8", "runs4", "groups8", "groups4")
BFLOAT16 = ("float", "rows4", "groups8")
BUILDS = [(form, torch.float16) for form in FORMS] + [(form, torch.bfloat16) for form in BFLOAT16]
# The steepest that an activation is, but for the square's.
_STEEPEST = 1.2


def layer_of(
    form: str, rows: int, columns: int, groups: int, generator: torch.Generator, dtype: torch.dtype
) -> CardLayer:
    """Weights around 1 in size, with a bias."""
    bias = torch.randn(rows, generator=generator)
    bits = int(form[-1]) if form[-1].isdigit() else 0
    module: nn.Module
    if form == "float":
        module = nn.Linear(columns, rows, dtype=dtype)
        module.weight.data.normal_(generator=generator)
        module.bias.data.copy_(bias)
    elif form.startswith("groups"):
        columns_each = columns // groups
        made = quantize_groups(torch.randn(rows, columns, generator=generator), bits)
        apart = slice(None, None, columns_each // 32)
        module = GroupedLinear(
            Groups(made.codes, made.scale[:, apart].contiguous(), made.minimum[:, apart].contiguous(), bits),
            bias,
        )
    else:
        most = 2 ** (bits - 1)
        codes = torch.randint(-most, most, (rows, columns), generator=generator).to(torch.int8)
        shape = (rows,) if form.startswith("rows") else (rows, groups)
        scale = (torch.rand(shape, generator=generator) / most + 1e-3).to(torch.float16)
        module = WidenedLinear(codes, scale, bits, bias)
    return card_layer(module)


def exact_weights(layer: CardLayer) -> Tensor:
    """Float64 [out, in], never rounded."""
    if layer.scale is None:
        return layer.codes.double()
    one = CardLayer(
        layer.form, layer.out_features, layer.in_features, layer.codes, torch.ones_like(layer.scale),
        None if layer.minimum is None else torch.zeros_like(layer.minimum), None, layer.groups,
    )  # fmt: skip
    codes = one.widened().double().unflatten(1, (layer.groups, -1))
    scale = layer.scale.double().view(layer.out_features, -1, 1)
    made = codes * scale
    if layer.minimum is not None:
        made = made + layer.minimum.double()[..., None]
    return made.flatten(1)


@pytest.mark.parametrize(("form", "dtype"), BUILDS, ids=str)
@settings(max_examples=10)
@given(
    outputs=st.lists(st.integers(1, 70), min_size=1, max_size=2),
    groups=st.integers(1, 3),
    whole=st.sampled_from([1, 2, 3, 5, 8, 12, 130]),
    tokens=st.one_of(st.integers(1, 8), st.integers(9, 64), st.integers(65, 80)),
    multiprocessors=st.integers(1, 4),
    at=st.sampled_from([0, 8]),
    adds=st.booleans(),
    other=st.booleans(),
    biased=st.booleans(),
    floats=st.booleans(),
    activation=st.integers(-1, 3),
    backwards=st.booleans(),
    seed=st.integers(0, 999),
)
def test_a_product_is_exact_but_for_rounding(
    form: str, dtype: torch.dtype, outputs: list[int], groups: int, whole: int, tokens: int, multiprocessors: int,
    at: int, adds: bool, other: bool, biased: bool, floats: bool, activation: int, backwards: bool, seed: int,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    groups = groups if form[:4] in ("runs", "grou") else 1
    columns = groups * whole * (8 if form == "float" else 32)
    layers = [layer_of(form, rows, columns, groups, generator, dtype) for rows in outputs]
    if not biased:
        layers = [CardLayer(each.form, each.out_features, each.in_features, each.codes, each.scale, each.minimum,
                            None, each.groups) for each in layers]  # fmt: skip
    wide = at + sum(outputs)
    src = bordered(torch.randn(tokens, columns, generator=generator).to(dtype))
    dst = bordered(torch.randn(tokens, wide, generator=generator).to(torch.float32 if floats else dtype))
    beside = bordered(torch.randn(tokens, wide, generator=generator).to(dtype))
    before = dst.double()
    state = state_of([src, dst, beside], tokens=tokens, dtype=dtype, multiprocessors=multiprocessors)
    product = Product(buffer_of(0, src), buffer_of(1, dst), tuple(layers), at, adds, activation)
    if other:
        product = product.beside(buffer_of(2, beside), 0.5)
    product.launch(state, HostKernels(dtype, backwards=backwards))

    weights = torch.cat([exact_weights(layer) for layer in layers])
    sums = src.double() @ weights.T
    many = EPS[dtype] * sums.abs() if tokens > 64 else 0.0
    if biased:
        sums = sums + torch.cat([layer.bias for layer in layers if layer.bias is not None]).double()
    # Products are exact in float32; weights are rounded where they have a scale.
    sizes = src.double().abs() @ weights.abs().T
    wrong = (2.0**-20 + (0.0 if form == "float" else EPS[dtype])) * sizes + many
    steep = 2 * (sums.abs() + wrong) if activation == Activation.SQUARED_RELU else _STEEPEST
    exact = activated_exactly(sums, activation)
    if other:
        exact = exact + 0.5 * beside[:, at:].double()
    elif adds:
        exact = exact + before[:, at:]
    close(dst[:, at:], exact, steep * wrong + 2.0**-20 * (exact.abs() + 1))
    assert torch.equal(dst[:, :at].double(), before[:, :at])
    assert borders_hold(dst)


@pytest.mark.parametrize(("form", "dtype"), [each for each in BUILDS if each[0] != "float"], ids=str)
@settings(max_examples=10)
@given(rows=st.integers(1, 40), groups=st.integers(1, 3), whole=st.integers(1, 9), seed=st.integers(0, 999))
def test_weights_are_widened_as_on_any_device(
    form: str, dtype: torch.dtype, rows: int, groups: int, whole: int, seed: int
) -> None:
    groups = groups if form[:4] in ("runs", "grou") else 1
    layer = layer_of(
        form, rows, groups * whole * 32, groups, torch.Generator().manual_seed(seed), torch.float16
    )
    made = torch.full((rows + 1, layer.in_features), float("nan"), dtype=dtype)
    assert layer.scale is not None
    HostKernels(dtype).launch(
        f"widen_{form}", (-(-rows * layer.in_features // 8192), 1, 1), 256, layer.codes, layer.scale,
        layer.scale if layer.minimum is None else layer.minimum, made, rows, layer.in_features, layer.groups,
    )  # fmt: skip
    close(made[:-1], exact_weights(layer), EPS[dtype] * exact_weights(layer).abs())
    assert bool(made[-1].isnan().all())
    if dtype == torch.float16:
        assert torch.equal(made[:-1], layer.widened().to(dtype))
