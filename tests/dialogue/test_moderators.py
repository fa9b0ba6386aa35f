"""Moderators that plug-ins register: they hold wherever the bot's own do, and their faults refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from conftest import make_dialogue
from dialogue.moderators import moderation_of
from dialogue.scripted_engine import ScriptedEngine
from dialogue.test_door import asked, installed, last, replies_to
from glmbot import plugins as door
from glmbot.completions import Completion
from glmbot.config.people import ModerationSection
from glmbot.content import Text, ToolCall, ToolResult
from glmbot.errors import ConfigError, ContentRefused
from glmbot.host import Direction, Exchange, Finding, Follows, Host, ModerationSettings, Moderator, Passage
from glmbot.keys import UserKey
from glmbot.messages import Reply
from glmbot.plugins import load_plugins, refuse_without_built_in, start_moderators
from glmbot.store.base import Store

ANN = UserKey("web", "7")


class _Spotted:
    def look(self, text: str) -> Finding:
        return Finding.WORD if "rude" in text else Finding.NOTHING


def _registering(watches: bool, seen: list[Passage]) -> Callable[[Host], None]:
    async def allows(passage: Passage) -> bool:
        seen.append(passage)
        return "rude" not in passage.text

    def register(host: Host) -> None:
        host.moderator("manners", lambda _: Moderator(allows, _Spotted if watches else None))

    return register


async def completed(dialogue: Any, turns: Sequence[tuple[str, str]]) -> list[Reply]:
    replies: AsyncGenerator[Reply, None] = dialogue.complete(Completion(turns, ANN))
    async with aclosing(replies):
        return [reply async for reply in replies]


@pytest.mark.parametrize("watches", [False, True])
async def test_one_of_a_plug_in_holds_for_all_that_reaches_the_model_and_all_that_it_says(
    monkeypatch: pytest.MonkeyPatch, sqlite_store: Store, watches: bool
) -> None:
    seen: list[Passage] = []
    installed(monkeypatch, manners=_registering(watches, seen))
    engine = ScriptedEngine("Well", "Well, you", "Well, you rude", "Well, you rude one")
    dialogue = make_dialogue(engine, sqlite_store)
    assert "does not allow that question" in (await last(dialogue, "a rude word")).notice
    assert "not allow" in (await last(dialogue, "/prompt be rude")).notice
    for turns in ([("system", "be rude"), ("user", "hi")], [("user", "rude")]):
        with pytest.raises(ContentRefused):
            await completed(dialogue, turns)
    assert not engine.asked
    assert {passage.direction for passage in seen} == {Direction.QUESTION}
    shown = await replies_to(dialogue, asked("hi"))
    assert "withheld" in shown[-1].notice
    assert not any("rude" in reply.text for reply in shown)
    assert any(reply.text for reply in shown) == watches
    said = await completed(dialogue, [("user", "hi")])
    assert said[-1].finish_reason == "content_filter"
    assert not any("rude" in reply.text for reply in said)
    assert said[-1].text == ("Well, you" if watches else "")
    assert seen[-1].user in ("telegram:5", "web:7")
    engine.says = ("fine",)
    assert (await last(dialogue, "hi")).text == "fine"
    assert (await completed(dialogue, [("user", "hi")]))[-1].text == "fine"


async def _raises(passage: Passage) -> bool:
    raise OSError("no network")


async def _hangs(passage: Passage) -> bool:
    await asyncio.Event().wait()
    return True


async def _clings(passage: Passage) -> bool:
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        await asyncio.sleep(5)
    return True


async def _cancels_itself(passage: Passage) -> bool:
    raise asyncio.CancelledError


async def _leaves(passage: Passage) -> bool:
    raise SystemExit(1)


async def _says_nothing(passage: Passage) -> Any:
    return None


def _is_no_coroutine(passage: Passage) -> Any:
    raise _Broken


class _Broken(Exception):
    pass


@pytest.mark.parametrize(
    "allows", [_raises, _hangs, _clings, _cancels_itself, _leaves, _says_nothing, _is_no_coroutine]
)
async def test_whatever_it_does_but_allow_refuses_unless_it_was_told_otherwise(
    allows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for refuses in (True, False):
        moderation = moderation_of(Moderator(allows, timeout_s=0.05, refuse_on_failure=refuses))
        allowed = await moderation.allows(Direction.QUESTION, "hello", user="a", conversation="b")
        assert allowed is not refuses
    assert "the moderator m0" in caplog.text


class _Breaks:
    def __init__(self, finding: object) -> None:
        self._finding = finding

    def look(self, text: str) -> Any:
        if isinstance(self._finding, BaseException):
            raise self._finding
        return self._finding


def _breaks_when_it_is_made() -> Any:
    raise _Broken


async def _allows(passage: Passage) -> bool:
    return True


@pytest.mark.parametrize(
    "watch",
    [
        _breaks_when_it_is_made,
        lambda: _Breaks(_Broken()),
        lambda: _Breaks(SystemExit()),
        lambda: _Breaks(True),
    ],
)
def test_a_watch_that_breaks_hides_what_comes_unless_it_was_told_otherwise(watch: Any) -> None:
    for refuses, finding in ((True, Finding.PERHAPS), (False, Finding.NOTHING)):
        growing = moderation_of(Moderator(_allows, watch, refuse_on_failure=refuses)).watch()
        assert [growing.look("a"), growing.look("ab")] == [finding, finding]


async def test_the_first_that_refuses_spares_the_others_and_the_worst_finding_counts() -> None:
    asked_second: list[str] = []

    async def second(passage: Passage) -> bool:
        asked_second.append(passage.text)
        return True

    async def first(passage: Passage) -> bool:
        return passage.text != "no"

    moderation = moderation_of(
        Moderator(first, lambda: _Breaks(Finding.PERHAPS)), Moderator(second, _Spotted)
    )
    assert not await moderation.allows(Direction.ANSWER, "no", user="", conversation="")
    assert await moderation.allows(Direction.ANSWER, "yes", user="", conversation="")
    assert await moderation.allows(Direction.ANSWER, " \n", user="", conversation=""), "nothing is said"
    assert asked_second == ["yes"]
    assert [moderation.watch().look(text) for text in ("well", "rude")] == [Finding.PERHAPS, Finding.WORD]
    assert not moderation.holds_answers


async def test_so_many_are_asked_at_once_and_who_waits_loses_no_time() -> None:
    running = most = 0

    async def slow(passage: Passage) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.06)
        running -= 1
        return True

    moderation = moderation_of(Moderator(slow, timeout_s=1.0, at_once=2))
    found = await asyncio.gather(
        *(moderation.allows(Direction.QUESTION, "hi", user="", conversation="") for _ in range(40))
    )
    assert all(found)
    assert most == 2


def test_they_are_started_with_the_section_and_again_when_it_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    times: list[float] = []

    def start(settings: ModerationSettings) -> Moderator | None:
        times.append(settings.timeout_s)
        return Moderator(_allows) if settings.refuse_on_failure else None

    installed(monkeypatch, odd=lambda host: host.moderator("odd", start))
    plugins = load_plugins()
    words = tmp_path / "words"
    words.write_text("bomb")
    section = ModerationSection(timeout_s=7, words_file=words, command=["true"])
    assert [each.name for each in start_moderators(plugins, section)] == ["words", "program", "odd"]
    lenient = section.model_copy(update={"refuse_on_failure": False, "command": []})
    assert [each.name for each in start_moderators(plugins, lenient)] == ["words"]
    assert times == [7.0, 7.0]


def _start_raises(settings: ModerationSettings) -> Moderator:
    raise _Broken("no luck")


@pytest.mark.parametrize(
    "start",
    [
        _start_raises,
        lambda _: "a moderator",
        lambda _: Moderator(_allows, timeout_s=0),
        lambda _: Moderator(_allows, at_once=0),
    ],
)
def test_nobody_is_answered_without_one_that_can_not_be_started(
    monkeypatch: pytest.MonkeyPatch, start: Any
) -> None:
    installed(monkeypatch, odd=lambda host: host.moderator("odd", start))
    with pytest.raises(ConfigError, match="the moderator odd of the plug-in odd can't be started: "):
        start_moderators(load_plugins())


def test_a_bot_without_a_part_of_its_own_does_not_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    installed(monkeypatch)
    refuse_without_built_in(load_plugins())
    entries = [entry for entry in door.entry_points(group=door.GROUP) if entry.name != "moderation"]
    for others in (entries, [*entries, EntryPoint("moderation", "no_such_module:register", door.GROUP)]):
        monkeypatch.setattr(door, "entry_points", lambda group, found=others: found)
        with pytest.raises(ConfigError, match="the plug-in moderation: "):
            refuse_without_built_in(load_plugins())
    assert "the plug-in moderation is left out" in caplog.text


@pytest.mark.parametrize(("found", "kept"), [("2 + 2", True), ("a rude word", False)])
async def test_what_steps_say_came_of_a_question_is_looked_at_too(
    monkeypatch: pytest.MonkeyPatch, sqlite_store: Store, found: str, kept: bool
) -> None:
    async def looks(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
        exchange.said = (ToolCall("1", "look"), ToolResult("1", found), Text("A sum."))
        async with aclosing(following(exchange)) as replies:
            async for reply in replies:
                yield reply

    def register(host: Host) -> None:
        host.step("looker", looks, before="record")

    installed(monkeypatch, manners=_registering(True, []), looker=register)
    message = asked("what is it?")
    replies = await replies_to(make_dialogue(ScriptedEngine("A sum."), sqlite_store), message)
    assert (replies[-1].text, replies[-1].notice) == ("A sum.", "")
    (turn,) = await sqlite_store.last_turns(message.conversation, 9)
    assert (turn.answer, found in turn.parts) == ("A sum.", kept)
    assert bool(turn.parts) == kept
