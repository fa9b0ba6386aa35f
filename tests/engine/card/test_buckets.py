"""A step in a bucket: padding is nobody's, and touches nobody's cache."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glmbot.engine.card.buckets import BUCKETS, SPARE, bucket_of, lay_out, padding
from glmbot.engine.step import Step
from glmbot.models.positions import CausalPositions

_SPARE_AT = 100_000


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 3)), min_size=1, max_size=40))
def test_rows_of_padding_write_and_read_entries_of_their_own(people: list[tuple[int, int]]) -> None:
    step = Step(CausalPositions(), 0)
    for number, (length, guesses) in enumerate(people):
        tokens = list(range(length + guesses))
        step.add(
            tokens, length, start=length - 1, end=length + guesses, place=300 * number, drawing=1 + guesses
        )
    laid = lay_out(step, _SPARE_AT)
    rows = len(step.tokens)
    if rows > BUCKETS[-1]:
        assert laid is None
        return
    assert laid is not None
    assert laid.rows == rows
    assert laid.bucket == bucket_of(rows)
    assert list(laid.places[:rows]) == step.places
    assert list(laid.bases[:rows]) == step.bases()
    assert list(laid.counts[:rows]) == step.counts()
    assert len(set(laid.places)) == laid.bucket, "no entry is written twice"
    for place, base, count in list(zip(laid.places, laid.bases, laid.counts, strict=True))[rows:]:
        assert _SPARE_AT <= place < _SPARE_AT + SPARE
        assert (base, count) == (place, 1)


def test_a_prompt_is_in_no_bucket() -> None:
    step = Step(CausalPositions(), 0)
    step.add([1, 2, 3], 3, start=0, end=3, place=0, drawing=1)
    assert lay_out(step, _SPARE_AT) is None


def test_a_bucket_of_padding_alone_is_nobodys() -> None:
    for size in BUCKETS:
        laid = padding(size, 2, _SPARE_AT)
        assert (laid.rows, laid.bucket, len(laid.positions)) == (0, size, 2)
        assert list(laid.places) == list(laid.bases) == list(range(_SPARE_AT, _SPARE_AT + size))
