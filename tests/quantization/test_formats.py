"""The published formats: every weight within half a step, every packed value back, nothing poisoned."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glmbot.quantization.formats import dequantize, pack_nibbles, quantize_rows, unpack_nibbles


@given(
    st.sampled_from([4, 8]),
    st.integers(1, 20),
    st.integers(1, 40),
    st.floats(1e-3, 1e3),
    st.integers(0, 100),
)
def test_each_weight_comes_back_within_half_a_step(
    bits: int, rows: int, columns: int, size: float, seed: int
) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * size
    quantized, scale = quantize_rows(weight, bits)
    assert quantized.dtype is torch.int8
    assert int(quantized.abs().max()) <= 2 ** (bits - 1) - 1
    error = (dequantize(quantized, scale).float() - weight).abs()
    # Half a step, and what rounding to float16 adds.
    allowed = scale[:, None].float() * 0.5 + weight.abs() * 2e-3 + 1e-6
    assert bool((error <= allowed).all())


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_packed_nibbles_come_back(rows: int, pairs: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(-8, 7), min_size=2 * rows * pairs, max_size=2 * rows * pairs))
    weight = torch.tensor(values, dtype=torch.int8).view(rows, 2 * pairs)
    packed = pack_nibbles(weight)
    assert packed.shape == (rows, pairs)
    assert torch.equal(unpack_nibbles(packed), weight)


def test_the_even_column_is_in_the_high_nibble() -> None:
    assert pack_nibbles(torch.tensor([[1, 2]], dtype=torch.int8)).tolist() == [[0x12]]


def test_an_odd_number_of_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="3 columns"):
        pack_nibbles(torch.zeros(1, 3, dtype=torch.int8))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_row_of_zeros_stays_zero(bits: int) -> None:
    quantized, scale = quantize_rows(torch.zeros(2, 4), bits)
    assert int(quantized.abs().sum()) == 0
    assert bool(torch.isfinite(scale).all())


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e6])
def test_weights_that_float16_can_not_hold_are_refused(poison: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        quantize_rows(torch.tensor([[1.0, poison]]), 8)
