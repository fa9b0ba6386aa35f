"""Limits by what nobody can choose: a network address or a token, for the page's visitors and for programs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from conftest import make_dialogue, until
from dialogue.scripted_engine import ScriptedEngine
from glmbot.completions import Completion
from glmbot.dialogue.manager import DialogueManager
from glmbot.errors import LimitReached
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message, Reply, ReplyState, Role
from glmbot.store.base import Store
from glmbot.store.message_json import message_from_json, message_to_json

PROGRAM = Completion([("user", "hi")], UserKey("web", "0"), max_tokens=4, temperature=0.0, source="here")
_updates = iter(range(1, 10**9))


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


def visit(number: int, *, source: str = "here", text: str = "hello") -> Message:
    """A question of the page's visitor of that number, who can have as many numbers as they like."""
    return Message(
        str(next(_updates)),
        ConversationKey("web", str(number)),
        UserKey("web", str(number)),
        text,
        vouched=Role.USER,
        source=source,
    )


async def answer(dialogue: DialogueManager, asked: Message) -> Reply:
    assert await dialogue.accept(asked, here=True)
    last = Reply("", ReplyState.QUEUED)
    async with aclosing(dialogue.respond(asked)) as replies:
        async for last in replies:
            pass
    await dialogue.delivered(asked)
    return last


async def complete(dialogue: DialogueManager, request: Completion = PROGRAM) -> Reply:
    async with aclosing(dialogue.complete(request)) as replies:
        return [reply async for reply in replies][-1]


def test_a_source_is_kept_where_earlier_releases_can_read_it() -> None:
    known_before = set(message_to_json(replace(visit(1), source="")))
    asked = replace(visit(1), origin={"stream": "s"})
    fields = message_to_json(asked)
    assert set(fields) == known_before
    assert "source" not in known_before
    assert message_from_json(fields) == asked
    assert message_from_json(message_to_json(replace(asked, source=""))).source == ""


async def test_whoever_has_many_names_has_one_limit(engine: ScriptedEngine, store: Store) -> None:
    now = [1000.0]
    dialogue = make_dialogue(engine, store, source_per_hour=3, clock=lambda: now[0])
    for number in range(1, 4):
        assert (await answer(dialogue, visit(number))).state is ReplyState.FINAL
    assert "try again in 60 min" in (await answer(dialogue, visit(4))).notice
    with pytest.raises(LimitReached) as refused:
        await complete(dialogue)
    assert refused.value.wait_s == pytest.approx(3600, abs=1)  # pyright: ignore[reportUnknownMemberType]
    assert "try again in 3600 s" in str(refused.value)
    assert (await answer(dialogue, visit(5, source="elsewhere"))).state is ReplyState.FINAL
    assert (await complete(dialogue, replace(PROGRAM, source="elsewhere"))).state is ReplyState.FINAL
    now[0] += 3601
    assert (await answer(dialogue, visit(4))).state is ReplyState.FINAL


async def test_nobody_uses_up_the_hour_of_all_alone(engine: ScriptedEngine, store: Store) -> None:
    dialogue = make_dialogue(engine, store, total_per_hour=6)
    for _ in range(3):
        await complete(dialogue)
    with pytest.raises(LimitReached):
        await complete(dialogue)
    assert (await answer(dialogue, visit(1, source="elsewhere"))).state is ReplyState.FINAL


async def test_programs_obey_the_limit_of_a_person_each_source_its_own(
    engine: ScriptedEngine, store: Store
) -> None:
    dialogue = make_dialogue(engine, store, user_per_hour=1)
    for source in ("here", "elsewhere"):
        await complete(dialogue, replace(PROGRAM, source=source))
        with pytest.raises(LimitReached):
            await complete(dialogue, replace(PROGRAM, source=source))


async def test_only_so_many_new_people_come_from_one_place_and_known_ones_go_on(
    engine: ScriptedEngine, store: Store
) -> None:
    now = [1000.0]
    dialogue = make_dialogue(engine, store, strangers_per_hour=2, clock=lambda: now[0])
    known = visit(1)
    assert (await answer(dialogue, known)).state is ReplyState.FINAL
    now[0] += 3601
    for number in (2, 3):
        assert (await answer(dialogue, visit(number))).state is ReplyState.FINAL
    for _ in range(2):
        assert "try again in 60 min" in (await answer(dialogue, visit(4))).notice
    assert (await answer(dialogue, visit(2))).state is ReplyState.FINAL
    assert (await answer(dialogue, visit(1))).state is ReplyState.FINAL
    assert (await answer(dialogue, visit(5, source="elsewhere"))).state is ReplyState.FINAL
    await store.forget(UserKey("web", "2"))
    assert "try again" in (await answer(dialogue, visit(6))).notice


async def test_a_program_fills_only_its_half_of_the_line(engine: ScriptedEngine, store: Store) -> None:
    dialogue = make_dialogue(engine, store, pending_per_source=2)
    engine.holds = asyncio.Event()
    running = [asyncio.create_task(complete(dialogue)) for _ in range(2)]
    await until(lambda: engine.running == 2)
    with pytest.raises(LimitReached, match="2 requests") as refused:
        await complete(dialogue)
    assert refused.value.wait_s > 0
    assert "from where you are: 2." in (await answer(dialogue, visit(1))).notice
    others = [asyncio.create_task(answer(dialogue, visit(number, source="there"))) for number in (2, 3)]
    await until(lambda: engine.running == 4)
    engine.holds.set()
    assert all(reply.text == "answer" for reply in await asyncio.gather(*running, *others))
    assert (await complete(dialogue)).state is ReplyState.FINAL


async def test_a_program_without_limits_needs_no_store(
    engine: ScriptedEngine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogue = make_dialogue(engine, store)
    monkeypatch.setattr(store, "count", None)
    assert (await complete(dialogue)).state is ReplyState.FINAL
