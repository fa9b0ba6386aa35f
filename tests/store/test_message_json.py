"""The JSON of messages and answers: what other releases wrote is read, what is wrong is named and not repeated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import (
    Act,
    Addressed,
    Announce,
    Ask,
    ChatKind,
    Edit,
    Intent,
    Message,
    Press,
    Role,
    Visibility,
)
from glmbot.openings import SlashCommand, slash_command
from glmbot.store.message_json import answer_from_json, marks_from_json, message_from_json, message_to_json
from glmbot.store.records import StoredAnswer

SECRET = "what Ann said 4711"
ACT = Act(album="a", at=5, cut=4096, forwarded=True, pieces={"m2": 7})
EVERYTHING = Message(
    "u1",
    ConversationKey("telegram", "-100", "11", "5"),
    UserKey("telegram", "11"),
    "hi",
    chat_kind=ChatKind.GROUP,
    user_name="Ann",
    language="en",
    vouched=Role.ADMIN,
    origin={"thread": "5"},
    ref="m1",
    replies_to="m0",
    quoted="before",
    quoted_from="Bob",
    addressed=Addressed.BY_REPLY,
    media="photo",
    source="0f",
    visibility=Visibility.ASKER,
    anonymous=True,
    act=ACT,
)
FIELDS = message_to_json(EVERYTHING)
WITH_ACT = "glmbot.act"
ANSWER = {"text": "blue", "state": "final", "notice": "", "finish_reason": "stop", "thought": "hm"}
WRONG: list[Any] = [SECRET, 4711, 0.5, None, [SECRET], {SECRET: 1}, {"a": {SECRET: SECRET}}, True]
TEXTS = {"update_id", "text", "user_name", "language", "ref", "replies_to", "quoted", "quoted_from", "media"}


def is_right(name: str, value: object) -> bool:
    if name in TEXTS or name in ANSWER.keys() - {"state"}:
        return isinstance(value, str)
    if name == "vouched":
        return value is None
    return isinstance(value, bool) and isinstance(FIELDS.get(name), bool)


def test_a_message_is_read_as_it_was_written() -> None:
    assert message_from_json(json.loads(json.dumps(FIELDS))) == EVERYTHING
    plain = Message("u1", ConversationKey("telegram", "11"), UserKey("telegram", "11"), "hi")
    assert message_from_json(json.loads(json.dumps(message_to_json(plain)))) == plain


# As every release has written them: the flags, and what is replied to.
INTENTS: list[tuple[str, Intent, str, dict[str, object]]] = [
    ("hi", Ask(), "m0", {"replies_to": "m0"}),
    ("/ask why", SlashCommand("ask", "why"), "m0", {"replies_to": "m0"}),
    ("hi", Edit(), "m0", {"edits": True, "replies_to": "m0"}),
    ("/retry", Press("m5", "retry"), "", {"in_place": True, "replies_to": "m5"}),
    ("hi", Announce(), "", {"own": True}),
]


@pytest.mark.parametrize(("text", "intent", "replies_to", "flags"), INTENTS)
def test_what_a_message_is_meant_for_is_written_as_it_always_was(
    text: str, intent: Intent, replies_to: str, flags: dict[str, object]
) -> None:
    where, who = EVERYTHING.conversation, EVERYTHING.user
    given = Ask() if isinstance(intent, SlashCommand) else intent
    message = Message("u1", where, who, text, ref="m1", intent=given, replies_to=replies_to)
    assert message.intent == intent
    written = message_to_json(message)
    usual = {"edits": False, "in_place": False, "own": False, "replies_to": ""}
    assert {name: written[name] for name in usual} == {**usual, **flags}
    assert message_from_json(json.loads(json.dumps(written))) == message
    # Where the words are sealed when they are read, they say it once they are open.
    hidden = message_from_json({**written, "text": "sealed:gAAAAA"})
    assert replace(hidden, text=text) == message


@given(st.text() | st.from_regex(r"[/／]\w+(@bot)?[ :]?.*"))
def test_a_text_that_is_a_command_is_meant_as_one(text: str) -> None:
    said = Message("u1", EVERYTHING.conversation, EVERYTHING.user, text)
    assert said.intent == (slash_command(said.text) or Ask())
    assert said.command == slash_command(said.text)
    assert replace(said, intent=Edit()).command == said.command
    assert replace(said, intent=Announce()).command is None
    assert replace(said, text="plain").intent == Ask()


@given(st.dictionaries(st.text(max_size=5), st.recursive(st.none() | st.text(), st.lists, max_leaves=4)))
def test_what_a_later_release_wrote_beside_is_dropped_at_every_depth(later: Mapping[str, Any]) -> None:
    def beside(known: Mapping[str, Any]) -> dict[str, Any]:
        return {**{f"later {name}": value for name, value in later.items()}, **known}

    act = json.dumps(beside(json.loads(FIELDS["origin"][WITH_ACT])))
    assert message_from_json(beside({**FIELDS, "origin": {**FIELDS["origin"], WITH_ACT: act}})) == EVERYTHING
    assert answer_from_json(beside(ANSWER)) == StoredAnswer(**ANSWER)


def test_what_an_earlier_release_did_not_write_has_its_default() -> None:
    needed = {name: FIELDS[name] for name in ("update_id", "conversation", "user", "text")}
    assert message_from_json(needed) == Message("u1", EVERYTHING.conversation, EVERYTHING.user, "hi")
    assert answer_from_json({"text": "", "state": "failed", "notice": "x"}) == StoredAnswer("", "failed", "x")
    for name in needed:
        with pytest.raises(ValueError, match=f"a message: {name}:"):
            message_from_json({other: value for other, value in needed.items() if other != name})


@pytest.mark.parametrize("name", FIELDS)
def test_a_wrong_value_is_refused_by_its_fields_name_and_not_repeated(name: str) -> None:
    for value in WRONG:
        if is_right(name, value):
            continue
        with pytest.raises(ValueError, match=f"^a message: {name}:") as refused:
            message_from_json({**FIELDS, name: value})
        assert_hides(refused.value)


@pytest.mark.parametrize("name", ["album", "at", "cut", "forwarded", "pieces"])
def test_so_is_one_of_an_act(name: str) -> None:
    wrong = [each for each in WRONG if type(each) is not type(getattr(ACT, name)) or each == {SECRET: 1}]
    for value in (*wrong, -1, 2**63, {SECRET: 2**63}, {SECRET: -1}):
        if name == "pieces" and value == {SECRET: 1}:
            continue
        with pytest.raises(ValueError, match=f"^an act: {name}:") as refused:
            message_from_json({**FIELDS, "origin": {WITH_ACT: json.dumps({name: value})}})
        assert_hides(refused.value)


@pytest.mark.parametrize("name", ANSWER)
def test_so_is_one_of_an_answer(name: str) -> None:
    for value in (*WRONG, *(("queued", "streaming") if name == "state" else ())):
        if is_right(name, value):
            continue
        with pytest.raises(ValueError, match=f"^an answer: {name}:") as refused:
            answer_from_json({**ANSWER, name: value})
        assert_hides(refused.value)


@pytest.mark.parametrize(
    "worst", ["[]", "null", '{"a": 1}', '{"a": {"what Ann said 4711": 1}}', "{", "[" * 200_000]
)
def test_what_are_no_marks_is_refused_in_words_of_our_own(worst: str) -> None:
    with pytest.raises(ValueError, match=r".+") as refused:
        marks_from_json(worst)
    assert_hides(refused.value)


@pytest.mark.parametrize("worst", [None, [], 7, SECRET, [SECRET]])
def test_what_is_no_object_is_no_message(worst: object) -> None:
    for read in (message_from_json, answer_from_json):
        with pytest.raises(ValueError, match=r".+") as refused:
            read(worst)
        assert_hides(refused.value)


def assert_hides(error: BaseException) -> None:
    """In what is logged of it, which includes where it came from."""
    told: BaseException | None = error
    while told is not None:
        assert "4711" not in str(told)
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)
