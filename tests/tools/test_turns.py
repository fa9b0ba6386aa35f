from __future__ import annotations

import asyncio

import pytest

from glmbot_tools.turns import Turns


async def test_whoever_fills_their_turn_with_what_is_slow_waits_alone() -> None:
    turns, begun, may_end = Turns(2), list[str](), asyncio.Event()

    async def slow(person: str) -> None:
        async with turns.turn(person):
            begun.append(person)
            await may_end.wait()

    tasks = [asyncio.create_task(slow("mallory")) for _ in range(5)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(slow("ann")))
    for _ in range(3):
        await asyncio.sleep(0)
    assert begun == ["mallory", "ann"]
    tasks[1].cancel()
    may_end.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert begun.count("mallory") == 4
    assert not turns._people


async def test_one_that_fails_leaves_its_place() -> None:
    turns = Turns(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            async with turns.turn("ann"):
                raise ValueError("broken")
    assert not turns._people
