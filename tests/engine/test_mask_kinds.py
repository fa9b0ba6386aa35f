"""What a model's mask hides is known from what Transformers makes it of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import masking_utils as masks

from glmbot.engine import attention
from glmbot.engine.attention import Segment
from glmbot.engine.mask_kinds import Window, window_of

PACKED = masks.packed_sequence_mask_function(torch.zeros(1, 4))
PADDING = torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("function", "window"),
    [
        (masks.causal_mask_function, None),
        (masks.and_masks(masks.causal_mask_function, PACKED), None),
        (masks.sliding_window_causal_mask_function(7), Window(7, chunked=False)),
        (masks.chunked_causal_mask_function(5, PADDING), Window(5, chunked=True)),
        (masks.and_masks(masks.sliding_window_causal_mask_function(7), PACKED), Window(7, chunked=False)),
        (
            masks.remap_positions_for_packed_sequence(
                masks.chunked_causal_mask_function(5, PADDING), PADDING
            ),
            Window(5, chunked=True),
        ),
    ],
)
def test_a_known_mask_is_its_window(function: Any, window: Window | None) -> None:
    assert window_of(mask_function=function, batch_size=1) == window


def _of_its_own(batch: int, head: int, query: int, key: int) -> bool:
    return key == query


@pytest.mark.parametrize(
    "function",
    [
        masks.bidirectional_mask_function,
        masks.or_masks(masks.causal_mask_function, masks.bidirectional_mask_function),
        masks.and_masks(masks.causal_mask_function, _of_its_own),
        masks.and_masks(masks.sliding_window_causal_mask_function(7), masks.sliding_window_overlay(3)),
    ],
)
def test_an_unknown_mask_is_refused(function: Any) -> None:
    with pytest.raises(NotImplementedError, match="does not know"):
        window_of(mask_function=function)


@pytest.mark.parametrize("window", [Window(6, chunked=False), Window(6, chunked=True)])
def test_a_window_hides_the_same_from_each_token_in_pieces_as_in_the_whole(window: Window) -> None:
    torch.manual_seed(1)
    query, keys, values = torch.randn(4, 20, 8), torch.randn(2, 20, 8), torch.randn(2, 20, 8)
    make: Any = (
        masks.chunked_causal_mask_function if window.chunked else masks.sliding_window_causal_mask_function
    )
    function = make(6, PADDING) if window.chunked else make(6)
    places = torch.arange(20)
    mask = function(0, 0, places[:, None], places[None, :])
    expected = torch.nn.functional.scaled_dot_product_attention(
        query[None], keys[None], values[None], attn_mask=mask, enable_gqa=True
    )[0]
    for start, end in ((0, 20), (0, 7), (7, 19), (11, 12), (12, 13), (19, 20)):
        segment = Segment(first=0, length=end - start, start=0, cached=start)
        got = attention._attend_one(
            query[:, start:end], keys[:, :end], values[:, :end], segment, None, window, None
        )
        torch.testing.assert_close(got, expected[:, start:end])


def test_a_model_may_cut_its_mask() -> None:
    window = Window(6, chunked=False)
    assert window[:, :, :, :3] is window
