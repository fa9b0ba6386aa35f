"""Editing, branching, going on, system prompts of chats, limits and people, through the whole dialogue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import GREEDY, make_dialogue, until
from glmbot.config.names import installed_platforms
from glmbot.dialogue.access import Access
from glmbot.dialogue.manager import DialogueManager
from glmbot.dialogue.people import People
from glmbot.dialogue.reloaded import Reloaded
from glmbot.engine.base import Precision
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Addressed, ChatKind, Edit, Message, Press, Reply, ReplyState
from glmbot.store.base import Store
from held import held

ADMIN, ANN, EVE = UserKey("telegram", "1"), UserKey("telegram", "2"), UserKey("telegram", "3")
ACCESS = Access(admins={ADMIN}, users={ANN})
HOME = ConversationKey("telegram", "2")
_updates = iter(range(1, 10**9))


def message(text: str, user: UserKey = ANN, **changes: object) -> Message:
    number = str(next(_updates))
    made = Message(number, ConversationKey(user.platform, user.id), user, text, ref=f"q{number}")
    return replace(made, **changes)  # pyright: ignore[reportArgumentType]


async def answer(dialogue: DialogueManager, asked: Message, shown: str = "") -> Reply:
    assert await dialogue.accept(asked)
    last = Reply("", ReplyState.QUEUED)
    async with aclosing(dialogue.respond(asked)) as replies:
        async for last in replies:
            pass
    await dialogue.delivered(asked, [shown] if shown else [])
    return last


async def questions(store: Store) -> list[str]:
    return [turn.question for turn in await store.last_turns(HOME, 100)]


@pytest.fixture
def dialogue(engine: LocalEngine, store: Store) -> DialogueManager:
    return make_dialogue(engine, store, access=ACCESS)


async def test_an_edit_takes_the_place_of_the_question_and_leaves_what_came_before(
    dialogue: DialogueManager, store: Store
) -> None:
    await answer(dialogue, message("one"), "a1")
    asked = message("two")
    await answer(dialogue, asked, "a2")
    await answer(dialogue, message("three"), "a3")
    edit = message("two, better", ref=asked.ref, intent=Edit())
    assert list(await dialogue.shown(edit)) == ["a2"]
    await answer(dialogue, edit, "a2")
    assert await questions(store) == ["one", "two, better"]
    assert not await dialogue.accept(message("two, better", ref=asked.ref, intent=Edit())), "nothing changed"
    assert not await dialogue.accept(message("/new", ref=asked.ref, intent=Edit())), "no command twice"
    await answer(dialogue, message("back to three", replies_to="a3"))
    assert await questions(store) == ["one", "two", "three", "back to three"]


async def test_a_page_shows_the_branches_and_goes_back_to_one_of_them(
    dialogue: DialogueManager, store: Store
) -> None:
    async def shown() -> list[tuple[str, int, Sequence[int]]]:
        return [(turn.question, turn.number, turn.branches) for turn in await dialogue.history(HOME)]

    one, two = message("one"), message("two")
    for asked in (one, two, message("three")):
        await answer(dialogue, asked)
    assert await shown() == [("one", 1, (1,)), ("two", 2, (2,)), ("three", 3, (3,))]
    await answer(dialogue, message("one, better", ref=one.ref, intent=Edit()))
    await answer(dialogue, message("four"))
    assert await shown() == [("one, better", 4, (1, 4)), ("four", 5, (5,))]

    assert await dialogue.choose_branch(HOME, 1)
    assert await shown() == [("one", 1, (1, 4)), ("two", 2, (2,)), ("three", 3, (3,))]
    # A button under the answer means what is seen, not what was asked last under that message.
    await answer(dialogue, message("/retry", ref="", intent=Press(two.ref)))
    assert await shown() == [("one", 1, (1, 4)), ("two", 6, (2, 6))]
    await answer(dialogue, message("five"))
    assert await dialogue.choose_branch(HOME, 4)
    assert await dialogue.choose_branch(HOME, 1)
    assert await shown() == [("one", 1, (1, 4)), ("two", 6, (2, 6)), ("five", 7, (7,))], (
        "where it was left last"
    )
    await answer(dialogue, message("one, best", ref=one.ref, intent=Edit()))
    assert await shown() == [("one, best", 8, (1, 4, 8))]

    assert not await dialogue.choose_branch(HOME, 99)
    assert not await dialogue.choose_branch(ConversationKey("telegram", "3"), 1)


async def test_nobody_leaves_a_branch_in_which_an_answer_is_written(
    dialogue: DialogueManager, store: Store
) -> None:
    one = message("one")
    await answer(dialogue, one)
    await answer(dialogue, message("one, better", ref=one.ref, intent=Edit()))
    asked = message("two")
    assert await dialogue.accept(asked)
    async with aclosing(dialogue.respond(asked)) as replies:
        await anext(replies)
        assert not await dialogue.choose_branch(HOME, 1)
        async for _ in replies:
            pass
    assert await questions(store) == ["one, better", "two"]
    assert await dialogue.choose_branch(HOME, 1)


async def test_an_answer_that_goes_on_is_no_branch_beside_its_beginning(
    engine: LocalEngine, store: Store
) -> None:
    dialogue = make_dialogue(engine, store, access=ACCESS, sampling=replace(GREEDY, max_tokens=5))
    asked = message("on and on")
    await answer(dialogue, asked)
    await answer(dialogue, message("/continue", ref="", intent=Press(asked.ref)))
    (turn,) = await dialogue.history(HOME)
    assert (turn.number, turn.branches) == (2, (2,))
    assert await dialogue.choose_branch(HOME, 1)
    await answer(dialogue, message("and now?"))
    assert await dialogue.choose_branch(HOME, 2)
    (turn,) = await dialogue.history(HOME)
    assert turn.branches == (1, 2), "what follows it keeps it in sight"


async def test_what_somebody_else_said_comes_along_as_a_quotation(
    dialogue: DialogueManager, store: Store
) -> None:
    await answer(dialogue, message("what does it mean?", replies_to="x9", quoted="Ceci n'est\npas une pipe"))
    assert await questions(store) == ["> Ceci n'est\n> pas une pipe\n\nwhat does it mean?"]


@pytest.mark.parametrize("cut", [5, 17, 30])
async def test_going_on_keeps_what_was_said(engine: LocalEngine, store: Store, cut: int) -> None:
    dialogue = make_dialogue(engine, store, access=ACCESS, sampling=replace(GREEDY, max_tokens=cut))
    begun = await answer(dialogue, message("tell me more"), "a1")
    assert [action.command for action in begun.actions] == ["retry", "continue"]
    text = begun.text
    for _ in range(4):
        more = await answer(dialogue, message("/continue", ref="", intent=Press("a1")), "a1")
        assert more.text.startswith(text)
        assert len(more.text) > len(text)
        text = more.text
    (turn,) = await store.last_turns(HOME, 5)
    assert (turn.question, turn.answer) == ("tell me more", text)


@pytest.mark.demo_model
async def test_going_on_says_what_would_have_been_said_without_the_cut(
    demo_model: Path, sqlite_store: Store
) -> None:
    engine = await LocalEngine.start(
        LocalEngineSettings(demo_model, precision=Precision.FP32, cache_tokens=2048, threads=1)
    )
    try:
        whole = make_dialogue(engine, sqlite_store, access=ACCESS, sampling=replace(GREEDY, max_tokens=45))
        expected = (await answer(whole, message("Tell me about the sea."))).text
        await sqlite_store.reset(HOME)
        short = make_dialogue(engine, sqlite_store, access=ACCESS, sampling=replace(GREEDY, max_tokens=15))
        text = (await answer(short, message("Tell me about the sea."), "a1")).text
        for _ in range(2):
            more = await answer(short, message("/continue", ref="", intent=Press("a1")), "a1")
            text = more.text
        assert text == expected
    finally:
        await engine.close()


async def test_the_word_continue_shows_what_is_new_and_keeps_the_whole(
    engine: LocalEngine, store: Store
) -> None:
    dialogue = make_dialogue(engine, store, access=ACCESS, sampling=replace(GREEDY, max_tokens=12))
    assert "no answer to go on" in (await answer(dialogue, message("/continue"))).notice
    first = await answer(dialogue, message("hello"))
    more = await answer(dialogue, message("/continue"))
    (turn,) = await store.last_turns(HOME, 5)
    assert turn.answer == first.text + more.text


async def test_a_withdrawn_question_is_gone_from_the_history(dialogue: DialogueManager, store: Store) -> None:
    asked = message("one")
    await answer(dialogue, asked, "a1")
    await answer(dialogue, message("two"), "a2")
    assert list(await dialogue.withdraw(HOME, asked.ref)) == ["a1"]
    assert await questions(store) == ["two"]
    assert list(await dialogue.withdraw(HOME, "a2")) == [], "an answer is no question"


async def test_a_button_passes_the_questions_that_wait(engine: LocalEngine, store: Store) -> None:
    dialogue = make_dialogue(engine, store, access=ACCESS)
    await answer(dialogue, message("first"), "a1")
    finished: list[str] = []

    async def ask(asked: Message) -> None:
        async with aclosing(dialogue.respond(asked)) as replies:
            async for _ in replies:
                pass
        finished.append(asked.text)

    all_asked = [message("running"), message("waiting"), message("/retry", ref="", intent=Press("a1"))]
    with held(engine):
        tasks: list[asyncio.Task[None]] = []
        for asked in all_asked:
            assert await dialogue.accept(asked)
            tasks.append(asyncio.create_task(ask(asked)))
            await until(lambda: engine.stats().running == 1)
    await asyncio.gather(*tasks)
    assert finished == ["running", "/retry", "waiting"]


async def test_a_chat_has_its_own_system_prompt(dialogue: DialogueManager, engine: LocalEngine) -> None:
    plain = await answer(dialogue, message("hello"))
    await answer(dialogue, message("/new"))
    assert "keep to that" in (await answer(dialogue, message("/prompt You are a pirate."))).notice
    pirate = await answer(dialogue, message("hello"))
    assert pirate.usage is not None
    assert plain.usage is not None
    assert pirate.usage.prompt_tokens > plain.usage.prompt_tokens
    assert "You are a pirate." in (await answer(dialogue, message("/prompt"))).notice
    assert "too long" in (await answer(dialogue, message("/prompt " + "word " * 3000))).notice
    group: dict[str, Any] = {
        "chat_kind": ChatKind.GROUP,
        "conversation": ConversationKey("telegram", "-5", "2"),
    }
    assert "administrators" in (await answer(dialogue, message("/prompt Be rude.", **group))).notice
    await answer(dialogue, message("/prompt off"))
    assert "pirate" not in (await answer(dialogue, message("/prompt"))).notice


async def test_limits_hold_for_people_and_chats_but_not_for_administrators(
    engine: LocalEngine, store: Store
) -> None:
    now = [1000.0]
    dialogue = make_dialogue(engine, store, access=ACCESS, user_per_hour=2, clock=lambda: now[0])
    for _ in range(2):
        assert (await answer(dialogue, message("hello"))).state is ReplyState.FINAL
    assert "try again in 60 min" in (await answer(dialogue, message("hello"))).notice
    assert "/help" in (await answer(dialogue, message("/help"))).notice
    for _ in range(3):
        assert (await answer(dialogue, message("hello", ADMIN))).state is ReplyState.FINAL
    assert "5" in (await answer(dialogue, message("/limit 2 5", ADMIN))).notice
    assert (await answer(dialogue, message("hello"))).state is ReplyState.FINAL
    group: dict[str, Any] = {
        "chat_kind": ChatKind.GROUP,
        "conversation": ConversationKey("telegram", "-5", "1"),
    }
    await answer(dialogue, message("/limit here 1", ADMIN, **group))
    in_group: dict[str, Any] = {
        "chat_kind": ChatKind.GROUP,
        "conversation": ConversationKey("telegram", "-5", "2"),
    }
    assert (await answer(dialogue, message("hello", **in_group))).state is ReplyState.FINAL
    assert "limit" in (await answer(dialogue, message("hello", **in_group))).notice
    assert "Use /limit" in (await answer(dialogue, message("/limit 2 many", ADMIN))).notice
    for nothing in ("none", "0", "00"):
        said = await answer(dialogue, message(f"/limit 2 {nothing}", ADMIN))
        assert said.notice == "telegram:2 has no limit now."
    assert (await answer(dialogue, message("hello"))).state is ReplyState.FINAL
    assert "the configured limit holds" in (await answer(dialogue, message("/limit 2 off", ADMIN))).notice
    known = ", ".join(sorted(installed_platforms()))
    for command in ("/limit foo:12 5", "/allow foo:12", "/block foo:12", "/reset foo:12"):
        said = await answer(dialogue, message(command, ADMIN))
        assert said.notice == f"There is no platform foo; known are: {known}."
    now[0] += 3601
    assert (await answer(dialogue, message("hello", **in_group))).state is ReplyState.FINAL


async def test_a_button_that_is_refused_leaves_the_answer_it_stands_under(
    engine: LocalEngine, store: Store
) -> None:
    dialogue = make_dialogue(engine, store, access=ACCESS, user_per_hour=1)
    first = await answer(dialogue, message("hello"), "a1")
    refused = await answer(dialogue, message("/retry", ref="", intent=Press("a1")), "a1")
    assert refused.state is ReplyState.FAILED
    assert "limit" in refused.notice
    assert refused.text == first.text


async def test_all_together_have_a_limit_that_holds_over_processes(engine: LocalEngine, store: Store) -> None:
    both = Access(admins={ADMIN}, users={ANN, EVE})
    one, other = (make_dialogue(engine, store, access=both, total_per_hour=2) for _ in range(2))
    assert (await answer(one, message("hello"))).state is ReplyState.FINAL
    assert (await answer(other, message("hello", EVE))).state is ReplyState.FINAL
    assert "try again in 60 min" in (await answer(one, message("hello"))).notice
    assert "try again in 60 min" in (await answer(other, message("hello", EVE))).notice
    assert (await answer(other, message("hello", ADMIN))).state is ReplyState.FINAL


async def test_what_was_answered_before_a_restart_is_shown_whatever_the_limits_are(
    engine: LocalEngine, store: Store
) -> None:
    first = make_dialogue(engine, store, access=ACCESS, user_per_hour=1)
    asked = message("hello")
    assert await first.accept(asked)
    async with aclosing(first.respond(asked)) as replies:
        said = [reply async for reply in replies][-1]
    again = make_dialogue(engine, store, access=ACCESS, user_per_hour=1)
    await answer(again, message("something else"))
    async with aclosing(again.respond(asked)) as replies:
        assert [reply.text async for reply in replies] == [said.text]


async def test_an_edit_of_a_question_that_quotes_keeps_the_quotation(
    dialogue: DialogueManager, store: Store
) -> None:
    asked = message("translate", replies_to="x9", quoted="Bonjour")
    await answer(dialogue, asked, "a1")
    same = message("translate", ref=asked.ref, replies_to="x9", quoted="Bonjour", intent=Edit())
    assert not await dialogue.accept(same)
    better = message("translate it", ref=asked.ref, replies_to="x9", quoted="Bonjour", intent=Edit())
    await answer(dialogue, better, "a1")
    assert await questions(store) == ["> Bonjour\n\ntranslate it"]


async def test_the_blocked_hear_nothing_and_an_administrator_cannot_be_blocked(
    dialogue: DialogueManager,
) -> None:
    await answer(dialogue, message("/block telegram:2", ADMIN))
    for text in ("hello", "/start", "/help"):
        assert await answer(dialogue, message(text)) == Reply("", ReplyState.QUEUED)
    await answer(dialogue, message("/allow 2", ADMIN))
    assert (await answer(dialogue, message("hello"))).state is ReplyState.FINAL
    await answer(dialogue, message("/allow 3", ADMIN))
    assert "can't block yourself" in (await answer(dialogue, message("/block 1", ADMIN))).notice
    assert "is not a person's id" in (await answer(dialogue, message("/block somebody", ADMIN))).notice


async def test_pairing_codes_expire_and_are_few(store: Store) -> None:
    now = [0.0]
    people = People(store, Access(), lambda: now[0])
    codes = {await people.code_for(message("/start", UserKey("telegram", str(n)))) for n in range(100, 120)}
    assert len(codes) == 20
    assert await people.code_for(message("/start", EVE)) == ""
    now[0] = 3601
    assert await people.code_for(message("/start", EVE))
    assert set(await store.all_settings()) == {str(EVE)}, "what has expired is gone"


async def test_a_groups_mode_decides_before_anything_is_stored(
    dialogue: DialogueManager, store: Store
) -> None:
    group: dict[str, Any] = {
        "chat_kind": ChatKind.GROUP,
        "conversation": ConversationKey("telegram", "-5", "2"),
    }
    for mode, heard in (("mention", 3), ("command", 1), ("all", 4)):
        await store.set_setting(message("", **group).chat, "mode", mode)
        ways = (Addressed.BY_COMMAND, Addressed.BY_MENTION, Addressed.BY_REPLY, Addressed.NOT)
        accepted = [await dialogue.accept(message("x", addressed=way, **group)) for way in ways]
        assert sum(accepted) == heard


async def test_reloading_says_what_came_of_it(engine: LocalEngine, store: Store) -> None:
    outcomes = iter([Reloaded(["limits"], ["model"]), Reloaded(), Reloaded(error="line 3: no")])
    dialogue = make_dialogue(engine, store, access=ACCESS, reload=lambda: next(outcomes))
    assert "In force now: limits." in (reply := (await answer(dialogue, message("/reload", ADMIN))).notice)
    assert "after a restart: model" in reply
    assert "Nothing has changed" in (await answer(dialogue, message("/reload", ADMIN))).notice
    assert "line 3: no" in (await answer(dialogue, message("/reload", ADMIN))).notice
    none = make_dialogue(engine, store, access=ACCESS)
    assert "no configuration file" in (await answer(none, message("/reload", ADMIN))).notice


async def test_the_overview_shows_streams_and_people(engine: LocalEngine, store: Store) -> None:
    dialogue = make_dialogue(engine, store, access=ACCESS)
    with held(engine):
        running = asyncio.create_task(answer(dialogue, message("hello")))
        await until(lambda: engine.stats().running == 1)
        dialogue.monitor.sample()
        seen = await dialogue.overview()
        await dialogue.monitor.look()
    assert [(stream.user, stream.conversation) for stream in seen.streams] == [("telegram:2", str(HOME))]
    assert {user.user: user.access for user in seen.users} == {"telegram:1": "admin", "telegram:2": "user"}
    assert seen.samples[-1].memory > 10**7
    assert seen.running == 1
    assert dialogue.monitor.stats({}).open == 1
    await running
    assert (await dialogue.overview()).streams == []
