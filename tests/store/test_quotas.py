"""Limits an hour: never more than allowed in any hour, each question once, and the wait that is told is right."""

from __future__ import annotations

from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from glmbot.keys import UserKey
from glmbot.store.base import Store

times = st.lists(st.floats(0, 20_000), max_size=40).map(sorted)
_owners = count()


@settings(max_examples=25)
@given(times, st.integers(1, 10))
async def test_no_hour_ever_holds_more_than_the_limit(store: Store, at: list[float], limit: int) -> None:
    owner = f"telegram:{next(_owners)}"
    taken = [now for number, now in enumerate(at) if await store.count(str(number), {owner: limit}, now) == 0]
    for start in taken:
        assert sum(start <= now < start + 3600 for now in taken) <= limit


@settings(max_examples=25)
@given(times, st.integers(1, 10))
async def test_who_waits_as_long_as_told_is_let_through(store: Store, at: list[float], limit: int) -> None:
    owner = f"telegram:{next(_owners)}"
    for number, now in enumerate(at):
        wait = await store.count(str(number), {owner: limit}, now)
        if wait:
            assert await store.count("later", {owner: limit}, now + wait * 1.000001 + 1e-6) == 0
            return


async def test_a_question_counts_for_its_person_and_its_chat_or_for_neither(store: Store) -> None:
    assert await store.count("1", {"ann": 0, "chat": 1}, 0) == 0
    assert await store.count("2", {"bob": 5, "chat": 1}, 10) == 3590
    assert await store.counted("bob", 10) == 0
    assert await store.counted("ann", 10) == 1
    assert await store.counted("ann", 3600) == 0


async def test_a_question_that_is_tried_again_counts_once(store: Store) -> None:
    for _ in range(3):
        assert await store.count("1", {"ann": 1, "all": 5}, 10) == 0
    assert await store.counted("all", 10) == 1
    assert await store.count("2", {"ann": 1}, 11) > 0


async def test_who_is_forgotten_is_not_counted_any_more(store: Store) -> None:
    ann = UserKey("telegram", "11")
    await store.count("1", {str(ann): 5}, 10)
    await store.forget(ann)
    assert await store.counted(str(ann), 10) == 0
