"""What a person does at once gets one answer, whenever the process dies."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.scripted import ScriptedEngine
from conftest import make_dialogue
from dialogue.told import HERE, LONGEST, cut, said
from dialogue.world import World, echo, run, world
from glmbot.dialogue import acts
from glmbot.errors import ClaimLost
from glmbot.keys import ConversationKey
from glmbot.messages import Addressed, ChatKind, Message
from glmbot.store.base import Store
from glmbot.store.records import StoredAnswer
from glmbot.store.redis import RedisStore
from virtual_time import run_in_virtual_time


@dataclass(frozen=True)
class Doing:
    """One act: its messages' texts, what they have in common, and what they say together."""

    texts: Sequence[str]
    facts: Sequence[Mapping[str, Any]]
    whole: str


def _paste(texts: list[str]) -> Doing:
    facts = [{"cut": LONGEST}] * (len(texts) - 1) + [{}]
    return Doing(texts, facts, "".join(texts))


def _album(texts: list[str]) -> Doing:
    return Doing(texts, [{"album": texts[0] + str(len(texts))}] * len(texts), "\n".join(texts))


def _forwards(texts: list[str]) -> Doing:
    return Doing(texts, [{}, *[{"forwarded": True}] * (len(texts) - 1)], "\n\n".join(texts))


TEXTS = st.lists(st.text(alphabet="xyz", min_size=1, max_size=6), min_size=1, max_size=4)
DOINGS = st.one_of(TEXTS.map(_paste), TEXTS.map(_album), TEXTS.map(_forwards))


@settings(max_examples=12)
@given(
    people=st.lists(st.lists(DOINGS, min_size=1, max_size=3), min_size=1, max_size=3),
    pauses=st.lists(st.floats(0.0, 0.4), min_size=1, max_size=8),
    deaths=st.lists(st.floats(0.05, 4.0), max_size=6),
    encrypted=st.booleans(),
)
def test_each_act_gets_one_answer_to_all_of_it_whoever_speaks_and_whenever_the_process_dies(
    people: list[list[Doing]], pauses: list[float], deaths: list[float], encrypted: bool
) -> None:
    async def main() -> None:
        async with world(encrypted=encrypted) as here:
            refs, waits = itertools.count(1), itertools.cycle(pauses)

            async def live(user: int, doings: list[Doing]) -> None:
                for doing in doings:
                    for text, facts in zip(doing.texts, doing.facts, strict=True):
                        at = 1000 + int(asyncio.get_running_loop().time())
                        here.tell(said(next(refs), text, user=user, at=at, **facts))
                        # A comment is answered at once, so what is forwarded with it comes before that has ended.
                        wait = next(waits)
                        await asyncio.sleep(min(wait, 0.1) if "forwarded" in doing.facts[-1] else wait)
                    await asyncio.sleep(5)

            async def die() -> None:
                for after in deaths:
                    async with here.bot():
                        await asyncio.sleep(after)
                    await asyncio.sleep(0.1)

            talking = [asyncio.create_task(live(user, doings)) for user, doings in enumerate(people, 1)]
            await die()
            async with here.bot():
                await asyncio.gather(*talking)
                await here.settled()
            for user, doings in enumerate(people, 1):
                expected = [doing.whole for doing in doings]
                assert await here.asked(user) == expected
                assert here.chats[user].texts() == [f"You said: {whole}" for whole in expected]

    run_in_virtual_time(main())


@pytest.mark.parametrize("after", [0.0, 0.005, 0.02, 0.05, 0.1, 0.15, 0.2])
def test_a_question_that_is_edited_at_once_is_answered_once_in_its_new_words(after: float) -> None:
    @run()
    async def _(here: World) -> None:
        async with here.bot():
            here.tell(said(1, "what is blue?"))
            await asyncio.sleep(after)
            here.tell(said(1, "what is red?", edits=True))
            await here.settled()
            assert here.chats[7].texts() == ["You said: what is red?"]
            assert len(here.chats[7].shown) == 1
            assert await here.asked(7) == ["what is red?"]


