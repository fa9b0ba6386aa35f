"""Matrix: what is read of an event and to whom it is said, and how an answer looks."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nio import ErrorResponse, WhoamiResponse

from adapters.waiting import letters
from glmbot.delivery.outlet import Closed, Flooded, Gone, Missing, NotWritten, Refused, Unreachable
from glmbot.keys import ConversationKey
from glmbot.messages import Action, Addressed, ChatKind, Edit, Message
from glmbot_matrix.buttons import Under, keys_for, legend_of
from glmbot_matrix.client import sieved
from glmbot_matrix.normalize import (
    Deleted,
    Edited,
    Place,
    Reacted,
    Self,
    Unreadable,
    Upgraded,
    from_event,
    is_too_old,
    since_invited,
)
from glmbot_matrix.refusals import MEANINGS, ask, wait_s
from glmbot_matrix.render import NOTICE_ROOM, alone, body_of, fits, render
from platforms.matrix_html import faults_of
from platforms.matrix_server import BOT

ME = Self(BOT, "glm bot", commands={"new", "help"}, sent={"$ours"})
ROOM, PRIVATE = Place("!r:test", private=False), Place("!p:test", private=True)


def said(body: str, kind: str = "m.room.message", /, **content: Any) -> dict[str, Any]:
    given = {"msgtype": "m.text", "body": body, "m.mentions": {}, **content}
    return {"type": kind, "sender": "@ann:test", "event_id": "$1", "origin_server_ts": 1_700_000_000_000,
            "content": given}  # fmt: skip


def mentioning(body: str, **content: Any) -> dict[str, Any]:
    return said(body, **{"m.mentions": {"user_ids": [BOT]}}, **content)


def replying(body: str, to: str, **content: Any) -> dict[str, Any]:
    return said(body, **{"m.relates_to": {"m.in_reply_to": {"event_id": to}}}, **content)


def read(event: dict[str, Any], place: Place = ROOM, me: Self = ME) -> Message:
    message = from_event(event, place, me)
    assert isinstance(message, Message)
    return message


@pytest.mark.parametrize(
    ("event", "addressed"),
    [
        (mentioning("glm bot: hello"), Addressed.BY_MENTION),
        (said("hello"), Addressed.NOT),
        (said("glm bot is slow"), Addressed.NOT),
        (said(f"hello {BOT}", **{"m.mentions": None}), Addressed.BY_MENTION),
        (said("x", **{"m.mentions": None, "formatted_body": f'<a href="https://matrix.to/#/{BOT}">glm</a>'}),
         Addressed.BY_MENTION),
        (said("x", **{"m.mentions": {"room": True}}), Addressed.NOT),
        (said("!roll"), Addressed.NOT),
        (said("/new"), Addressed.BY_COMMAND),
        (replying("go on", "$ours"), Addressed.BY_REPLY),
        (replying("go on", "$theirs"), Addressed.NOT),
        (replying(f"> <{BOT}> an answer\n\ngo on", "$old"), Addressed.BY_REPLY),
    ],
)  # fmt: skip
def test_who_is_spoken_to(event: dict[str, Any], addressed: Addressed) -> None:
    assert read(event).addressed is addressed
    assert read(event, PRIVATE).addressed is Addressed.DIRECTLY


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("glm bot: why", "why"),
        ("@glmbot why", "why"),
        (f"{BOT}: why", "why"),
        ("why, glm bot?", "why,"),
        ("is a glm bot good", "is a glm bot good"),
        ("glm bot: !new", "/new"),
        ("glm bot: !roll", "!roll"),
    ],
)
def test_what_calls_the_bot_is_no_part_of_the_question(body: str, text: str) -> None:
    assert read(mentioning(body)).text == text


def test_a_command_behind_the_sign_that_clients_leave_is_one() -> None:
    assert [read(said(text), PRIVATE).text for text in ("!new", "!NEW x", "!roll", "no!new")] == [
        "/new", "/NEW x", "!roll", "no!new",
    ]  # fmt: skip
    assert read(said("!new")).text == "!new"


@pytest.mark.parametrize(
    "event",
    [
        said("hi", msgtype="m.notice"),
        said("hi", msgtype="m.key.verification.request"),
        {**said("hi"), "sender": BOT},
        {**said("hi"), "state_key": ""},
        said("", "m.room.member"),
        said("", "m.sticker"),
        {**said("hi"), "content": {}},
    ],
)
def test_bots_and_what_nobody_says_are_left_alone(event: dict[str, Any]) -> None:
    assert from_event(event, PRIVATE, ME) is None


def test_a_thread_has_a_history_of_its_own_and_a_person_too() -> None:
    thread = {"rel_type": "m.thread", "event_id": "$root", "is_falling_back": True,
              "m.in_reply_to": {"event_id": "$ours"}}  # fmt: skip
    within = read(mentioning("why", **{"m.relates_to": thread}))
    assert within.conversation == ConversationKey("matrix", "!r:test", "@ann:test", "$root")
    assert within.replies_to == ""
    assert read(said("why"), PRIVATE).conversation == ConversationKey("matrix", "!p:test", "@ann:test")
    opening = read(mentioning("why"), me=Self(BOT, threads=True))
    assert opening.conversation.thread == "$1"
    assert opening.chat_kind is ChatKind.GROUP


def test_what_is_replied_to_is_quoted_where_the_client_says_it() -> None:
    message = read(replying("> <@bob:test> blue\n> or not\n\nwhy?", "$theirs"), PRIVATE)
    assert (message.text, message.quoted, message.replies_to) == ("why?", "blue\nor not", "$theirs")
    # Who quotes somebody by hand says that himself.
    assert read(said("> blue\n\nwhy?"), PRIVATE).text == "> blue\n\nwhy?"


def test_an_edit_says_something_new() -> None:
    new = {"msgtype": "m.text", "body": "two", "m.mentions": {"user_ids": [BOT]}}
    relation = {"rel_type": "m.replace", "event_id": "$0"}
    edited = from_event(said("* two", **{"m.new_content": new, "m.relates_to": relation}), ROOM, ME)
    assert isinstance(edited, Edited)
    assert isinstance(edited.message.intent, Edit)
    assert (edited.message.text, edited.message.ref, edited.message.update_id) == ("two", "$0", "$1")
    assert from_event(said("* two", **{"m.relates_to": relation}), ROOM, ME) is None


def test_pictures_are_named_and_their_captions_read() -> None:
    picture = read(said("look", msgtype="m.image", filename="a.png", url="mxc://a/b"), PRIVATE)
    assert (picture.media, picture.text) == ("photo", "look")
    bare = read(said("a.png", msgtype="m.image", url="mxc://a/b"), PRIVATE)
    assert (bare.media, bare.text) == ("photo", "")
    assert from_event(said("a.png", msgtype="m.image"), ROOM, ME) is None


def test_what_else_is_told() -> None:
    relation = {"rel_type": "m.annotation", "event_id": "$9", "key": "🔄"}
    reacted = from_event({**said(""), "type": "m.reaction", "content": {"m.relates_to": relation}}, ROOM, ME)
    assert reacted == Reacted(ROOM, "$9", "@ann:test", "🔄", "$1")
    for event in ({**said(""), "redacts": "$9", "content": {}}, {**said(""), "content": {"redacts": "$9"}}):
        deleted = from_event({**event, "type": "m.room.redaction"}, ROOM, ME)
        assert deleted == Deleted("!r:test", "$9", 1_700_000_000.0)
    stone = {**said(""), "type": "m.room.tombstone", "content": {"replacement_room": "!n:test"}}
    assert from_event({**stone, "state_key": ""}, ROOM, ME) == Upgraded("!r:test", "!n:test")
    assert from_event(stone, ROOM, ME) is None
    assert from_event(said("", "m.room.encrypted"), ROOM, ME) == Unreadable("!r:test")


def test_what_is_old_or_was_said_before_the_bot_was_asked_to_come_is_nobodys_question() -> None:
    now = 1_700_000_100.0
    assert not is_too_old(said("x"), now, 3600)
    assert is_too_old(said("x"), now + 86_400, 3600)
    # Our homeserver's word counts more than the clock of who sent it.
    assert not is_too_old({**said("x"), "unsigned": {"age": 1000}}, now + 86_400, 3600)

    def member(membership: str, before: str = "") -> dict[str, Any]:
        unsigned = {"unsigned": {"prev_content": {"membership": before}}} if before else {}
        return {"type": "m.room.member", "state_key": BOT, "content": {"membership": membership}, **unsigned}

    old, since, later = said("old"), said("since"), said("later")
    invited = [old, member("invite"), since, member("join", "invite"), later]
    assert since_invited(invited, BOT) == invited[1:]
    assert since_invited([old, member("join"), later], BOT) == [member("join"), later]
    renamed = [old, member("join", "join"), later]
    assert since_invited(renamed, BOT) is renamed


_VALUES = st.sampled_from(
    [None, True, 7, -1, 2**70, 1.5, "", "\ud800", "m.room.message", "m.reaction", "m.replace", "m.thread", "m.text",
     "$e", "@a:b", "!r:b", "@" + "a" * 300 + ":b", "$" + "x" * 300, [], [{}], {}, {"event_id": "$e"},
     {"user_ids": [BOT]}, {"msgtype": "m.text", "body": 5}, {"msgtype": "m.text", "body": "x"},
     {"rel_type": "m.replace", "event_id": "$e"}, {"m.in_reply_to": {"event_id": 5}}]
)  # fmt: skip
_FIELDS = st.dictionaries(
    st.sampled_from(
        ["type", "sender", "event_id", "origin_server_ts", "content", "unsigned", "redacts", "state_key", "msgtype",
         "body", "filename", "formatted_body", "m.mentions", "m.relates_to", "m.new_content", "replacement_room"]
    ),
    _VALUES,
    max_size=12,
)  # fmt: skip


@settings(max_examples=100)
@given(_FIELDS, _FIELDS)
def test_whatever_comes_is_read_or_refused(fields: dict[str, Any], content: dict[str, Any]) -> None:
    for event in (
        fields,
        {**said("x"), **fields},
        {**said("x"), "content": {"msgtype": "m.text", **content}},
    ):
        for place in (ROOM, PRIVATE):
            with suppress(ValueError):
                from_event(event, place, ME)
        with suppress(ValueError):
            is_too_old(event, 0.0, 1.0)
        since_invited([event], BOT)


@settings(max_examples=40)
@given(st.lists(_FIELDS, max_size=4))
def test_one_event_that_can_not_be_read_keeps_no_other_from_being_read(bad: list[dict[str, Any]]) -> None:
    good = said("good")
    rooms = {"join": {"!r:test": {"timeline": {"events": [*bad, good, None, 5]}, "state": 7}, "!s:test": 5}}
    kept = sieved({"next_batch": "s1", "rooms": rooms, "to_device": {"events": [{}]}})
    events = kept["rooms"]["join"]["!r:test"]["timeline"]["events"]
    assert good in events
    assert kept["next_batch"] == "s1"


# ---- what is shown ----------------------------------------------------------------------------------------------


@given(
    st.text(
        alphabet=st.sampled_from("ab1 \n*_~`<>@!#|&[]()-中。$:/\\") | st.characters(codec="utf-8"),
        max_size=200,
    )
)
def test_only_what_the_spec_lists_is_written_and_no_words_are_lost(text: str) -> None:
    html = render(text, "a <notice>")
    said = {"msgtype": "m.notice", "body": body_of(text), "formatted_body": html, "m.mentions": {}}
    assert faults_of(said) == []
    shown: list[str] = []

    from html.parser import HTMLParser

    class Words(HTMLParser):
        def handle_data(self, data: str) -> None:
            shown.append(data)

    Words().feed(html)
    assert letters("".join(shown)).endswith("anotice")


def test_an_answer_looks_as_it_is_meant() -> None:
    html = render(
        "# Head\n\n这是**重点**，见[页](https://a.org/)。\n\n3. one\n4. two\n\n```py main.py\nx < 1\n```\n\n$x^2$\n\n"
        "[bad](tg://user) <b>@room</b> ![p](https://a.org/x.png)\n\n| a |\n| - |\n| 1 |",
        "a note",
    )
    assert "<h1>Head</h1>" in html
    assert "这是<strong>重点</strong>" in html
    assert '<a href="https://a.org/">页</a>' in html
    assert '<ol start="3">' in html
    assert '<pre><code class="language-py">x &lt; 1\n</code></pre>' in html
    assert '<span data-mx-maths="x^2"><code>$x^2$</code></span>' in html
    assert "bad (<code>tg://user</code>)" in html
    assert "&lt;b&gt;@room&lt;/b&gt;" in html
    assert '<a href="https://a.org/x.png">p</a>' in html
    assert "<td>1</td>" in html
    assert html.endswith("<p><em>a note</em></p>")
    assert render("") == "<p>…</p>"


@pytest.mark.parametrize("letter", ["a", "&", "中", "😀", '"', "`", "\n- x"])
def test_what_fits_is_one_event_encrypted_too(letter: str) -> None:
    length = 8000 // len(letter)
    while not fits(letter * length):
        length = length * 9 // 10
    # As /prompt says again what somebody wrote.
    line = alone(letter * 4000)
    assert line == (letter * 4000)[: len(line)]
    assert len(line) > 1000
    for text, notice in ((letter * length, "中" * NOTICE_ROOM), ("", line)):
        content = {"body": body_of(text, notice), "formatted_body": render(text, notice)}
        edit = {
            "m.new_content": content,
            "body": "* " + text[:200],
            "formatted_body": render(text[:200], notice[:200]),
        }
        assert len(json.dumps(edit)) * 4 / 3 + 4000 < 65_536


def test_reactions_say_what_they_are_for_where_they_don_not_by_themselves() -> None:
    usual = [Action("retry", "Retry"), Action("continue", "Continue")]
    assert keys_for(usual) == {"🔄": "retry", "▶️": "continue"}
    assert legend_of(usual) == ""
    asked = [
        Action("toolyesabcdefgh", "Yes"),
        Action("toolnoabcdefgh", "No"),
        Action("toolpickaabcdefgh", "Red" * 99),
    ]
    assert list(keys_for(asked)) == ["✅", "❌", "3️⃣"]
    assert legend_of(asked).startswith("✅ Yes\n❌ No\n3️⃣ Red")
    under = Under("!r:test", "", "", keys_for(usual))
    # Clients write them with and without the sign for a picture.
    assert [under.command(key) for key in ("🔄", "🔄\ufe0f", "▶", "👍")] == ["retry", "retry", "continue", ""]


# ---- what is refused --------------------------------------------------------------------------------------------


class _Answered:
    def __init__(self, status: int, **headers: str) -> None:
        self.status, self.headers = status, headers


async def asked(status: int, code: str | None, **more: Any) -> Exception | None:
    answer = ErrorResponse("words", code, more.get("retry_after_ms"))
    answer.transport_response = _Answered(status)  # pyright: ignore[reportAttributeAccessIssue]

    async def request() -> Any:
        return answer

    try:
        await ask(request())
    except NotWritten as error:
        return error
    return None


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "M_FORBIDDEN", Closed),
        (404, "M_NOT_FOUND", Missing),
        (413, "M_TOO_LARGE", Refused),
        (400, "M_UNKNOWN", Refused),
        (500, "M_UNKNOWN", Unreachable),
        (502, None, Unreachable),
        (401, "M_UNKNOWN_TOKEN", Unreachable),
        (400, "M_UNSUPPORTED_ROOM_VERSION", Gone),
        (429, "M_LIMIT_EXCEEDED", Flooded),
        (429, None, Flooded),
    ],
)
async def test_what_a_refusal_means(status: int, code: str | None, kind: type[NotWritten]) -> None:
    assert type(await asked(status, code)) is kind
    assert all(name.startswith("M_") for name in MEANINGS)


@pytest.mark.parametrize(
    ("given", "header", "waits"),
    [
        (1500, "", 1.5),
        (None, "7", 7.0),
        (10**30, "", 3600.0),
        (-5, "", 0.1),
        (None, "", 5.0),
        ("x", "nan", 5.0),
    ],
)
def test_no_room_rests_for_years_whatever_a_server_says(given: Any, header: str, waits: float) -> None:
    answer = ErrorResponse("", "M_LIMIT_EXCEEDED", given)
    headers = {"Retry-After": header} if header else {}
    answer.transport_response = _Answered(429, **headers)  # pyright: ignore[reportAttributeAccessIssue]
    assert wait_s(answer) == waits
    assert wait_s(WhoamiResponse("@a:b", None, None)) == 5.0
