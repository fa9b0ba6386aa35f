"""The draw agrees with Transformers' own processors, row by row, whatever the batch."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from glmbot.engine.base import Sampling
from glmbot.engine.sampling import Draw, sample

VOCABULARY = 400


def reference(logits: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Probabilities [vocabulary] after Transformers' processors, and what those have none for written out."""
    ids: Any = torch.tensor([list(draw.seen) or [0]])
    scores = logits[None].clone()
    settings = draw.sampling
    for token, bias in settings.logit_bias:
        scores[0, token] += bias
    if settings.repetition_penalty != 1 and draw.seen:
        scores = RepetitionPenaltyLogitsProcessor(settings.repetition_penalty)(ids, scores)
    for token, count in draw.said.items():
        scores[0, token] -= settings.frequency_penalty * count
        scores[0, token] -= settings.presence_penalty
    scores = TemperatureLogitsWarper(settings.temperature)(ids, scores)
    if settings.top_k:
        scores = TopKLogitsWarper(settings.top_k)(ids, scores)
    if settings.top_p < 1:
        scores = TopPLogitsWarper(settings.top_p)(ids, scores)
    if settings.min_p:
        scores = MinPLogitsWarper(settings.min_p)(ids, scores)
    return torch.softmax(scores[0], -1)


tokens = st.integers(0, VOCABULARY - 1)
draws = st.builds(
    Draw,
    st.builds(
        Sampling,
        max_tokens=st.just(1),
        temperature=st.sampled_from([0.2, 0.7, 1.0, 3.0]),
        top_p=st.sampled_from([0.1, 0.5, 0.9, 0.999, 1.0]),
        top_k=st.sampled_from([0, 1, 5, 300]),
        repetition_penalty=st.sampled_from([1.0, 1.3, 5.0]),
        min_p=st.sampled_from([0.0, 0.0, 0.05, 0.7, 1.0]),
        presence_penalty=st.sampled_from([0.0, 1.1, -2.0]),
        frequency_penalty=st.sampled_from([0.0, 0.3, 2.0]),
        logit_bias=st.dictionaries(tokens, st.sampled_from([-100.0, -1.5, 3.0, 100.0]), max_size=4).map(
            lambda biases: tuple(biases.items())
        ),
    ),
    st.lists(tokens, max_size=20, unique=True),
    st.floats(0, 1, exclude_max=True, width=32),
    st.dictionaries(tokens, st.integers(1, 9), max_size=20),
)


@given(st.lists(draws, min_size=1, max_size=6), st.integers(0, 1000))
def test_a_draw_lies_where_transformers_puts_its_probability(rows: list[Draw], seed: int) -> None:
    logits = torch.randn(len(rows), VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3
    for row, (chosen, draw) in enumerate(zip(sample(logits, rows).tolist(), rows, strict=True)):
        expected = reference(logits[row], draw)
        assert expected[chosen] > 0
        order = torch.argsort(expected, descending=True)
        before = float(expected[order].cumsum(0)[order.tolist().index(chosen)])
        assert before >= draw.uniform - 1e-3
        assert before - float(expected[chosen]) <= draw.uniform + 1e-3


@given(st.lists(draws, min_size=2, max_size=6))
def test_the_rest_of_the_batch_changes_nothing(rows: list[Draw]) -> None:
    logits = torch.randn(len(rows), VOCABULARY, generator=torch.Generator().manual_seed(1)) * 3
    alone = [int(sample(logits[row : row + 1], [draw])) for row, draw in enumerate(rows)]
    assert sample(logits, rows).tolist() == alone


def test_nuclei_of_all_widths_are_drawn_from_together_as_they_are_alone() -> None:
    vocabulary = 6000
    sharpness = torch.tensor([8.0, 1.5, 0.5, 0.2])[:, None]
    logits = torch.randn(4, vocabulary, generator=torch.Generator().manual_seed(1)) * sharpness
    rows = [
        Draw(Sampling(max_tokens=1, temperature=1.0, top_p=0.9, top_k=top_k), (), uniform)
        for uniform, top_k in ((0.5, 0), (0.9, 0), (0.99, 5000), (0.99, 0))
    ]
    nuclei = [int((reference(logits[row], draw) > 0).sum()) for row, draw in enumerate(rows)]
    assert [sum(size > width for width in (256, 4096)) for size in nuclei] == [0, 1, 2, 2]
    together = sample(logits, rows).tolist()
    for row, (chosen, draw) in enumerate(zip(together, rows, strict=True)):
        assert chosen == int(sample(logits[row : row + 1], [draw]))
        expected = reference(logits[row], draw)
        order = torch.argsort(expected, descending=True)
        before = float(expected[order].cumsum(0)[order.tolist().index(chosen)])
        assert before - float(expected[chosen]) - 1e-3 <= draw.uniform <= before + 1e-3


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.randn(3, VOCABULARY)
    greedy = Draw(Sampling(max_tokens=1, temperature=0), (), 0.9)
    assert sample(logits, [greedy] * 3).tolist() == logits.argmax(-1).tolist()


def test_a_row_with_nan_or_infinity_is_reported_and_the_others_are_drawn() -> None:
    for fault in (float("nan"), float("inf")):
        for temperature in (0.0, 0.7):
            logits = torch.randn(3, VOCABULARY)
            logits[1, 7] = fault
            settings = Sampling(max_tokens=1, temperature=temperature)
            drawn = sample(logits, [Draw(settings, (), 0.5)] * 3).tolist()
            assert [token >= 0 for token in drawn] == [True, False, True]
            assert drawn[1] == -1
