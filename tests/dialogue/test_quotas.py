"""Limits an hour: never more than allowed in any hour, and the wait that is told is right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glmbot.dialogue.quotas import Quotas

times = st.lists(st.floats(0, 20_000), max_size=80).map(sorted)


@given(times, st.integers(1, 10))
def test_no_hour_ever_holds_more_than_the_limit(at: list[float], limit: int) -> None:
    quotas = Quotas()
    taken = [now for now in at if quotas.take({"ann": limit}, now) == 0]
    for start in taken:
        assert sum(start <= now < start + 3600 for now in taken) <= limit


@given(times, st.integers(1, 10))
def test_who_waits_as_long_as_told_is_let_through(at: list[float], limit: int) -> None:
    quotas = Quotas()
    for now in at:
        wait = quotas.take({"ann": limit}, now)
        if wait:
            assert quotas.take({"ann": limit}, now + wait * 1.000001 + 1e-6) == 0
            return


def test_a_question_counts_for_its_person_and_its_chat_or_for_neither() -> None:
    quotas = Quotas()
    assert quotas.take({"ann": 0, "chat": 1}, 0) == 0
    assert quotas.take({"bob": 5, "chat": 1}, 10) == 3590
    assert quotas.used("bob", 10) == 0
    assert quotas.used("ann", 10) == 1
