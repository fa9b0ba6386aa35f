"""A loop or a model thread that stands still is named, with its place in the code and nobody's words."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import pytest

from app.test_deploy import STATS
from conftest import until
from glmbot.background import Troubles
from glmbot.engine.base import EngineStats
from glmbot.watchdog import Watchdog, stack_of


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _watching(stats: EngineStats = STATS) -> tuple[Watchdog, Troubles, _Clock, list[EngineStats]]:
    troubles, clock, told = Troubles(), _Clock(), [stats]
    return Watchdog(lambda: {"m": told[0]}, troubles, clock=clock), troubles, clock, told


def test_a_loop_that_stands_is_told_of_once_with_its_stack_and_remembered_for_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dog, troubles, clock, _ = _watching()
    dog._loop.thread = threading.get_ident()
    for _ in range(4):
        clock.now += 0.5
        dog.look()
        dog.beat()
    assert troubles.now == []
    for _ in range(10):
        clock.now += 0.5
        dog.look()
    (trouble,) = troubles.now
    assert (trouble.part, trouble.partial) == ("event loop", True)
    assert caplog.text.count("has stood still") == 1
    assert "app/test_watchdog.py" in caplog.text
    dog.beat()
    assert "stood still for 4.5 s" in caplog.text
    assert "stood still for" in troubles.now[0].words
    clock.now += 0.5
    dog.beat()
    assert len(troubles.now) == 1
    for _ in range(125):
        clock.now += 0.5
        dog.beat()
    assert troubles.now == []


def test_a_gap_that_the_thread_could_not_see_is_told_of_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    dog, troubles, clock, _ = _watching()
    clock.now += 9
    dog.beat()
    assert "event loop stood still for 8.5 s (what it did is not known" in caplog.text
    assert troubles.now[0].partial


def test_a_model_thread_that_stands_is_named_and_after_a_minute_nobody_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dog, troubles, clock, told = _watching(replace(STATS, step_s=1.9, thread=threading.get_ident()))

    def pass_time() -> None:
        clock.now += 0.5
        told[0] = replace(told[0], step_s=told[0].step_s + 0.5)
        dog.look()
        dog.beat()

    dog.look()
    assert troubles.now == []
    pass_time()
    assert str(troubles.now[0]) == "model thread: has stood still for 2 s"
    assert troubles.now[0].partial
    for _ in range(120):
        pass_time()
    assert not troubles.now[0].partial
    assert caplog.text.count("model thread has stood still") == 1
    told[0] = replace(STATS, step_s=0.0)
    dog.look()
    assert "model thread stood still for" in caplog.text
    assert troubles.now[0].partial


def test_waiting_for_work_and_switching_are_no_standing() -> None:
    dog, troubles, clock, told = _watching()
    for stats in (told[0], replace(STATS, step_s=20.0, switching=0.5)):
        told[0] = stats
        for _ in range(40):
            clock.now += 0.5
            dog.look()
            dog.beat()
        assert troubles.now == []


async def test_a_real_loop_is_seen_from_another_thread(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot.watchdog._STANDS_AFTER_S", 0.2)
    monkeypatch.setattr("glmbot.watchdog._LOOKS_EVERY_S", 0.05)
    troubles = Troubles()
    running = asyncio.create_task(Watchdog(lambda: {"m": STATS}, troubles).run())
    await asyncio.sleep(0.2)

    def answers_a_secret_question() -> None:
        while "has stood still" not in caplog.text:
            time.sleep(0.01)

    answers_a_secret_question()
    await until(lambda: "loop stood still for" in caplog.text)
    assert "answers_a_secret_question < " in caplog.text
    running.cancel()


def test_a_stack_of_no_thread_is_no_fault() -> None:
    assert stack_of(None) == stack_of(1) == "an unknown place"
