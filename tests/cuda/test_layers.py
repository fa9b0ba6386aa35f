"""Layers as products on a card read them."""

from __future__ import annotations

import pytest
import torch

from glmbot.cuda.layers import card_layer
from glmbot.quantization.cpm import CpmLinear
from glmbot.quantization.formats import quantize_rows
from glmbot.quantization.linear import WidenedLinear


@pytest.mark.parametrize("bits", [8, 4])
def test_packed_weights_of_old_cards_are_read_as_everywhere(bits: int) -> None:
    """Before Ampere cpm_kernels may widen them; what is stored is the same."""
    quantized, scale = quantize_rows(torch.randn(32, 64), bits)
    old = card_layer(CpmLinear(quantized, scale, bits, torch.ones(32)))
    new = card_layer(WidenedLinear(quantized, scale, bits, torch.ones(32)))
    assert old.form == new.form == f"rows{bits}"
    assert torch.equal(old.widened(), new.widened())
    assert old.bias is not None
