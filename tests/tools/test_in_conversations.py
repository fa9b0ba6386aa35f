"""The built-in tools as a conversation has them called: what calculates at once, what reads when it was allowed."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from dialogue.test_tools import presses
from dialogue.tool_world import ANN, CallingEngine, Scene, called, said
from glmbot.content import ToolResult, parts_of
from glmbot.http.address_guard import AddressGuard
from glmbot.store.base import Store
from glmbot_tools import calculator
from glmbot_tools.fetching import Fetcher
from glmbot_tools.pages import read_tool
from glmbot_tools.reminder_tools import reminder_tools
from glmbot_tools.reminders import Reminders
from glmbot_tools.worker import Workers


def results(engine: CallingEngine) -> list[str]:
    return [part.text for part in parts_of(engine.asked[-1].said, ToolResult)]


async def test_a_calculation_needs_nobody_and_its_failure_is_told_the_model(sqlite_store: Store) -> None:
    engine = CallingEngine(
        called(("calculate", {"expression": "6 * 7"}), ("calculate", {"expression": "1 / 0"})), "42."
    )
    scene = Scene(sqlite_store, engine, [calculator.TOOL])
    assert (await scene.ask(said("6 * 7?"))).text == "42."
    assert results(engine) == ["42", "this divides by zero"]


async def test_a_page_of_this_network_is_not_read_even_where_it_was_allowed(sqlite_store: Store) -> None:
    engine = CallingEngine(called(("web_read", {"url": "http://169.254.169.254/latest/"})), "I can't.")
    scene = Scene(sqlite_store, engine, [read_tool(Fetcher(AddressGuard()), Workers(), 1000, 5)])
    message = said("read it")
    await scene.ask(message, presses(scene, message, "Once"))
    (told,) = results(engine)
    assert "not public" in told


async def test_a_reminder_is_set_when_the_asker_allows_it_and_said_when_it_is_due(
    sqlite_store: Store,
) -> None:
    now = [datetime(2026, 11, 27, 12, 0, tzinfo=UTC)]
    reminders = Reminders(logging.getLogger("test"), per_person=3, per_chat=3, clock=lambda: now[0])
    engine = CallingEngine(called(("remind_me", {"text": "tea", "in_minutes": 20})), "Done.")
    scene = Scene(sqlite_store, engine, list(reminder_tools(reminders, lambda: now[0])))
    bot = scene.dialogue._powers
    refused = said("remind me")
    await scene.ask(refused, presses(scene, refused, "No"))
    assert await reminders.of(bot, ANN) == []
    message = said("remind me")
    await scene.ask(message, presses(scene, message, "Once"))
    (told,) = results(engine)
    assert "is set for 2026-11-27 12:20 (UTC)" in told
    now[0] += timedelta(minutes=20)
    await reminders.say_due(bot)
    assert [entry.message.text for entry in await sqlite_store.unfinished("telegram")][-1] == "⏰ tea"
