"""What the card draws is what the host draws, alone and beside others."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glmbot.engine.base import Sampling
from glmbot.engine.card.buckets import SPARE, padding
from glmbot.engine.card.drawing import UNDRAWN, CardDrawing, kind_of
from glmbot.engine.card.fields import Fields, Row
from glmbot.engine.sampling import Draw, sample

_VOCABULARY = 600
_CPU = torch.device("cpu")

draws = st.builds(
    lambda temperature, top_k, top_p, min_p, penalty, uniform, seen: Draw(
        Sampling(
            max_tokens=9,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=penalty,
        ),
        seen,
        uniform,
    ),
    st.sampled_from([0.0, 0.3, 0.95, 2.0]),
    st.sampled_from([0, 1, 5, 50, 400]),
    st.sampled_from([0.1, 0.7, 0.97, 1.0]),
    st.sampled_from([0.0, 0.05]),
    st.sampled_from([1.0, 1.2]),
    st.integers(0, 2**20 - 1).map(lambda number: number / 2**20),
    st.frozensets(st.integers(0, _VOCABULARY - 1), max_size=8),
)


def _drawn(logits: torch.Tensor, rows: list[Draw]) -> list[int]:
    fields = Fields(1, _CPU, _VOCABULARY)
    drawing = CardDrawing(fields, _VOCABULARY, _CPU)
    for slot, each in enumerate(rows):
        drawing.mark(slot, list(each.seen), anew=True)
    laid = padding(SPARE, 1, 0)
    fields.send(laid, [Row(each, slot) for slot, each in enumerate(rows)], drawing.spare_slot)
    drawing.draw(kind_of(rows), logits)
    return drawing.drawn[: len(rows)].tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(draws, min_size=1, max_size=6), st.integers(0, 2**31))
def test_the_card_draws_what_the_host_draws(rows: list[Draw], seed: int) -> None:
    logits = 4 * torch.randn(len(rows), _VOCABULARY, generator=torch.Generator().manual_seed(seed))
    together = _drawn(logits, rows)
    for mine, theirs in zip(together, sample(logits.clone(), rows).tolist(), strict=True):
        assert mine in (theirs, UNDRAWN)
    alone = [_drawn(logits[row : row + 1], [rows[row]])[0] for row in range(len(rows))]
    for one, many in zip(alone, together, strict=True):
        assert one == many or UNDRAWN in (one, many)


def test_a_row_of_nan_is_said_and_disturbs_nobody() -> None:
    logits = torch.randn(3, _VOCABULARY, generator=torch.Generator().manual_seed(1))
    logits[1, 7] = float("nan")
    rows = [Draw(Sampling(max_tokens=9, temperature=0.0), (), 0.5)] * 3
    found = _drawn(logits, rows)
    assert found[1] == -1
    assert found[::2] == logits[::2].argmax(-1).tolist()
