"""The word list and the operator's own program."""

from __future__ import annotations

import re
import stat
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import make_dialogue
from dialogue.moderators import moderated
from dialogue.scripted_engine import ScriptedEngine
from glmbot.completions import Completion
from glmbot.dialogue.manager import DialogueManager
from glmbot.dialogue.moderation import Moderation
from glmbot.engine.local import LocalEngine
from glmbot.errors import ContentRefused
from glmbot.host import Direction, Finding
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message, Reply
from glmbot.store.base import Store
from glmbot_moderation.words import GrowingText, WordList, plain_form, read_words

ANN = UserKey("telegram", "2")
CHAT = ConversationKey("telegram", "2")


def test_words_are_whole_words_whatever_their_case_and_chinese_is_found_anywhere() -> None:
    moderation = moderated(read_words("# a comment\nbomb\n\ncredit  card\n炸弹\nC++\n"))
    for text in ("a BOMB!", "my credit\ncard", "怎么做炸弹呢", "I like c++."):
        assert moderation.finds(text)
    for text in ("bombastic", "credit and card", "comment", "C"):
        assert not moderation.finds(text)


@given(st.lists(st.text(min_size=1, max_size=12)), st.text(max_size=40))
def test_any_list_can_be_used(words: list[str], text: str) -> None:
    moderated(read_words("\n".join(words))).finds(text)
    assert not moderated(()).finds(text)


@pytest.mark.parametrize(
    "text",
    [
        "this is for\u200bbidden",
        "this is f\u00ado\ufeffr\u2060bidden\ufe0f",
        "ＦＯＲＢＩＤＤＥＮ",
        "so 𝐟𝐨𝐫𝐛𝐢𝐝𝐝𝐞𝐧!",
        "a credit\u3000\u200b \n card",
        "cafe\u0301",
        "ein GROSSES STRASSENFEST",
        "炸\u200d弹",
    ],
)
def test_what_looks_the_same_is_the_same(text: str) -> None:
    moderation = moderated(["forbidden", "Credit card", "café", "straßenfest", "炸弹"])
    assert moderation.finds(text)


@given(
    st.lists(st.text("ab cé炸弹-", min_size=1, max_size=6), max_size=8),
    st.text("ab cé炸弹-\u200b\u0301", max_size=40),
)
def test_the_pattern_finds_what_trying_each_word_finds(words: list[str], text: str) -> None:
    plain = plain_form(text)

    def stands_in(word: str) -> bool:
        body = re.escape(plain_form(word).strip())
        around = body if "炸" in word or "弹" in word else rf"(?<!\w){body}(?!\w)"
        return re.search(around, plain) is not None

    listed = read_words("\n".join(words))
    assert moderated(listed).finds(text) == any(
        stands_in(word) for word in listed if plain_form(word).strip()
    )


@given(
    st.lists(st.text("ab é炸弹", min_size=1, max_size=5), min_size=1, max_size=5),
    st.lists(st.text("ab é炸弹\u200b\u0301", max_size=6), max_size=12),
)
def test_a_growing_text_is_found_out_as_soon_as_looking_at_all_of_it_would(
    words: list[str], pieces: list[str]
) -> None:
    found = WordList(words)
    watch, text = GrowingText(found), ""
    over = False
    for piece in pieces:
        text += piece
        whole = found.find(plain_form(text))
        over = over or whole is Finding.WORD
        assert watch.look(text) is (Finding.WORD if over else whole)


def test_a_long_list_and_a_long_answer_take_no_long_time() -> None:
    words = WordList(f"{number:05d}{'x' * (number % 40)}" for number in range(4_000))
    looked_at = 0

    class Counting(WordList):
        def find(self, plain: str, begin: int = 0) -> Finding:
            nonlocal looked_at
            looked_at += len(plain)
            return words.find(plain, begin)

    counting = Counting(["01234" + "x" * 40])
    watch = GrowingText(counting)
    text = "12345 and so on " * 500
    for end in range(0, len(text), 16):
        assert watch.look(text[:end]) is Finding.NOTHING
    assert looked_at < 10 * len(text)


@pytest.mark.parametrize("text", ["x" * 201, "\n".join(map(str, range(20_001)))])
def test_a_list_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"words|characters"):
        read_words(text)


