"""The waits that people are told: by how long others took while anything ran, and never a guess out of idle time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glmbot.engine.counters import Counters


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def serve(counters: Counters, clock: Clock, answers: int, *, seconds: float, tokens: int = 100) -> None:
    """Answers one after another."""
    counters.working(True)
    for _ in range(answers):
        for _ in range(tokens):
            clock.now += seconds / tokens
            counters.generated += 1
            counters.step(1, 1)
        counters.finish()
    counters.working(False)


def test_nothing_is_told_before_anything_is_known() -> None:
    clock = Clock()
    counters = Counters(clock)
    assert counters.expected_wait(5) is None
    serve(counters, clock, 1, seconds=2)
    assert counters.expected_wait(5) is None


@given(idle=st.lists(st.floats(0, 86_400), min_size=1, max_size=6), waiting=st.integers(0, 64))
def test_time_without_work_does_not_count(idle: list[float], waiting: int) -> None:
    clock = Clock()
    counters = Counters(clock)
    for pause in idle:
        serve(counters, clock, 3, seconds=2)
        clock.now += pause
    expected = counters.expected_wait(waiting)
    assert expected is not None
    assert 0.5 * 2 * (waiting + 1) <= expected <= 2 * 2 * (waiting + 1)


def test_the_speed_of_a_full_batch_counts_once_it_runs() -> None:
    """One person at a time before, sixteen now: the line moves faster than the last answers did."""
    clock = Clock()
    counters = Counters(clock)
    serve(counters, clock, 10, seconds=10)
    clock.now += 3600
    counters.working(True)
    for _ in range(50):
        clock.now += 0.2
        counters.generated += 16
        counters.step(16, 16)
    expected = counters.expected_wait(63)
    assert expected is not None
    assert 50 <= expected <= 120, "64 answers of 100 tokens at 80 tokens a second"


def test_no_wait_is_longer_than_an_hour() -> None:
    clock = Clock()
    counters = Counters(clock)
    serve(counters, clock, 3, seconds=600)
    assert counters.expected_wait(500) == 3600
