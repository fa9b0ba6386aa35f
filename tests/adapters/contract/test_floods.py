"""Many people write at once, to a platform whose laws are as they are, and one chat is throttled: nobody waits for it.

Clocks jump to the next moment at which something happens, so minutes pass in a second.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from adapters.contract.drivers import DRIVERS, USER, Driver
from adapters.scripted import ScriptedEngine
from adapters.waiting import letters
from glmbot.engine.base import EngineStats
from glmbot.store.sqlite import SqliteStore
from virtual_time import run_in_virtual_time

PEOPLE = range(USER, USER + 7)
IN_GROUP = PEOPLE[:3]
HELD_S = 240.0
_NO_LIMITS = {"pending_per_user": 100, "pending_per_source": 100}
_LONGEST_S = 900.0
_LOOKS_EVERY_S = 2.0


def answer_to(prompt: str) -> str:
    """It tells which question it answers, in two paragraphs."""
    name = re.findall(r"question\w+", prompt)[-1]
    return f"Answer to {name} begins.\n\nAnswer to {name} ends."


class Roomy(ScriptedEngine):
    """Strangers on a page, who are here from one address, may fill half of its queue."""

    def stats(self) -> EngineStats:
        return replace(super().stats(), queue_limit=100)


async def until(holds: Callable[[], object], what: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not holds():
        assert loop.time() - began < _LONGEST_S, f"still not after {_LONGEST_S:.0f} s: {what()}"
        await asyncio.sleep(_LOOKS_EVERY_S)


def asked_by(user: int) -> list[str]:
    return [f"question{number}by{user}end" for number in (1, 2)]


class Flood:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._group = "groups" not in driver.cannot

    async def say_all(self) -> None:
        for number in range(2):
            for user in PEOPLE:
                await self._driver.say(asked_by(user)[number], user=user)
            if self._group and number == 0:
                for user in IN_GROUP:
                    await self._driver.say_in_group(f"question3by{user}end", mention=True, user=user)

    def has_all(self, user: int) -> bool:
        return letters("".join(self._driver.seen(user))) == letters("".join(map(answer_to, asked_by(user))))

    def group_has_all(self) -> bool:
        if not self._group:
            return True
        seen = letters("".join(self._driver.seen_in_group()))
        for user in IN_GROUP:
            begins, ends = map(letters, answer_to(f"question3by{user}end").split("\n\n"))
            if seen.count(begins) != 1 or not seen.index(begins) < seen.find(ends) == seen.rfind(ends):
                return False
        return True

    def shown(self) -> object:
        seen = {user: [*self._driver.seen(user)] for user in PEOPLE if not self.has_all(user)}
        return seen | ({"group": [*self._driver.seen_in_group()]} if not self.group_has_all() else {})


async def flooded(driver: Driver, patch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    engine = Roomy(answer_to, steps=4, step_s=0.5)
    store = SqliteStore(Path(":memory:"))
    await store.open()
    async with driver.platform():
        module = sys.modules[type(driver.server).__module__]
        if hasattr(module, "time"):
            patch.setattr(module, "time", SimpleNamespace(**{**vars(time), "monotonic": loop.time}))
        async with driver.bot(engine, store, **_NO_LIMITS, **driver.usual):
            flood, began, throttled = Flood(driver), loop.time(), "floods" not in driver.cannot
            if throttled:
                driver.hold(HELD_S)
            await flood.say_all()
            others = PEOPLE[1:] if throttled else PEOPLE
            await until(lambda: all(map(flood.has_all, others)) and flood.group_has_all(), flood.shown)
            assert not throttled or loop.time() - began < HELD_S, "they waited for the chat that is throttled"
            await until(lambda: flood.has_all(USER), flood.shown)
            # What comes late comes twice.
            await asyncio.sleep(60)
            assert await store.unfinished(driver.platform_name) == []
            assert all(map(flood.has_all, PEOPLE)), flood.shown()
            assert flood.group_has_all(), flood.shown()
    await store.close()
    assert driver.impatience == []


# A second bot of a platform writes as the first does.
THOSE = [each for each in DRIVERS if "people" not in each.cannot and "." not in each.name]


@pytest.mark.parametrize("driver", [each() for each in THOSE], ids=[each.name for each in THOSE])
def test_in_a_flood_every_answer_comes_whole_and_once_and_a_throttled_chat_holds_up_no_other(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    driver.lawful = True
    run_in_virtual_time(flooded(driver, monkeypatch))
