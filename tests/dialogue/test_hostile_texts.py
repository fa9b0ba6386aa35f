"""Whatever is written behind a command, stands in a setting or comes in a message harms nobody's next question."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from itertools import cycle

import pytest

from conftest import make_dialogue
from dialogue.scripted_engine import ScriptedEngine
from glmbot.completions import Completion
from glmbot.dialogue.access import Access
from glmbot.dialogue.commands import Commands
from glmbot.dialogue.manager import DialogueManager
from glmbot.errors import EngineError
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import Addressed, ChatKind, Message, Reply, ReplyState, Role
from glmbot.plugins import load_plugins
from glmbot.store.base import Store
from glmbot_commands.arguments import number_from

COMMANDS = Commands(load_plugins().commands)
ADMIN, ANN = UserKey("telegram", "1"), UserKey("telegram", "2")
GROUP = ChatKey("telegram", "-5")
_updates = iter(range(1, 10**9))
_ARGUMENTS = [
    "",
    "é",
    "2 99999999999999999999",
    "2 " + "9" * 4400,
    "2 -1",
    "2 ١٢",
    "2 1e9",
    "here " + "0" * 5000 + "1",
    "9" * 4400,
    "foo:12",
    "telegram:" + "9" * 19,
    "telegram:" + "9" * 5000,
    "replay " + "9" * 4400,
    "drop 0",
    "drop ٣",
    "{user} %s {0.__class__}",
    "\ud800" * 4000,
    "\u202e\u0000\x1b[31m",
    "x" * 100_000,
    "a b " * 20_000,
    "zzz",
]


def message(text: str, user: UserKey = ANN, kind: ChatKind = ChatKind.PRIVATE, **changes: object) -> Message:
    chat = GROUP.id if kind is ChatKind.GROUP else user.id
    number = str(next(_updates))
    return Message(
        number,
        ConversationKey(user.platform, str(chat), user.id),
        user,
        text,
        chat_kind=kind,
        ref=f"r{number}",
        **changes,  # pyright: ignore[reportArgumentType]
    )


async def answer(dialogue: DialogueManager, asked: Message) -> Reply:
    assert await dialogue.accept(asked)
    last = Reply("", ReplyState.FINAL)
    async with aclosing(dialogue.respond(asked)) as replies:
        async for last in replies:
            pass
    await dialogue.delivered(asked)
    return last


async def everybody_is_answered(dialogue: DialogueManager) -> None:
    for user in (ADMIN, ANN):
        for kind in ChatKind:
            reply = await answer(dialogue, message("hello", user, kind))
            assert (reply.text, reply.state) == ("answer", ReplyState.FINAL), (user, kind, reply)


@pytest.fixture
def dialogue(sqlite_store: Store) -> DialogueManager:
    return make_dialogue(ScriptedEngine(), sqlite_store, access=Access(admins={ADMIN}, users={ANN}))


@pytest.mark.parametrize("name", [info.name for info in COMMANDS.listing("en", Role.ADMIN)])
async def test_no_argument_of_a_command_raises_or_spoils_a_later_question(
    dialogue: DialogueManager, name: str
) -> None:
    others = cycle([(ADMIN, ChatKind.GROUP), (ANN, ChatKind.PRIVATE)])
    for argument in _ARGUMENTS:
        for user, kind in ((ADMIN, ChatKind.PRIVATE), next(others)):
            reply = await answer(dialogue, message(f"/{name} {argument}", user, kind))
            assert len(reply.notice) < 6000
    await answer(dialogue, message("/prompt off", ADMIN))
    await answer(dialogue, message("/prompt off", ADMIN, ChatKind.GROUP))
    await everybody_is_answered(dialogue)


@pytest.mark.parametrize("value", ["x", "-1", "9" * 5000, "NaN", "\u0663", "ABCDEFGH"])
@pytest.mark.parametrize("name", ["limit", "mode", "pairing", "language", "access", "name", "unknown"])
async def test_a_damaged_setting_spoils_nothing(
    dialogue: DialogueManager, sqlite_store: Store, name: str, value: str
) -> None:
    for owner in (ADMIN, ANN, GROUP, ChatKey("telegram", ANN.id, ANN.id)):
        await sqlite_store.set_setting(owner, name, value)
    await everybody_is_answered(dialogue)
    addressed = message("hello", ANN, ChatKind.GROUP, addressed=Addressed.BY_MENTION)
    assert (await answer(dialogue, addressed)).text == "answer"
    await answer(dialogue, message("/start", UserKey("telegram", "3")))
    await answer(dialogue, message("/pair ABCDEFGH", ADMIN))
    await dialogue.overview()


@pytest.mark.parametrize("text", ["/usr/bin/python is where I live", "/nosuchcommand", "hello", "/"])
async def test_what_only_looks_like_a_command_is_not_for_the_bot(
    dialogue: DialogueManager, text: str
) -> None:
    assert not await dialogue.accept(message(text, ANN, ChatKind.GROUP, addressed=Addressed.NOT))
    assert await dialogue.accept(message("/help", ANN, ChatKind.GROUP, addressed=Addressed.NOT))


@pytest.mark.parametrize(
    ("text", "most", "number"),
    [
        ("7", 9, 7),
        ("0", 9, 0),
        ("007", 9, 7),
        ("10", 9, None),
        ("9" * 5000, 9, None),
        ("-1", 9, None),
        ("", 9, None),
    ],
)
def test_a_number_is_a_number(text: str, most: int, number: int | None) -> None:
    assert number_from(text, most) == number


@pytest.mark.parametrize("field", ["update_id", "ref", "replies_to", "source"])
def test_an_id_that_is_too_long_is_none(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} has 513 characters"):
        replace(message("hello"), **{field: "x" * 513})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "origin",
    [{str(number): "" for number in range(33)}, {"x": "x" * 4097}, {"x" * 4097: ""}, {"x": 1}, {1: "x"}],
)
def test_an_adapters_notes_are_bounded(origin: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="origin"):
        message("hello", origin=origin)


def test_what_a_message_says_is_kept_as_far_as_a_model_could_read_it() -> None:
    made = message(
        "head" + "x" * 3_000_000 + "tail", user_name="n" * 999, quoted="q" * 999_999, media="m" * 999
    )
    assert made.text.startswith("headx")
    assert made.text.endswith("xtail")
    assert len(made.text) <= 1_000_000
    assert (len(made.user_name), len(made.quoted), len(made.media)) == (256, 500_000, 256)


async def test_a_completion_of_too_many_messages_is_refused_by_name(dialogue: DialogueManager) -> None:
    request = Completion([("user", "a")] * 2050, ANN)
    with pytest.raises(ValueError, match="messages: 2,050 came, and at most 2,049"):
        await anext(dialogue.complete(request))
    assert (await anext(dialogue.complete(Completion([("user", "a")] * 2049, ANN, trim=True)))).text


class Panic(BaseException):
    """As a native tokenizer's."""


