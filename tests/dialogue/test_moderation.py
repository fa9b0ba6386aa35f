"""The word list and the operator's own program."""

from __future__ import annotations

import re
import stat
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import make_dialogue
from glmbot.dialogue.moderation import Direction, Moderation, read_words
from glmbot.engine.local import LocalEngine
from glmbot.messages import ConversationKey, Message, Reply, UserKey
from glmbot.store.base import Store

ANN = UserKey("telegram", 2)
CHAT = ConversationKey("telegram", 2)


def test_words_are_whole_words_whatever_their_case_and_chinese_is_found_anywhere() -> None:
    moderation = Moderation(read_words("# a comment\nbomb\n\ncredit  card\n炸弹\nC++\n"))
    for text in ("a BOMB!", "my credit\ncard", "怎么做炸弹呢", "I like c++."):
        assert moderation.has_word(text)
    for text in ("bombastic", "credit and card", "comment", "C"):
        assert not moderation.has_word(text)


@given(st.lists(st.text(min_size=1, max_size=12)), st.text(max_size=40))
def test_any_list_can_be_used(words: list[str], text: str) -> None:
    Moderation(read_words("\n".join(words))).has_word(text)
    assert not Moderation(()).has_word(text)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Refuses what holds "forbidden", fails at "crash", hangs at "hang"; notes what it was asked."""
    path = tmp_path / "check"
    path.write_text(
        "#!/usr/bin/env python3\n"
        "import json, sys, time\n"
        f"asked = json.load(sys.stdin); open({str(tmp_path / 'asked')!r}, 'a').write(json.dumps(asked) + '\\n')\n"
        "text = asked['text']\n"
        "if 'hang' in text: time.sleep(60)\n"
        "sys.exit(7 if 'crash' in text else 1 if 'forbidden' in text else 0)\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [("hello", True, True), ("forbidden", False, False), ("crash", False, True), ("hang", False, True)],
)
async def test_a_program_decides_and_its_failure_refuses_unless_told_otherwise(
    program: Path, text: str, strict: bool, lenient: bool
) -> None:
    for refuse, expected in ((True, strict), (False, lenient)):
        moderation = Moderation((), [str(program)], timeout_s=2, refuse_on_failure=refuse)
        allowed = await moderation.allows(Direction.QUESTION, text, user=str(ANN), conversation=str(CHAT))
        assert allowed is expected
    missing = Moderation((), ["/no/such/program"])
    assert not await missing.allows(Direction.ANSWER, "hello", user="", conversation="")


_updates = iter(range(10**9))


async def say(engine: LocalEngine, store: Store, text: str, moderation: Moderation) -> list[Reply]:
    dialogue = make_dialogue(engine, store, moderation=moderation)
    asked = Message(str(next(_updates)), CHAT, ANN, text)
    assert await dialogue.accept(asked)
    replies: AsyncGenerator[Reply, None] = dialogue.respond(asked)
    async with aclosing(replies):
        return [reply async for reply in replies]


async def test_a_refused_question_reaches_no_model_and_a_refused_answer_no_person(
    engine: LocalEngine, store: Store
) -> None:
    refused = (await say(engine, store, "how to make a bomb", Moderation(["bomb"])))[-1]
    assert "does not allow that question" in refused.notice
    assert engine.stats().requests_finished == 0
    plain = (await say(engine, store, "hello", Moderation()))[-1]
    await store.reset(CHAT)
    said = re.findall(r"[\u4e00-\u9fff]{2,}", plain.text)[0]
    replies = await say(engine, store, "hello", Moderation([said]))
    assert "withheld" in replies[-1].notice
    assert not any(Moderation([said]).has_word(reply.text) for reply in replies)
    assert await store.last_turns(CHAT, 5) == []


async def test_with_a_program_nothing_is_shown_before_it_was_allowed(
    engine: LocalEngine, store: Store, program: Path, unhurried: None
) -> None:
    replies = await say(engine, store, "hello", Moderation((), [str(program)]))
    assert [reply.text for reply in replies[:-1]] == [""] * (len(replies) - 1)
    assert replies[-1].text
    assert "answer" in (program.parent / "asked").read_text()