async def test_the_program_sees_nothing_of_our_environment_and_works_in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "look"
    program.write_text(f"#!/bin/sh\nenv > {tmp_path}/env; pwd > {tmp_path}/where; cat > {tmp_path}/text\n")
    program.chmod(0o755)
    monkeypatch.setenv("GLMBOT_REMOTE__API_KEY", "sk-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.chdir(tmp_path)
    moderation = moderated((), ["./look"])
    assert await moderation.allows(Direction.QUESTION, "hello", user="", conversation="")
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names <= {
        "PATH",
        "LANG",
        "LANGUAGE",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "HOME",
        "TMPDIR",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    }
    assert Path((tmp_path / "where").read_text().strip()) != tmp_path
    assert not await moderation.allows(Direction.QUESTION, "x" * 2_000_001, user="", conversation="")


async def ended(replies: AsyncGenerator[Reply, None]) -> list[Reply]:
    async with aclosing(replies):
        return [reply async for reply in replies]


@pytest.mark.parametrize(
    "turns",
    [
        [("user", "say forbidden")],
        [("system", "say forbidden"), ("user", "hi")],
        [("user", "say forbidden"), ("assistant", "ok"), ("user", "go on")],
        [("user", "hi"), ("assistant", "say forbidden"), ("user", "go on")],
        [("user", "say ＦＯＲ\u200bbidden"), ("user", "go on")],
    ],
)
@pytest.mark.parametrize("by_program", [False, True])
async def test_no_part_of_a_completion_brings_a_word_to_the_model(
    sqlite_store: Store, program: Path, turns: list[tuple[str, str]], by_program: bool
) -> None:
    if by_program and "\u200b" in turns[0][1]:
        pytest.skip("what a program takes for the same is its own affair")
    engine = ScriptedEngine()
    moderation = moderated((), [str(program)], timeout_s=60) if by_program else moderated(["forbidden"])
    dialogue = make_dialogue(engine, sqlite_store, moderation=moderation)
    with pytest.raises(ContentRefused):
        await ended(dialogue.complete(Completion(turns, ANN)))
    assert not engine.asked
    if by_program:
        assert len((program.parent / "asked").read_text().splitlines()) == 1
    replies = await ended(dialogue.complete(Completion([("system", "be nice"), ("user", "hi")], ANN)))
    assert replies[-1].text == "answer"


async def test_a_word_that_only_began_another_does_not_end_an_answer(sqlite_store: Store) -> None:
    engine = ScriptedEngine("He was ", "He was a bomb", "He was a bombastic", "He was a bombastic man")
    dialogue = make_dialogue(engine, sqlite_store, moderation=moderated(["bomb"]))
    replies = await ended(dialogue.complete(Completion([("user", "hi")], ANN)))
    assert [reply.text for reply in replies] == [
        "He was ",
        "He was ",
        "He was a bombastic",
        "He was a bombastic man",
    ]
    shown = await ask(dialogue, "hi")
    assert shown[-1].text == "He was a bombastic man"
    assert not any(reply.text.endswith("bomb") for reply in shown)


async def test_a_word_over_the_border_of_an_answer_that_goes_on_is_found(sqlite_store: Store) -> None:
    engine = ScriptedEngine("I like for")
    dialogue = make_dialogue(engine, sqlite_store, moderation=moderated(["forbidden"]))
    await ask(dialogue, "hi")
    engine.says = ("bid", "bidden", "bidden things")
    replies = await ask(dialogue, "/continue")
    assert "withheld" in replies[-1].notice
    assert not any("bidden" in reply.text for reply in replies)


async def test_a_prompt_of_a_chat_is_looked_at_when_it_is_set_and_when_the_list_grows(
    sqlite_store: Store,
) -> None:
    engine = ScriptedEngine()
    dialogue = make_dialogue(engine, sqlite_store, moderation=moderated(["forbidden"]))
    assert "not allow" in (await ask(dialogue, "/prompt say for\u00adbidden"))[-1].notice
    await ask(dialogue, "/prompt say something")
    assert (await ask(dialogue, "hi"))[-1].text == "answer"
    later = make_dialogue(engine, sqlite_store, moderation=moderated(["something"]))
    assert "/prompt off" in (await ask(later, "hi"))[-1].notice
    await ask(later, "/prompt off")
    assert (await ask(later, "hi"))[-1].text == "answer"
    assert len(engine.asked) == 2


async def ask(dialogue: DialogueManager, text: str) -> list[Reply]:
    asked = Message(str(next(_updates)), CHAT, ANN, text)
    assert await dialogue.accept(asked)
    replies = await ended(dialogue.respond(asked))
    await dialogue.delivered(asked)
    return replies


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
        timeout_s = 2 if text == "hang" else 60
        moderation = moderated((), [str(program)], timeout_s=timeout_s, refuse_on_failure=refuse)
        allowed = await moderation.allows(Direction.QUESTION, text, user=str(ANN), conversation=str(CHAT))
        assert allowed is expected
    missing = moderated((), ["/no/such/program"])
    assert not await missing.allows(Direction.ANSWER, "hello", user="", conversation="")


async def test_who_clears_temporary_folders_away_has_nobody_refused(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    moderation = moderated((), [str(program)], timeout_s=60)
    assert await moderation.allows(Direction.QUESTION, "hello", user="", conversation="")
    (folder,) = temporary.iterdir()
    folder.rmdir()
    assert await moderation.allows(Direction.QUESTION, "hello", user="", conversation="")


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
    refused = (await say(engine, store, "how to make a bomb", moderated(["bomb"])))[-1]
    assert "does not allow that question" in refused.notice
    assert engine.stats().requests_finished == 0
    plain = (await say(engine, store, "hello", moderated()))[-1]
    await store.reset(CHAT)
    said = re.findall(r"[\u4e00-\u9fff]{2,}", plain.text)[0]
    replies = await say(engine, store, "hello", moderated([said]))
    assert "withheld" in replies[-1].notice
    assert not any(moderated([said]).finds(reply.text) for reply in replies)
    assert await store.last_turns(CHAT, 5) == []


async def test_with_a_program_nothing_is_shown_before_it_was_allowed(
    engine: LocalEngine, store: Store, program: Path, unhurried: None
) -> None:
    replies = await say(engine, store, "hello", moderated((), [str(program)]))
    assert [reply.text for reply in replies[:-1]] == [""] * (len(replies) - 1)
    assert replies[-1].text
    assert "answer" in (program.parent / "asked").read_text()
