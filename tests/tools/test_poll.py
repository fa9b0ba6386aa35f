"""A poll: one vote a person, by whichever process and however at once, and nobody else's to end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from conftest import make_dialogue
from dialogue.scripted_engine import ScriptedEngine
from dialogue.tool_world import press, said
from glmbot.dialogue.access import Access
from glmbot.dialogue.manager import DialogueManager
from glmbot.host import ToolFailed
from glmbot.keys import UserKey
from glmbot.messages import ChatKind, Message, Reply
from glmbot.store.base import Store
from glmbot_tools.poll_tools import poll_tool
from glmbot_tools.polls import Polls
from tools.fake_use import FakeUse

ADMIN, ANN, BOB = (UserKey("telegram", each) for each in "156")
GROUP = "-100"


def process(store: Store) -> DialogueManager:
    return make_dialogue(ScriptedEngine(), store, access=Access(admins={ADMIN}, open_platforms={"telegram"}))


async def obeyed(dialogue: DialogueManager, message: Message) -> Reply:
    assert await dialogue.accept(message)
    replies = [reply async for reply in dialogue.respond(message)]
    await dialogue.delivered(message)
    return replies[-1]


async def say(dialogue: DialogueManager, text: str, user: UserKey = ANN, chat: str = GROUP) -> Reply:
    return await obeyed(dialogue, said(text, user=user, chat=chat))


def id_of(reply: Reply) -> str:
    return reply.actions[0].command[-8:]


async def test_a_vote_counts_once_for_each_person_over_all_processes(sqlite_store: Store) -> None:
    one, other = process(sqlite_store), process(sqlite_store)
    begun = await say(one, "/poll Tea or\u202e coffee? | Tea | Coffee")
    poll = id_of(begun)
    assert begun.notice.startswith("📊 Tea or coffee?\n1. Tea · 0\n2. Coffee · 0")
    assert [action.label for action in begun.actions] == ["1. Tea", "2. Coffee"]
    people = [UserKey("telegram", str(number)) for number in range(20, 26)]
    await asyncio.gather(
        *(say(dialogue, f"/poll 1 {poll}", user=user) for user in people for dialogue in (one, other))
    )
    assert (
        await say(other, f"/poll 2 {poll}", user=people[0])
    ).notice == "You voted for Coffee. (Tea 5, Coffee 1)"
    shown = await say(one, f"/poll {poll}", user=BOB)
    assert "1. Tea · 5 (83 %)\n2. Coffee · 1 (17 %)" in shown.notice
    # Whoever is forgotten has not voted.
    await sqlite_store.forget(people[1])
    assert "1. Tea · 4" in (await say(one, f"/poll {poll}")).notice


async def test_its_maker_or_an_administrator_ends_it_and_it_stays_as_it_was(sqlite_store: Store) -> None:
    dialogue = process(sqlite_store)
    for ends in (ANN, ADMIN):
        poll = id_of(await say(dialogue, "/poll Go? | Yes | No"))
        await say(dialogue, f"/poll 1 {poll}", user=BOB)
        assert (await say(dialogue, f"/poll close {poll}", user=BOB)).notice.startswith("Whoever began it")
        ended = await say(dialogue, f"/poll close {poll}", user=ends)
        assert "1. Yes · 1 (100 %)" in ended.notice
        assert not ended.actions
        assert (await say(dialogue, f"/poll 2 {poll}", user=BOB)).notice == "This poll has ended."
        await sqlite_store.forget(BOB)
        assert "1. Yes · 1" in (await say(dialogue, f"/poll {poll}")).notice


async def test_anybody_of_the_chat_votes_by_a_button_and_nobody_elsewhere(sqlite_store: Store) -> None:
    dialogue = process(sqlite_store)
    question = said("/poll Go? | Yes | No", user=ANN, chat=GROUP)
    begun = await obeyed(dialogue, question)
    button = press(question, begun.actions[1].command, user=BOB)
    assert await dialogue.accept(button)
    taken = next(
        each.message
        for each in await sqlite_store.unfinished("telegram")
        if each.message.update_id == button.update_id
    )
    voted = [reply async for reply in dialogue.respond(taken)][-1]
    assert voted.notice == "You voted for No. (Yes 0, No 1)"
    poll = id_of(begun)
    for words in (f"/poll 1 {poll}", f"/poll {poll}", f"/poll close {poll}"):
        assert (await say(dialogue, words, chat="-200")).notice == "There is no such poll here."
    in_the_name = said(f"/poll 1 {poll}", user=BOB, chat=GROUP, anonymous=True)
    assert (await obeyed(dialogue, in_the_name)).notice == "Who speaks in a chat's name has no vote."


@pytest.mark.parametrize(
    "given", ["", "Q", "Q | a", "Q |  | ", "Q | " + " | ".join("abcdefghijk"), "Q | a | A"]
)
async def test_what_is_no_poll_is_refused(sqlite_store: Store, given: str) -> None:
    shown = await say(process(sqlite_store), f"/poll {given}")
    assert shown.notice.startswith(("Usage: /poll", "Two of these"))


async def test_nobody_has_more_than_five(sqlite_store: Store) -> None:
    dialogue = process(sqlite_store)
    polls = [id_of(await say(dialogue, f"/poll {number}? | a | b")) for number in range(5)]
    assert (await say(dialogue, "/poll 6? | a | b")).notice.startswith("There are too many")
    await say(dialogue, f"/poll close {polls[0]}")
    assert (await say(dialogue, "/poll 6? | a | b")).actions


async def test_a_model_starts_one_for_who_asks_it(sqlite_store: Store) -> None:
    dialogue = process(sqlite_store)
    tool: Any = poll_tool(Polls(logging.getLogger("test.polls")))
    use = FakeUse(
        {"question": "Go?", "options": ["Yes", "No"]},
        conversation=str(said("x", chat=GROUP).conversation),
        chat_kind=ChatKind.GROUP,
        bot=dialogue._powers,
    )
    assert "stands in the chat" in await tool.function(use)
    told = [each.message.text for each in await sqlite_store.unfinished("telegram")]
    assert any(text.startswith("📊 Go?") for text in told)
    with pytest.raises(ToolFailed, match="nobody else here"):
        await tool.function(FakeUse(use.arguments, conversation=str(said("x").conversation)))