async def test_a_panic_of_a_tokenizer_fails_its_own_question(sqlite_store: Store) -> None:
    engine = ScriptedEngine()
    dialogue = make_dialogue(engine, sqlite_store)
    plain = engine.chat_format.encode_text

    def panics(text: str) -> list[int]:
        if "bad" in text:
            raise Panic("index out of bounds")
        return plain(text)

    engine.chat_format.encode_text = panics
    for text in ("bad", "bad " * 1000):
        assert (await answer(dialogue, message(text))).state is ReplyState.FAILED
        with pytest.raises(EngineError, match="Panic"):
            await anext(dialogue.complete(Completion([("user", text)], ANN, trim=True)))
    assert (await answer(dialogue, message("good"))).text == "answer"


async def test_a_bug_in_an_answer_is_no_answer(sqlite_store: Store) -> None:
    engine = ScriptedEngine("half", "an answer")
    dialogue = make_dialogue(engine, sqlite_store)
    asked = message("hello")
    assert await dialogue.accept(asked)

    def bug() -> None:
        raise TypeError("a bug")

    engine.fails = bug
    with pytest.raises(TypeError):
        await _all(dialogue.respond(asked))
    assert await sqlite_store.answer(asked) is None
    engine.fails = lambda: None
    assert (await _all(dialogue.respond(asked)))[-1].text == "an answer"


async def _all(replies: AsyncGenerator[Reply, None]) -> list[Reply]:
    async with aclosing(replies):
        return [reply async for reply in replies]
