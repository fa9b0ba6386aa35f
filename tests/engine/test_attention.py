"""Attention over the arena equals plain attention of each sequence by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from glmbot.engine.attention import Segment, StepLayout, attend
from glmbot.engine.kv_cache import Arena


def plain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    causal: bool,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """[heads, tokens, dim] each; all tokens from the first, in float64."""
    group = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(group, 0).double(), value.repeat_interleave(group, 0).double()
    scores = query.double() @ key.transpose(1, 2) * query.shape[-1] ** -0.5
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    row, column = torch.arange(query.shape[1])[:, None], torch.arange(query.shape[1])[None]
    if causal:
        scores = scores.masked_fill(column > row, float("-inf"))
    if window:
        scores = scores.masked_fill(column <= row - window, float("-inf"))
    return (torch.softmax(scores, -1) @ value).float()


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("softcap", [None, 20.0])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (3, 1)])
def test_steps_of_many_sequences_equal_each_alone(
    heads: int, kv_heads: int, window: int | None, softcap: float | None
) -> None:
    torch.manual_seed(1)
    lengths, starts, dim = [13, 9, 21], [40, 0, 70], 8
    arena = Arena(
        kv_heads=kv_heads, head_dim=dim, capacity=100, dtype=torch.float32, devices=[torch.device("cpu")]
    )
    tensors = [
        (torch.randn(heads, n, dim), torch.randn(kv_heads, n, dim), torch.randn(kv_heads, n, dim))
        for n in lengths
    ]
    got = [torch.empty(heads, n, dim) for n in lengths]
    done = [0, 0, 0]
    # Chunks of different lengths beside single tokens, as prefill and decode meet in a step.
    for chunk_lengths in ([6, 1, 10], [1, 4, 1], [5, 1, 9], [1, 3, 1]):
        segments, parts, places = [], [], []
        first = 0
        for index, length in enumerate(chunk_lengths):
            segments.append(Segment(first, length, starts[index], done[index]))
            parts.append([each[:, done[index] : done[index] + length] for each in tensors[index]])
            places += range(starts[index] + done[index], starts[index] + done[index] + length)
            first += length
        query, key, value = (torch.cat([part[kind] for part in parts], 1)[None] for kind in range(3))
        layout = StepLayout(arena, tuple(segments), torch.tensor(places))
        module: Any = SimpleNamespace(layer_idx=0)
        out, _ = attend(
            module, query, key, value, None, layout=layout, sliding_window=window, softcap=softcap
        )  # pyright: ignore[reportArgumentType]
        for index, segment in enumerate(segments):
            piece = out[0, segment.first : segment.first + segment.length].transpose(0, 1)
            got[index][:, done[index] : done[index] + segment.length] = piece
            done[index] += segment.length
    assert done == lengths
    for result, (query, key, value) in zip(got, tensors, strict=True):
        expected = plain(query, key, value, causal=True, window=window, softcap=softcap)
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
