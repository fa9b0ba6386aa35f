"""What /readyz is told: the truth, soon, and without asking the store more than it can bear."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from app.test_deploy import STATS
from glmbot.background import Troubles
from glmbot.dialogue.readiness import Readiness
from glmbot.engine.base import EngineStats
from glmbot.engine.named import ModelState
from glmbot.errors import StoreError
from virtual_time import run_in_virtual_time


@dataclass
class _Parts:
    """An engine and a store that answer as they are told."""

    engine: EngineStats = STATS
    store_says: Exception | None = None
    store_hangs: bool = False
    asked: int = 0
    troubles: Troubles = field(default_factory=Troubles)

    def states(self) -> list[ModelState]:
        return [ModelState("m", True, self.engine, (), 0, None, "")]

    async def check(self) -> None:
        self.asked += 1
        if self.store_hangs:
            await asyncio.Event().wait()
        if self.store_says is not None:
            raise self.store_says

    def readiness(self) -> Readiness:
        parts: Any = self
        return Readiness(parts, parts, self.troubles, asyncio.get_running_loop().time)


def test_a_dead_thread_an_unreachable_server_and_a_full_disk_are_named() -> None:
    async def main() -> None:
        parts = _Parts()
        readiness = parts.readiness()
        assert await readiness.obstacles() == []
        parts.engine = replace(STATS, alive=False)
        parts.store_says = StoreError("/var/lib/glmbot/s.sqlite3: database or disk is full")
        await asyncio.sleep(1.1)
        found = [str(each) for each in await readiness.obstacles()]
        assert found[0].startswith("engine: the model's thread has ended")
        assert found[1] == "store: s.sqlite3: database or disk is full"
        parts.engine, parts.store_says = replace(STATS, servers=(("a", False), ("b", False))), None
        await asyncio.sleep(1.1)
        assert [str(each) for each in await readiness.obstacles()] == ["engine: no model server answers"]
        parts.engine = replace(STATS, servers=(("a", False), ("b", True)))
        assert await readiness.obstacles() == []

    run_in_virtual_time(main())


def test_a_store_that_hangs_is_named_and_not_asked_again_and_again() -> None:
    async def main() -> None:
        parts = _Parts(store_hangs=True)
        readiness = parts.readiness()
        loop = asyncio.get_running_loop()
        for _ in range(5):
            began = loop.time()
            found = await readiness.obstacles()
            assert loop.time() - began <= 2
            assert "store: it has not answered for" in str(found[0])
        assert parts.asked == 1

    run_in_virtual_time(main())


def test_a_thousand_probes_in_a_second_ask_the_store_once() -> None:
    async def main() -> None:
        parts = _Parts()
        readiness = parts.readiness()
        await asyncio.gather(*(readiness.obstacles() for _ in range(1000)))
        for _ in range(9):
            await asyncio.sleep(0.1)
            await readiness.obstacles()
        assert parts.asked == 1

    run_in_virtual_time(main())


def test_a_store_that_has_just_failed_somebody_is_asked_again_at_once() -> None:
    async def main() -> None:
        parts = _Parts()
        readiness = parts.readiness()
        assert await readiness.obstacles() == []
        parts.store_says = StoreError("it was deleted")
        assert await readiness.obstacles() == [], "within a second"
        readiness.doubt()
        assert [str(each) for each in await readiness.obstacles()] == ["store: it was deleted"]

    run_in_virtual_time(main())


def test_a_trouble_that_lasts_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        parts = _Parts(store_says=StoreError("/a/b/c.sqlite3: another glmbot answers from this file"))
        readiness = parts.readiness()
        for _ in range(20):
            await readiness.obstacles()
            await asyncio.sleep(1.1)

    run_in_virtual_time(main())
    assert caplog.text.count("another glmbot") == 1