@pytest.mark.parametrize("after", [0.0, 0.05, 0.1])
def test_a_question_that_waits_behind_another_is_edited_there(after: float) -> None:
    @run()
    async def _(here: World) -> None:
        here.engine.goes_on.clear()
        async with here.bot():
            here.tell(said(1, "first"))
            here.tell(said(2, "secnd"))
            await asyncio.sleep(after)
            here.tell(said(2, "second", edits=True))
            await asyncio.sleep(0.3)
            here.engine.goes_on.set()
            await here.settled()
            assert here.chats[7].texts() == ["You said: first", "You said: second"]
            assert await here.asked(7) == ["first", "second"]
            assert not any("secnd" in prompt for prompt in here.engine.prompts)


def test_an_edit_that_leaves_the_words_alone_changes_nothing_at_any_time() -> None:
    @run()
    async def _(here: World) -> None:
        here.engine.goes_on.clear()
        async with here.bot():
            here.tell(said(1, "what is blue?"))
            for pause in (0.0, 0.05, 0.2):
                await asyncio.sleep(pause)
                here.tell(replace(said(1, "what is blue?", edits=True), update_id=f"edit {pause}"))
            await asyncio.sleep(0.2)
            here.engine.goes_on.set()
            await here.settled()
            assert len(here.engine.prompts) == 1
            here.tell(said(1, "what is blue?", edits=True))
            await here.settled()
            assert len(here.engine.prompts) == 1
            assert here.chats[7].texts() == ["You said: what is blue?"]


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("answered", [False, True])
def test_an_edit_of_one_piece_concerns_the_whole_act(answered: bool, encrypted: bool) -> None:
    @run(encrypted)
    async def _(here: World) -> None:
        async with here.bot():
            for message in (cut(1, "one"), cut(2, "two"), said(3, "three")):
                here.tell(message)
            await (here.settled() if answered else asyncio.sleep(0.1))
            for edit in (
                said(2, "TWO", edits=True),
                said(3, "THREE", edits=True),
                said(1, "ONE", edits=True),
            ):
                here.tell(edit)
                await (here.settled() if answered else asyncio.sleep(0.03))
            # With the same words there is nothing to do.
            here.tell(replace(said(2, "TWO", edits=True), update_id="again"))
            await here.settled()
            asked = len(here.engine.prompts)
            here.tell(replace(said(3, "THREE", edits=True), update_id="and again"))
            await here.settled()
            assert len(here.engine.prompts) == asked
            assert await here.asked(7) == ["ONETWOTHREE"]
            assert here.chats[7].texts() == ["You said: ONETWOTHREE"]
            assert len(here.chats[7].shown) == 1


@pytest.mark.parametrize("after", [0.0, 0.05])
def test_a_command_that_is_edited_into_a_question_is_obeyed_and_the_question_answered(after: float) -> None:
    @run()
    async def _(here: World) -> None:
        async with here.bot():
            here.tell(said(1, "/whoami"))
            await asyncio.sleep(after)
            here.tell(said(1, "who?", edits=True))
            await here.settled()
            assert await here.asked(7) == ["who?"]
            assert "You said: who?" in here.chats[7].texts()


def test_two_edits_of_different_pieces_of_an_answered_act_are_both_kept() -> None:
    @run()
    async def _(here: World) -> None:
        async with here.bot():
            for message in (said(1, "left", album="a"), said(2, "right", album="a")):
                here.tell(message)
            await here.settled()
            here.tell(said(1, "LEFT", edits=True, album="a"))
            here.tell(said(2, "RIGHT", edits=True, album="a"))
            await here.settled()
            assert await here.asked(7) == ["LEFT\nRIGHT"]
            assert here.chats[7].texts() == ["You said: LEFT\nRIGHT"]


def test_what_comes_when_the_rest_of_its_act_is_being_answered_still_belongs_to_it() -> None:
    @run()
    async def _(here: World) -> None:
        here.engine.goes_on.clear()
        async with here.bot():
            here.tell(said(1, "what do they say?"))
            await asyncio.sleep(0.4)
            here.tell(said(2, "yes", forwarded=True))
            here.tell(said(3, "no", forwarded=True, at=1001))
            await asyncio.sleep(2)
            here.engine.goes_on.set()
            await here.settled()
            assert here.chats[7].texts() == ["You said: what do they say?\n\nyes\n\nno"]
            assert len(here.chats[7].shown) == 1
            assert await here.asked(7) == ["what do they say?\n\nyes\n\nno"]


