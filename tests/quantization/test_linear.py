"""Weight-only int8: every weight within half a step, every product near the float one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glmbot.quantization.linear import Int8Linear, quantize_rows


@given(st.integers(1, 20), st.integers(1, 40), st.floats(1e-6, 1e4), st.integers(0, 100))
def test_each_weight_comes_back_within_half_a_step(rows: int, columns: int, size: float, seed: int) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * size
    quantized, scale = quantize_rows(weight)
    assert quantized.dtype is torch.int8
    assert int(quantized.abs().max()) <= 127
    error = (quantized.float() * scale[:, None] - weight).abs()
    assert bool((error <= scale[:, None] * 0.5001).all())


def test_a_row_of_zeros_stays_zero() -> None:
    quantized, scale = quantize_rows(torch.zeros(2, 3))
    assert int(quantized.abs().sum()) == 0
    assert bool(torch.isfinite(scale).all())


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        quantize_rows(torch.tensor([[1.0, float("nan")]]))


@pytest.mark.parametrize("rows", [1, 4, 5, 64])
@pytest.mark.parametrize("biased", [True, False])
def test_products_are_near_the_float_ones_for_few_rows_and_many(rows: int, biased: bool) -> None:
    torch.manual_seed(1)
    weight, x = torch.randn(96, 64), torch.randn(rows, 64)
    bias = torch.randn(96) if biased else None
    got = Int8Linear(weight, bias, torch.bfloat16)(x.bfloat16()[None])[0].float()
    expected = torch.nn.functional.linear(x, weight, bias)
    assert float((got - expected).norm() / expected.norm()) < 0.02
