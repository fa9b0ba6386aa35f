"""An answer that is stopped at the very moment at which something else ends it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import make_dialogue
from dialogue.scripted_engine import ScriptedEngine
from glmbot.dialogue.generation import _until_stopped
from glmbot.engine.base import Progress
from glmbot.errors import ClaimLost, QueueFull
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.base import Store


@pytest.mark.parametrize("ends", ["stopped", "claim lost", "gone away"])
async def test_an_engine_that_fails_just_then_leaves_nobodys_exception(ends: str) -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told["message"]))
    fails = asyncio.Event()

    async def generation() -> AsyncGenerator[Progress, None]:
        yield Progress("")
        await fails.wait()
        raise QueueFull(72, 36.0)

    def check() -> None:
        if ends == "claim lost" and fails.is_set():
            raise ClaimLost("it")

    ticket: Any = SimpleNamespace(stop=asyncio.Event(), check=check)
    async with aclosing(_until_stopped(generation(), ticket)) as steps:
        assert await anext(steps) == Progress("")
        step = asyncio.ensure_future(anext(steps))
        await asyncio.sleep(0)
        fails.set()
        if ends == "stopped":
            ticket.stop.set()
            assert await step is None
        elif ends == "claim lost":
            with pytest.raises(ClaimLost):
                await step
        else:
            # The generation has failed, and nobody has been told yet.
            await asyncio.sleep(0)
            step.cancel()
            with suppress(asyncio.CancelledError):
                await step
    del step
    gc.collect()
    assert complaints == []


async def test_a_claim_that_is_lost_right_before_its_turn_is_not_recorded_as_a_stop(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = ScriptedEngine()
    dialogue = make_dialogue(engine, sqlite_store)
    chat = ConversationKey("telegram", "7")
    message = Message("1", chat, UserKey("telegram", "7"), "why?", ref="1")
    await dialogue.accept(message)

    async def lost(_: Message) -> None:
        dialogue._lanes.lose(chat)

    monkeypatch.setattr(dialogue._inbox, "count_try", lost)
    with pytest.raises(ClaimLost):
        async for _ in dialogue.respond(message):
            pass
    assert await sqlite_store.answer(message) is None
