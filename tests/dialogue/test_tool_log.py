"""The log of tools: nobody pushes out what others did, and nothing of who was forgotten comes back."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import make_dialogue
from dialogue.tool_world import ANN, BOB, CallingEngine, Scene, called, said, tool
from glmbot.dialogue.tool_log import ToolLog, logged_calls, to_leave
from glmbot.dialogue.tool_rights import Right, ToolRights
from glmbot.dialogue.tool_settings import ToolSettings
from glmbot.errors import ClaimLost, StoreError
from glmbot.host import Call, Command, Nature, ToolUse
from glmbot.messages import Reply, ReplyState
from glmbot.notes import Note
from glmbot.plugins import load_plugins
from glmbot.registered import RegisteredCommand, Words
from glmbot.store import redis_notes, sqlite_notes
from glmbot.store.base import Store


async def test_who_calls_without_end_pushes_out_their_own_lines(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sqlite_notes, redis_notes):
        monkeypatch.setattr(module, "MOST_NOTES", 10)
    monkeypatch.setattr("glmbot.dialogue.tool_log.NOTES_AT_ONCE", 3)
    times = iter(range(1000))
    log = ToolLog(store, lambda: float(next(times)))
    by_ann, by_bob = said("look"), said("look", user=BOB)
    for message in (by_ann, by_bob):
        await store.accept(message, 0.0)
    for number in range(3):
        await log.add(by_bob, f"b{number}", "look", "{}", "done")
    for number in range(30):
        await log.add(by_ann, f"a{number}", "look", "{}", "done")
    kept = [line async for line in logged_calls(store)]
    assert [line.at for line in kept if line.user == str(BOB)] == [0, 1, 2]
    assert kept[-1].at == 32


@given(st.lists(st.sampled_from("abcd"), max_size=60), st.integers(0, 70))
def test_of_those_who_have_most_the_oldest_lines_leave(people: list[str], count: int) -> None:
    lines = [Note(f"{number:03}", "-", f"telegram:{who}") for number, who in enumerate(people)]
    leaving = to_leave(lines, count)
    assert len({line.name for line in leaving}) == len(leaving) == min(count, len(lines))
    left = Counter(line.user for line in lines if line not in leaving)
    for user in {line.user for line in leaving}:
        own = [line for line in lines if line.user == user]
        gone = [line for line in leaving if line.user == user]
        assert gone == own[: len(gone)]
        assert left[user] + 1 >= max(left.values(), default=0)


async def test_who_is_forgotten_during_a_call_leaves_nothing(store: Store) -> None:
    begun = asyncio.Event()

    async def remembers(use: ToolUse) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            # What it is at just then comes to its end.
            await asyncio.sleep(0.2)
            await use.bot.book("reminders").put(Note("tea", "Tea!", use.user))
        return ""

    scene = Scene(store, CallingEngine(called(("remember", {})), "ok"), [tool("remember", remembers)])
    asking = asyncio.create_task(scene.ask(said("remember it")))
    await begun.wait()
    await scene.dialogue._powers.forget(ANN)
    await asking
    assert await store.notes_of(ANN) == []
    assert [line async for line in logged_calls(store)] == []


@pytest.mark.parametrize("nature", [Nature.PURE, Nature.ACTS])
async def test_who_is_forgotten_by_another_process_during_a_call_leaves_nothing(
    store: Store, nature: Nature
) -> None:
    """Where the tool is at work, nobody has heard of it yet."""
    written: list[bool] = []

    async def remembers(use: ToolUse) -> str:
        await scene.bot()._powers.forget(ANN)
        try:
            await use.bot.book("reminders").put(Note("tea", "Tea!", use.user))
            written.append(True)
        except StoreError:
            written.append(False)
            raise
        return "It is remembered."

    rights = ToolSettings(rights=ToolRights({"remember": Right.ALLOW}))
    engine = CallingEngine(called(("remember", {})), "ok")
    scene = Scene(store, engine, [tool("remember", remembers, nature)], rights)
    with suppress(ClaimLost):
        await scene.ask(said("remember it"))
    assert written == [False]
    assert await store.notes_of(ANN) == []
    assert [line async for line in logged_calls(store)] == []


async def test_who_is_forgotten_by_another_process_during_a_command_leaves_nothing(store: Store) -> None:
    async def remembers(call: Call) -> Reply:
        await scene.bot()._powers.forget(ANN)
        await call.bot.book("reminders").put(Note("tea", "Tea!", str(call.message.user)))
        return Reply("", ReplyState.FINAL, "It is remembered.")

    scene = Scene(store, CallingEngine("ok"))
    registered = RegisteredCommand(Command("remember", remembers), "test", logging.getLogger("test"), Words())
    engine: Any = scene.engine
    bot = make_dialogue(engine, store, plugins=replace(load_plugins(), commands={"remember": registered}))
    with pytest.raises(ClaimLost):
        await scene.ask(said("/remember"), dialogue=bot)
    assert await store.notes_of(ANN) == []
