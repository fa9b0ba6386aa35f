"""Every kernel family computes the same product, for few rows and many."""

from __future__ import annotations

import pytest
import torch

from glmbot.quantization.choice import quantized_linear
from glmbot.quantization.cpu import PackedInt4Linear, PackedInt8Linear
from glmbot.quantization.formats import dequantize, quantize_rows
from glmbot.quantization.linear import WidenedLinear


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [1, 4, 64, 65, 200])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", [(192, 128), (96, 64), (10, 6)])
def test_packed_products_are_near_the_float_ones(
    native: bool, bits: int, rows: int, biased: bool, shape: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    weight, x = torch.randn(shape), torch.randn(rows, shape[1]).bfloat16()
    bias = torch.randn(shape[0]).bfloat16() if biased else None
    quantized, scale = quantize_rows(weight, bits)
    layer = quantized_linear(quantized, scale, bits, bias, torch.bfloat16, native=native)
    got = layer(x[None])[0].float()
    stored = dequantize(quantized, scale).float()
    expected = torch.nn.functional.linear(x.float(), stored, None if bias is None else bias.float())
    assert got.shape == (rows, shape[0])
    assert float((got - expected).norm() / expected.norm()) < 0.01


@pytest.mark.parametrize("bits", [4, 8])
def test_in_float32_the_product_is_exact(bits: int) -> None:
    torch.manual_seed(1)
    quantized, scale = quantize_rows(torch.randn(12, 8), bits)
    layer = quantized_linear(quantized, scale, bits, None, torch.float32, native=False)
    assert isinstance(layer, WidenedLinear)
    x = torch.randn(3, 8)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, dequantize(quantized, scale).float()))


def test_weights_are_kept_packed() -> None:
    quantized, scale = quantize_rows(torch.randn(128, 64), 4)
    packed = quantized_linear(quantized, scale, 4, None, torch.bfloat16, native=False)
    assert isinstance(packed, PackedInt4Linear | WidenedLinear)
    assert packed.get_buffer("weight").numel() * packed.get_buffer("weight").itemsize == 128 * 64 // 2
    assert isinstance(
        quantized_linear(quantized, scale, 8, None, torch.bfloat16, native=False), PackedInt8Linear
    )
