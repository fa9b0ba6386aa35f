"""What every platform promises people, held over each that there is and over one that can't edit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters.contract.drivers import DRIVERS, OPEN, USER, Driver
from adapters.scripted import ScriptedEngine, echoing, last_question
from adapters.waiting import letters, nothing_left, until_async
from conftest import until
from glmbot.delivery.abilities import Ability
from glmbot.dialogue.access import Access
from glmbot.errors import EngineError
from glmbot.store.base import Store

PARAGRAPHS = "\n\n".join(
    f"Paragraph {number} begins. " + " ".join(f"word{number}x{each}" for each in range(30))
    for number in range(12)
)


def drivers(without: str = "") -> Any:
    """All of them, but for those that have none of it."""
    those = [each for each in DRIVERS if without not in each.cannot]
    return pytest.mark.parametrize("driver", [each() for each in those], ids=[each.name for each in those])


@pytest.fixture(autouse=True)
async def _platform(driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[None]:
    # A terminal's files come into the folder where it is.
    monkeypatch.chdir(tmp_path)
    async with driver.platform():
        yield


async def seen(driver: Driver, *wanted: str, user: int = USER) -> Sequence[str]:
    """Wait until all of it is seen."""
    await until(lambda: all(any(each in text for text in driver.seen(user)) for each in wanted))
    return driver.seen(user)


async def begun(driver: Driver, engine: ScriptedEngine, words: str) -> None:
    """Wait until an answer is under way: these words of it are seen, where it is seen before its end."""
    if Ability.EDIT in driver.profile.abilities or driver.in_paragraphs:
        await seen(driver, words)
    else:
        await until(lambda: bool(engine.prompts))


async def nothing_on_its_way(driver: Driver, store: Store) -> None:
    """A message of which it is not known whether it was taken would be sent twice, and say so (delivery/once.py)."""

    async def known() -> bool:
        waiting = await store.unfinished(driver.platform_name)
        return not any(json.loads(each.marks.get("said", "[0, 0, 0, 0, false]"))[4] for each in waiting)

    await until_async(known, bool)


def count(driver: Driver, words: str) -> int:
    return sum(text.count(words) for text in driver.seen())


@drivers()
async def test_answers_stand_in_the_order_of_the_questions_and_each_once(
    driver: Driver, sqlite_store: Store
) -> None:
    async with driver.bot(echoing(), sqlite_store):
        for word in ("one", "two", "three"):
            await driver.say(word)
        shown = await seen(driver, "answer to one", "answer to two", "answer to three")
        await nothing_left(sqlite_store, driver.platform_name)
        places = [
            next(i for i, text in enumerate(shown) if f"answer to {word}" in text)
            for word in ("one", "two", "three")
        ]
        assert places == sorted(places)
        assert [count(driver, f"answer to {word}") for word in ("one", "two", "three")] == [1, 1, 1]


@drivers()
async def test_all_words_of_a_long_answer_are_seen_once_in_messages_that_fit(
    driver: Driver, sqlite_store: Store
) -> None:
    async with driver.bot(ScriptedEngine(PARAGRAPHS, steps=40, step_s=0.005), sqlite_store):
        await driver.say("go on")
        await seen(driver, "word11x29")
        await nothing_left(sqlite_store, driver.platform_name)
    assert letters("".join(driver.seen())).count(letters(PARAGRAPHS)) == 1
    longest = driver.profile.longest
    assert all(len(text) <= longest for text in driver.seen()) if longest else True


@drivers("floods")
async def test_the_end_of_an_answer_arrives_after_a_flood(driver: Driver, sqlite_store: Store) -> None:
    engine = ScriptedEngine(PARAGRAPHS, steps=20, step_s=0.01)
    async with driver.bot(engine, sqlite_store):
        await driver.say("go on")
        await until(lambda: bool(engine.prompts))
        driver.hold(1.0)
        await seen(driver, "word11x29")
        await nothing_left(sqlite_store, driver.platform_name)
    assert letters("".join(driver.seen())).count(letters(PARAGRAPHS)) == 1


@drivers("restarts")
async def test_an_answer_that_a_restart_broke_is_seen_whole_and_once(
    driver: Driver, sqlite_store: Store
) -> None:
    first = ScriptedEngine(PARAGRAPHS, steps=12, step_s=0.02)
    first.goes_on.clear()
    async with driver.bot(first, sqlite_store) as bot:
        await driver.say("go on")
        # The last one that has ended before the last snapshot: nothing more is sent then.
        so_far = PARAGRAPHS[: len(PARAGRAPHS) * 11 // 12].rpartition("\n\n")[0]
        await begun(driver, first, so_far.split()[-1])
        await nothing_on_its_way(driver, sqlite_store)
        await driver.die(bot)
    assert await sqlite_store.unfinished(driver.platform_name)
    async with driver.bot(ScriptedEngine(PARAGRAPHS, steps=12, step_s=0.01), sqlite_store):
        await seen(driver, "word11x29")
        await nothing_left(sqlite_store, driver.platform_name)
    assert letters("".join(driver.seen())).count(letters(PARAGRAPHS)) == 1


@drivers("restarts")
async def test_an_answer_that_comes_out_differently_after_a_restart_stands_there_whole(
    driver: Driver, sqlite_store: Store
) -> None:
    first = ScriptedEngine(PARAGRAPHS.replace("Paragraph", "Old"), steps=12, step_s=0.02)
    first.goes_on.clear()
    async with driver.bot(first, sqlite_store) as bot:
        await driver.say("go on")
        await begun(driver, first, "Old 2")
        await driver.die(bot)
    async with driver.bot(ScriptedEngine(PARAGRAPHS, steps=12, step_s=0.01), sqlite_store):
        await seen(driver, "word11x29")
        await nothing_left(sqlite_store, driver.platform_name)
    whole = letters("".join(driver.seen()))
    assert whole.count(letters(PARAGRAPHS)) == 1
    if Ability.EDIT in driver.profile.abilities:
        assert count(driver, "Old") == 0
    elif driver.in_paragraphs:
        assert count(driver, "I had to begin this answer again") == 1
        assert whole.endswith(letters(PARAGRAPHS))
    else:
        assert whole == letters(PARAGRAPHS)


@drivers("strangers")
async def test_a_stranger_is_told_so_and_asks_the_model_nothing(driver: Driver, sqlite_store: Store) -> None:
    engine = echoing()
    async with driver.bot(engine, sqlite_store, access=Access()):
        await driver.say("let me in")
        await until(lambda: bool(driver.seen()))
        await nothing_left(sqlite_store, driver.platform_name)
    assert engine.prompts == []
    assert count(driver, "answer to") == 0


@drivers("people")
async def test_people_see_their_own_answers_alone(driver: Driver, sqlite_store: Store) -> None:
    async with driver.bot(echoing(), sqlite_store):
        await driver.say("mine", user=USER)
        await driver.say("yours", user=8)
        await seen(driver, "answer to mine")
        await seen(driver, "answer to yours", user=8)
    assert not any("yours" in text for text in driver.seen())
    assert not any("mine" in text for text in driver.seen(8))


@drivers("groups")
async def test_in_a_group_it_answers_who_speaks_to_it(driver: Driver, sqlite_store: Store) -> None:
    engine = echoing()
    async with driver.bot(engine, sqlite_store):
        await driver.say_in_group("not for you", mention=False)
        await driver.say_in_group("for you", mention=True)
        await until(lambda: any("answer to" in text for text in driver.seen_in_group()))
        await nothing_left(sqlite_store, driver.platform_name)
    assert len(engine.prompts) == 1
    assert driver.seen() == []


@drivers()
async def test_commands_are_obeyed_and_say_so_once(driver: Driver, sqlite_store: Store) -> None:
    engine = echoing()
    async with driver.bot(engine, sqlite_store):
        await driver.say("remember me")
        await seen(driver, "answer to remember me")
        await driver.say("/new")
        await seen(driver, "put aside: 1")
        await driver.say("who am I")
        await seen(driver, "answer to who am I")
        await nothing_left(sqlite_store, driver.platform_name)
    assert count(driver, "put aside: 1") == 1
    assert "remember me" not in engine.prompts[-1]


@drivers("files")
async def test_an_export_comes_as_a_file(driver: Driver, sqlite_store: Store) -> None:
    async with driver.bot(echoing(), sqlite_store):
        await driver.say("keep this")
        await seen(driver, "answer to keep this")
        await driver.say("/export")
        await until(lambda: any(name.endswith(".json") for name in _names(driver)))
        await nothing_left(sqlite_store, driver.platform_name)


def _names(driver: Driver) -> Sequence[str]:
    return [word for line in driver.files() for word in line.split()]


@drivers()
async def test_what_can_not_come_as_a_file_is_said(driver: Driver, sqlite_store: Store) -> None:
    async with driver.bot(echoing(), sqlite_store):
        await driver.say("keep this")
        await seen(driver, "answer to keep this")
        await driver.say("/export")
        if Ability.FILE not in driver.profile.abilities:
            await seen(driver, "can't be sent in this chat")
        await nothing_left(sqlite_store, driver.platform_name)
    assert count(driver, "can't be sent in this chat") == (Ability.FILE not in driver.profile.abilities)


@drivers("media")
async def test_words_beside_a_picture_are_answered_and_that_it_was_not_seen_is_said(
    driver: Driver, sqlite_store: Store
) -> None:
    async with driver.bot(echoing(), sqlite_store):
        await driver.say_with_picture("what is this")
        await seen(driver, "answer to what is this", "I can only read text")
        await nothing_left(sqlite_store, driver.platform_name)


@drivers("edits")
async def test_an_edited_question_is_answered_in_its_new_words(driver: Driver, sqlite_store: Store) -> None:
    async with driver.bot(echoing(), sqlite_store):
        asked = await driver.say("first words")
        await seen(driver, "answer to first words")
        await nothing_left(sqlite_store, driver.platform_name)
        await driver.edit(asked, "second words")
        await seen(driver, "answer to second words")
        await nothing_left(sqlite_store, driver.platform_name)
    if Ability.EDIT in driver.profile.abilities:
        assert len(driver.seen()) == 1


@drivers("buttons")
async def test_buttons_stand_where_there_are_some_and_work_in_the_answers_place(
    driver: Driver, sqlite_store: Store
) -> None:
    said = iter(("once", "twice"))
    async with driver.bot(ScriptedEngine(lambda _: next(said)), sqlite_store):
        await driver.say("say it")
        await seen(driver, "once")
        await nothing_left(sqlite_store, driver.platform_name)
        await driver.press("retry")
        await seen(driver, "twice")
        await nothing_left(sqlite_store, driver.platform_name)
    assert len(driver.seen()) == 1


@drivers("deletions")
async def test_a_deleted_question_takes_its_answer_with_it(driver: Any, sqlite_store: Store) -> None:
    async with driver.bot(echoing(), sqlite_store):
        asked = await driver.say("forget it")
        await seen(driver, "answer to forget it")
        await nothing_left(sqlite_store, driver.platform_name)
        await driver.delete(asked)
        await until(lambda: not driver.seen())


@drivers()
async def test_a_failure_is_told_once_and_the_next_question_is_answered(
    driver: Driver, sqlite_store: Store
) -> None:
    def answer(prompt: str) -> str:
        if "break" in last_question(prompt):
            raise EngineError("a fault")
        return f"answer to {last_question(prompt)}"

    async with driver.bot(ScriptedEngine(answer), sqlite_store):
        await driver.say("break")
        await seen(driver, "could not answer")
        await driver.say("and now")
        await seen(driver, "answer to and now")
        await nothing_left(sqlite_store, driver.platform_name)
    assert count(driver, "could not answer") == 1


@drivers()
async def test_a_stop_ends_a_running_answer_with_its_line(driver: Driver, sqlite_store: Store) -> None:
    engine = ScriptedEngine(PARAGRAPHS, steps=12, step_s=0.01)
    engine.goes_on.clear()
    async with driver.bot(engine, sqlite_store) as bot:
        await driver.say("go on")
        await until(lambda: bool(engine.prompts))
        await asyncio.sleep(0.05)
        # Lines typed into a terminal wait for the answer; Ctrl-C is its stop.
        if not bot.interrupt():
            await driver.say("/stop")
        await seen(driver, "topped")
        engine.goes_on.set()
        await nothing_left(sqlite_store, driver.platform_name)
    assert count(driver, "word11x29") == 0


@pytest.mark.parametrize("driver", [DRIVERS[0]()], ids=["all"])
def test_what_the_contract_leaves_out_is_told(driver: Driver) -> None:
    """So that nobody takes a test that does not run for one that holds."""
    assert driver.name == "telegram"
    left_out = {each.name: sorted(each.cannot) for each in DRIVERS}
    assert left_out == {
        "telegram": ["deletions"],
        "discord": [],
        "onebot": ["buttons", "edits"],
        "telegram.second": ["deletions"],
        "onebot.second": ["buttons", "edits"],
        "discord.second": [],
        "slack.second": [],
        "satori": ["buttons"],
        "slack": [],
        "feishu": ["edits"],
        "dingtalk": ["deletions", "edits", "files"],
        "matrix": [],
        "qq": ["buttons", "deletions", "edits"],
        "wecom": ["buttons", "deletions", "edits"],
        "wecom, application": ["buttons", "deletions", "edits", "groups", "media"],
        "web": ["deletions", "floods", "groups", "media", "strangers"],
        "console": [
            "buttons",
            "deletions",
            "edits",
            "floods",
            "groups",
            "media",
            "people",
            "restarts",
            "strangers",
        ],
        "toy": ["buttons", "deletions", "edits", "files", "groups", "media"],
        "toy, whole": ["buttons", "deletions", "edits", "files", "groups", "media"],
    }
    assert "telegram" in OPEN.open_platforms
