"""What a model thinks is kept beside its answer, and no model is told of it again."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from conftest import make_dialogue
from dialogue.moderators import moderated
from dialogue.scripted_engine import ScriptedEngine
from glmbot.completions import Completion
from glmbot.dialogue.manager import DialogueManager
from glmbot.engine.base import FinishReason, Progress
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message, Reply, ReplyState
from glmbot.store.base import Store
from glmbot.store.records import StoredAnswer
from glmbot.store.sealed import new_key, sealed

ANN = UserKey("telegram", "2")
HERE = ConversationKey("telegram", "2")
WHOLE = "<think>\nTwo and two is four.\n</think>\n\nFour."
_numbers = itertools.count(1)


def token_by_token(text: str) -> list[str]:
    return [text[:end] for end in range(1, len(text) + 1)]


async def say(dialogue: DialogueManager, text: str) -> list[Reply]:
    number = next(_numbers)
    message = Message(str(number), HERE, ANN, text, ref=str(number))
    assert await dialogue.accept(message)
    async with aclosing(dialogue.respond(message)) as replies:
        got = [reply async for reply in replies]
    await dialogue.delivered(message, [f"answer {number}"])
    return got


class Cut(ScriptedEngine):
    """Every answer is ended by its limit."""

    async def generate(self, *given: object, **named: object) -> AsyncGenerator[Progress, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        async for progress in super().generate(*given, **named):  # pyright: ignore[reportArgumentType]
            finish = None if progress.finish is None else FinishReason.LENGTH
            yield Progress(progress.text, finish, None, progress.prompt_tokens, 40)


async def test_thought_and_answer_grow_side_by_side(sqlite_store: Store) -> None:
    engine = ScriptedEngine(*token_by_token(WHOLE))
    replies = await say(make_dialogue(engine, sqlite_store), "2+2?")
    assert (replies[-1].text, replies[-1].thought) == ("Four.", "Two and two is four.")
    for earlier, later in itertools.pairwise(
        reply for reply in replies if reply.state is not ReplyState.QUEUED
    ):
        assert later.text.startswith(earlier.text)
        assert later.thought.startswith(earlier.thought)
    thinking = [reply for reply in replies if reply.thought and not reply.text]
    assert len(thinking) > 10
    assert {reply.notice for reply in thinking} == {"Thinking…"}
    (turn,) = await sqlite_store.last_turns(HERE, 9)
    assert (turn.answer, turn.thought) == ("Four.", "Two and two is four.")


async def test_the_next_prompt_has_none_of_it(store: Store) -> None:
    engine = ScriptedEngine(*token_by_token(WHOLE))
    dialogue = make_dialogue(engine, store)
    for question in ("2+2?", "again?", "/retry", "/continue"):
        await say(dialogue, question)
        assert all("Two and two" not in text for text in engine.chat_format.prompts[-1])
    assert engine.chat_format.prompts[-1][:2] == ["2+2?", "Four."]
    past = await dialogue.history(HERE)
    assert past[0].thought == "Two and two is four."


async def test_nor_has_that_of_a_history_from_before_thoughts_were_kept_apart(store: Store) -> None:
    for text in (WHOLE, "Of R1.\n</think>\n\nFive.", "<think>\nnever to an end"):
        message = Message(str(next(_numbers)), HERE, ANN, "2+2?")
        await store.accept(message, 1.0)
        await store.finish(message, StoredAnswer(text, "final", ""), question="2+2?", at=1.0)
        await store.delivered(message)
    engine = ScriptedEngine("Yes.")
    dialogue = make_dialogue(engine, store)
    await say(dialogue, "and 3+3?")
    assert engine.chat_format.prompts[-1] == ["2+2?", "Four.", "2+2?", "Five.", "and 3+3?"]
    past = await dialogue.history(HERE)
    assert [(turn.answer, turn.thought) for turn in past] == [
        ("Four.", "Two and two is four."),
        ("Five.", "Of R1."),
        ("", "never to an end"),
        ("Yes.", ""),
    ]


async def test_who_thinks_to_the_limit_says_so(sqlite_store: Store) -> None:
    engine = Cut(*token_by_token("<think>\nTwo and two is"))
    last = (await say(make_dialogue(engine, sqlite_store), "2+2?"))[-1]
    assert (last.text, last.thought, last.actions) == ("", "Two and two is", ())
    assert "40 tokens" in last.notice
    assert "/continue" not in last.notice
    assert await sqlite_store.last_turns(HERE, 9) == []


async def test_an_answer_that_goes_on_keeps_its_thought(sqlite_store: Store) -> None:
    engine = Cut("<think>hm</think>One, two")
    dialogue = make_dialogue(engine, sqlite_store)
    await say(dialogue, "count")
    engine.says = (", three",)
    last = (await say(dialogue, "/continue"))[-1]
    assert (last.text, last.thought) == (", three", "hm")
    assert (await sqlite_store.last_turns(HERE, 9))[-1].thought == "hm"
    assert (await sqlite_store.last_turns(HERE, 9))[-1].answer == "One, two, three"


async def test_what_may_not_be_said_may_not_be_thought_either(sqlite_store: Store) -> None:
    engine = ScriptedEngine(*token_by_token("<think>\nIt is a bomb.\n</think>\n\nFour."))
    dialogue = make_dialogue(engine, sqlite_store, moderation=moderated(["bomb"]))
    replies = await say(dialogue, "2+2?")
    assert all("bomb" not in reply.thought for reply in replies)
    assert (replies[-1].text, replies[-1].thought) == ("Four.", "")
    request = Completion([("user", "2+2?")], ANN)
    async with aclosing(dialogue.complete(request)) as answers:
        got = [reply async for reply in answers]
    assert all("bomb" not in reply.thought for reply in got)
    assert got[-1].text == "Four."


async def test_a_program_gets_both_and_brings_none_back_to_the_model(sqlite_store: Store) -> None:
    engine = ScriptedEngine(*token_by_token(WHOLE))
    dialogue = make_dialogue(engine, sqlite_store)
    request = Completion([("user", "2+2?"), ("assistant", WHOLE), ("user", "sure?")], ANN)
    async with aclosing(dialogue.complete(request)) as replies:
        got = [reply async for reply in replies]
    assert (got[-1].text, got[-1].thought) == ("Four.", "Two and two is four.")
    assert engine.chat_format.prompts[-1] == ["2+2?", "Four.", "sure?"]


@pytest.mark.parametrize("encrypted", [False, True])
async def test_it_is_exported_shown_again_after_a_restart_and_forgotten(
    store: Store, encrypted: bool
) -> None:
    kept = sealed(store, [new_key()]) if encrypted else store
    await kept.open()
    dialogue = make_dialogue(ScriptedEngine(WHOLE), kept)
    message = Message("restart", HERE, ANN, "2+2?", ref="restart")
    await dialogue.accept(message)
    for _ in range(2):
        async with aclosing(dialogue.respond(message)) as replies:
            last = [reply async for reply in replies][-1]
        assert last.thought == "Two and two is four."
    (turn,) = await store.last_turns(HERE, 9)
    assert ("Two and two" in turn.thought) is not encrypted
    stored = [each async for each in kept.everything()]
    assert stored[0].turns[0].thought == "Two and two is four."
    await kept.reset(HERE)
    assert await kept.put(stored[0])
    assert (await kept.last_turns(HERE, 9))[0].thought == "Two and two is four."
    sent = (await say(dialogue, "/export"))[-1].attachment
    assert sent is not None
    content = gzip.decompress(sent.content) if sent.name.endswith(".gz") else sent.content
    assert json.loads(content)["conversations"][0]["turns"][0]["thought"] == "Two and two is four."
    await kept.forget(ANN)
    assert await kept.last_turns(HERE, 9) == []


async def test_what_is_kept_of_a_thought_is_bounded(sqlite_store: Store) -> None:
    engine = ScriptedEngine(f"<think>begins {'so ' * 30_000}ends</think>Four.")
    await say(make_dialogue(engine, sqlite_store), "2+2?")
    (turn,) = await sqlite_store.last_turns(HERE, 9)
    assert turn.thought.startswith("begins")
    assert turn.thought.endswith("ends")
    assert len(turn.thought) < 33_000
