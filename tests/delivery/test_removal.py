"""What of an unwanted answer is taken away, and what is done about what can't be."""

from __future__ import annotations

import asyncio

import pytest

from glmbot.delivery.outlet import Flooded, Gone, Missing, NotWritten, Unreachable
from glmbot.delivery.pace import Pace
from glmbot.delivery.removal import remove_each
from glmbot.errors import AdapterError
from virtual_time import run_in_virtual_time


class _Platform:
    def __init__(self, *refusals: Exception) -> None:
        self.refusals = [*refusals]
        self.removed: list[str] = []
        self.asked: list[float] = []

    async def remove(self, message: str) -> None:
        self.asked.append(asyncio.get_running_loop().time())
        if self.refusals:
            raise self.refusals.pop(0)
        self.removed.append(message)


def remove(platform: _Platform, *messages: str) -> None:
    run_in_virtual_time(remove_each("Test", Pace(1.0), messages, platform.remove))


def test_a_flood_answer_is_waited_out_and_holds_the_chat() -> None:
    platform = _Platform(Flooded(30.0))
    remove(platform, "1", "2")
    assert platform.removed == ["1", "2"]
    assert platform.asked[1] - platform.asked[0] >= 30


def test_a_server_that_is_out_of_order_is_asked_again() -> None:
    platform = _Platform(Unreachable("it is away"), Unreachable("it is away"))
    remove(platform, "1")
    assert platform.removed == ["1"]


def test_who_has_much_taken_away_holds_up_nobody_s_answer() -> None:
    async def main() -> tuple[float, float]:
        everybody, platform = Pace(0.1), _Platform()
        here, elsewhere = (Pace(1.0, within=everybody) for _ in range(2))
        numbers = [*map(str, range(10))]
        removing = [
            asyncio.create_task(remove_each("Test", here, numbers, platform.remove)) for _ in range(100)
        ]
        await asyncio.sleep(1)
        waits: list[float] = []
        for pace in (elsewhere, here):
            begun = asyncio.get_running_loop().time()
            await pace.turn()
            waits.append(asyncio.get_running_loop().time() - begun)
        await asyncio.wait(removing)
        assert len(platform.removed) == 1000
        return waits[0], waits[1]

    in_another_chat, in_this = run_in_virtual_time(main())
    assert in_another_chat < 1
    assert in_this < 4


@pytest.mark.parametrize("refusal", [Missing("gone"), Gone("left"), AdapterError("no token")])
def test_one_that_is_refused_stays_and_keeps_no_other(refusal: Exception) -> None:
    platform = _Platform(refusal)
    remove(platform, "1", "2")
    assert platform.removed == ["2"]


@pytest.mark.parametrize("refusal", [Flooded(1.0), Unreachable("it is away")])
def test_nothing_is_tried_without_end(refusal: NotWritten) -> None:
    platform = _Platform(*[refusal] * 100)
    remove(platform, "1")
    assert platform.removed == []
    assert 1 < len(platform.asked) < 10