def test_an_act_that_can_not_be_answered_is_set_aside_and_replayed_as_a_whole() -> None:
    @run()
    async def _(here: World) -> None:
        for message in (cut(1, "one"), said(2, "two")):
            here.tell(message)
        broken = True

        def answer(prompt: str) -> str:
            if broken:
                raise RuntimeError("a bug")
            return echo(prompt)

        here.engine.answer = answer
        async with here.bot():
            while not (letters := await here.store.dead_letters()):  # noqa: ASYNC110
                await asyncio.sleep(1)
            assert [letter.message.text for letter in letters] == ["onetwo"]
            assert await here.store.unfinished("telegram") == []
            broken = False
            await here.store.replay(letters[0].message)
            await here.settled()
        assert await here.asked(7) == ["onetwo"]


def test_nothing_waits_that_is_no_act() -> None:
    @run()
    async def _(here: World) -> None:
        async with here.bot():
            here.tell(said(1, "hello"))
            await asyncio.sleep(0.5)
            assert here.chats[7].texts() == ["You said: hello"]
            here.tell(cut(2, "the last piece"))
            here.tell(said(3, " says that that was all"))
            await asyncio.sleep(0.5)
            assert here.chats[7].texts()[1:] == ["You said: the last piece says that that was all"]


def in_group(message: Message, addressed: Addressed) -> Message:
    key = ConversationKey("telegram", "-5", message.user.id)
    return replace(message, conversation=key, chat_kind=ChatKind.GROUP, addressed=addressed)


async def test_in_a_group_what_belongs_to_an_addressed_message_is_addressed(store: Store) -> None:
    dialogue = make_dialogue(ScriptedEngine(), store)
    mention, nobody = Addressed.BY_MENTION, Addressed.NOT
    assert not await dialogue.accept(in_group(said(1, "the rest of something"), nobody))
    assert await dialogue.accept(in_group(cut(2, "a long text"), mention))
    assert await dialogue.accept(in_group(cut(3, "goes on"), nobody))
    assert await dialogue.accept(in_group(said(4, "and ends"), nobody))
    assert not await dialogue.accept(in_group(said(5, "something else"), nobody))
    assert not await dialogue.accept(in_group(said(6, "somebody else", user=8), nobody))
    assert await dialogue.accept(in_group(said(3, "goes further", edits=True), nobody))
    assert not await dialogue.accept(in_group(said(1, "the rest", edits=True), nobody))
    assert await dialogue.accept(in_group(said(1, "the rest, bot", edits=True), mention))


async def test_what_is_joined_is_one_message_and_what_was_answered_is_forgotten(store: Store) -> None:
    first, second, other = cut(1, "one"), said(2, "two"), said(3, "three")
    for message in (first, second, other):
        await store.accept(message, 1.0)
    assert (await store.claim(HERE, 10.0)).owner == store.owner
    await store.mark(first, {"sent": "x"})
    await store.finish(first, StoredAnswer("old", "final", ""), question="one", ref="1", at=1.0)
    whole = acts.whole([first, second])
    await store.join(whole, [second])
    assert [(each.message, each.marks) for each in await store.open_in(HERE)] == [
        (whole, {"sent": "x"}),
        (other, {}),
    ]
    assert await store.answer(whole) is None
    # An update that the platform sends again is known.
    assert not await store.accept(second, 2.0)
    assert await store.finish(whole, StoredAnswer("new", "final", ""), question=whole.text, ref="1", at=2.0)
    turn = await store.turn_of(HERE, "2")
    assert turn is not None
    assert turn.question == "onetwo"
    assert dict(await store.pieces(HERE, turn.id)) == {"2": 3}
    await store.delivered(whole, ["a1"])
    assert list(await store.shown(HERE, turn.id)) == ["a1"]
    # What is no longer there is not brought back, and takes nothing with it.
    await store.join(whole, [other])
    assert [each.message for each in await store.open_in(HERE)] == [other]


async def test_only_who_answers_a_conversation_joins_in_it(redis_url: str) -> None:
    prefix = f"test-{time.time_ns()}"
    mine, others = RedisStore(redis_url, prefix=prefix), RedisStore(redis_url, prefix=prefix)
    await mine.accept(cut(1, "one"), 1.0)
    assert (await others.claim(HERE, 10.0)).owner == others.owner
    with pytest.raises(ClaimLost):
        await mine.join(cut(1, "one"), [])
    assert [each.message.text for each in await mine.open_in(HERE)] == ["one"]
    await mine.close()
    await others.close()
