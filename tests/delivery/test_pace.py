"""When a chat may be written to again."""

from __future__ import annotations

import asyncio

from glmbot.delivery.pace import Pace
from virtual_time import run_in_virtual_time


def test_a_flood_answer_that_comes_while_one_waits_for_its_turn_among_all_chats_is_heeded() -> None:
    async def main() -> float:
        pace = Pace(0.1, within=Pace(0.1, ready_at=5.0))
        writing = asyncio.create_task(pace.turn())
        await asyncio.sleep(1)
        pace.flooded(1.0, 30.0)
        await writing
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) >= 31
