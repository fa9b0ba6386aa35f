"""Deleting by age: in small steps, and never because a clock jumped."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.dialogue.housekeeping import Housekeeping, SteadyClock
from glmbot.store.base import Store

DAY, YEAR = 86400.0, 365 * 86400.0


class Clocks:
    def __init__(self) -> None:
        self.wall, self.monotonic = 1e9, 50.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def steady(clocks: Clocks) -> SteadyClock:
    return SteadyClock(lambda: clocks.wall, lambda: clocks.monotonic)


@given(st.sampled_from([YEAR, -DAY, 3600.0, -3600.0]), st.floats(1, DAY - 60))
def test_a_jump_that_is_undone_within_a_day_was_none(jump: float, lasts: float) -> None:
    clocks = Clocks()
    clock = steady(clocks)
    clocks.wall += jump
    clock.now()
    clocks.pass_(lasts)
    assert clock.now() == pytest.approx(1e9 + lasts)
    clocks.wall -= jump
    assert clock.now() == pytest.approx(1e9 + lasts)


def test_a_jump_that_stays_is_believed_after_a_day() -> None:
    clocks = Clocks()
    clock = steady(clocks)
    clocks.wall += YEAR
    clock.now()
    clocks.pass_(DAY + 1)
    assert clock.now() == pytest.approx(clocks.wall)


@given(st.lists(st.floats(-200, 200), max_size=30))
def test_small_corrections_are_followed(corrections: list[float]) -> None:
    clocks = Clocks()
    clock = steady(clocks)
    for correction in corrections:
        clocks.wall += correction
        clocks.pass_(20)
        assert clock.now() == pytest.approx(clocks.wall)


async def test_the_store_is_tidied_while_the_bot_runs(sqlite_store: Store) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Housekeeping(sqlite_store, lambda: 1e9, sleep).run()
    assert pauses == [20.0] * 3
