"""Slack: what comes in and whence, what is refused, and what an answer may never do there."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters import slack_bot
from adapters.scripted import ScriptedEngine, echoing
from adapters.waiting import lawful, letters, nothing_left, running
from conftest import make_dialogue, until
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.registry import Routes
from glmbot.http.replays import Replays
from glmbot.keys import ConversationKey
from glmbot.messages import Addressed, ChatKind, Edit, Message, Reply, ReplyState
from glmbot.store.base import Store
from glmbot_slack.adapter import SlackAdapter
from glmbot_slack.callback import signature_of
from glmbot_slack.delivery import SlackOutlet
from glmbot_slack.normalize import Self, from_command, from_event, from_press, plain_text
from glmbot_slack.render import LONGEST_TEXT, NOTICE_ROOM, fits, measure, render
from glmbot_web.adapter import WebAdapter, WebSettings
from platforms.slack_server import BOT, GROUP, SIGNING_SECRET, SlackServer, channel_of, user_id

ME = Self(BOT, "B1")
PRIVATE = channel_of(7)


@pytest.fixture
async def server() -> AsyncGenerator[SlackServer]:
    async with lawful(SlackServer(seconds_per_message=0.01)) as server:
        yield server


def said(text: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "channel": GROUP,
        "user": "U1",
        "ts": "1700000000.000100",
        "text": text,
        **more,
    }


def read(event: dict[str, Any]) -> Message:
    message = from_event(event, ME)
    assert isinstance(message, Message)
    return message


# ---- what is said -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "addressed"),
    [
        (said(f"<@{BOT}> hello"), Addressed.BY_MENTION),
        (said(f"hello <@{BOT}|glmbot>"), Addressed.BY_MENTION),
        (said("hello"), Addressed.NOT),
        (said("hello <@U2>"), Addressed.NOT),
        (said("!roll"), Addressed.NOT),
        (said("/new"), Addressed.BY_COMMAND),
        (said("go on", thread_ts="1600000000.000100", parent_user_id=BOT), Addressed.BY_REPLY),
        (said("go on", thread_ts="1600000000.000100", parent_user_id="U2"), Addressed.NOT),
        (said("hello", channel=PRIVATE, channel_type="im"), Addressed.DIRECTLY),
    ],
)
def test_who_is_spoken_to(event: dict[str, Any], addressed: Addressed) -> None:
    assert read(event).addressed is addressed


@pytest.mark.parametrize(
    "event",
    [
        said("hi", bot_id="B9"),
        said("hi", subtype="bot_message", bot_id="B9"),
        said("hi", user=BOT, channel=PRIVATE),
        said("hi", user="USLACKBOT", channel=PRIVATE),
        said("joined", subtype="channel_join"),
        {"type": "reaction_added", "user": "U1"},
        {"type": "app_home_opened", "user": "U1", "channel": PRIVATE},
    ],
)
def test_bots_and_what_nobody_says_are_left_alone(event: dict[str, Any]) -> None:
    assert from_event(event, ME) is None


def test_the_words_are_those_that_were_written() -> None:
    written = f"<@{BOT}> is 1 &lt; 2 &amp;&amp; <@U2|ann> in <#C2|news>? <https://a.org/x|a page> <!here>"
    assert read(said(written)).text == "is 1 < 2 && @ann in #news? a page (https://a.org/x) @here"
    # What looks like a mark once it is read was none.
    assert plain_text("&lt;@U1&gt; &amp;lt;") == "<@U1> &lt;"


def test_a_question_in_a_channel_has_a_thread_of_its_own_and_its_follow_up_is_there() -> None:
    asked = read(said(f"<@{BOT}> one"))
    later = read(said(f"<@{BOT}> two", ts="1700000001.000100", thread_ts="1700000000.000100"))
    assert (
        asked.conversation == later.conversation == ConversationKey("slack", GROUP, "U1", "1700000000.000100")
    )
    plain = from_event(said(f"<@{BOT}> one"), Self(BOT, threads=False))
    assert isinstance(plain, Message)
    assert plain.conversation.thread == ""


def test_a_mention_that_comes_as_two_events_is_one() -> None:
    both = [read(said(f"<@{BOT}> one", type=kind)) for kind in ("message", "app_mention")]
    assert both[0].update_id == both[1].update_id


def test_an_edit_says_something_new_and_an_unfolded_link_does_not() -> None:
    before = said("one", channel=PRIVATE)
    after = before | {"text": "two", "edited": {"user": "U1", "ts": "1700000009.000000"}}
    changed = {
        "type": "message",
        "subtype": "message_changed",
        "channel": PRIVATE,
        "previous_message": before,
    }
    edit = read(changed | {"message": after})
    assert isinstance(edit.intent, Edit)
    assert (edit.text, edit.ref) == ("two", before["ts"])
    assert edit.update_id != read(before).update_id
    assert from_event(changed | {"message": before | {"attachments": [{"title": "x"}]}}, ME) is None


def test_a_slash_command_is_a_command_or_a_question() -> None:
    def given(text: str, channel: str = GROUP) -> Message:
        payload = {
            "channel_id": channel,
            "user_id": "U1",
            "user_name": "ann",
            "trigger_id": "1.2.ab",
            "text": text,
        }
        return from_command(payload, {"new", "help"})

    assert [given(text).text for text in ("", "new", "/new", "why not")] == [
        "/help",
        "/new",
        "/new",
        "/ask why not",
    ]
    assert given("why").chat_kind is ChatKind.GROUP
    assert given("why", PRIVATE).chat_kind is ChatKind.PRIVATE


_VALUES = st.sampled_from(
    [None, True, 7, "", "\ud800", "message", "message_changed", "message_deleted", "C1", "D1", "U1", "1.1",
     "block_actions", [], [{}], [{"value": "retry:U1:"}], {}, {"ts": "1.1", "user": "U1", "text": 5}]
)  # fmt: skip
_FIELDS = st.dictionaries(
    st.sampled_from(
        ["type", "subtype", "channel", "user", "ts", "text", "thread_ts", "message", "previous_message", "edited",
         "files", "attachments", "actions", "container", "channel_id", "user_id", "trigger_id", "bot_id"]
    ),
    _VALUES,
    max_size=10,
)  # fmt: skip


@settings(max_examples=60)
@given(_FIELDS)
def test_whatever_comes_is_read_or_refused(fields: dict[str, Any]) -> None:
    for reads in (
        lambda: from_event(fields, ME),
        lambda: from_press(fields),
        lambda: from_command(fields, ()),
    ):
        with suppress(ValueError, TypeError, AttributeError):
            reads()


# ---- what is shown ----------------------------------------------------------------------------------------------


@given(st.text(alphabet=st.sampled_from("ab1 \n*_~`<>@!#|&[]()-中。|:/") | st.characters(), max_size=200))
def test_no_words_are_lost_and_nobody_is_called(text: str) -> None:
    elements, plain = render(text)
    runs = [run for element in elements for run in element["elements"]]
    assert {run["type"] for run in runs} <= {"text", "link"}
    assert all(run["text"] for run in runs)
    assert letters("".join(run["text"] for run in runs)) == letters(plain)


def test_an_answer_looks_as_it_is_meant() -> None:
    elements, plain = render(
        "# Head\n\n这是**重点**，见[页](https://a.org/) 和 https://b.org/x。\n\n- one\n  - two\n\n```py\nx = 1\n```\n\n> said\n\n"
        "[bad](javascript:x) <!channel> <@U1>"
    )
    kinds = [element["type"].removeprefix("rich_text_") for element in elements]
    assert kinds == ["section", "preformatted", "quote", "section"]
    first = elements[0]["elements"]
    assert {"type": "text", "text": "重点", "style": {"bold": True}} in first
    assert [run["url"] for run in first if run["type"] == "link"] == ["https://a.org/", "https://b.org/x"]
    assert "• one\n    • two" in plain
    assert not [run for run in elements[3]["elements"] if run["type"] == "link"]
    assert plain.endswith("<!channel> <@U1>")
    assert render("| a | b |\n| - | - |\n| 1 | 2 |")[1] == "a | b\n--+--\n1 | 2"


def test_a_piece_that_grows_by_escaping_is_split_earlier() -> None:
    assert fits("a" * 3000)
    assert not fits("&" * 1000)
    assert measure("<&>a") == len("&lt;&amp;&gt;a")
    assert LONGEST_TEXT - NOTICE_ROOM > 3000


@pytest.mark.parametrize("sign", ["a", "<", "&"])
@pytest.mark.parametrize("text", ["", "an answer"])
def test_the_bots_own_line_fits_whatever_it_is_made_of(text: str, sign: str) -> None:
    """As /prompt says again what somebody wrote."""
    outlet = object.__new__(SlackOutlet)
    for piece in outlet.cut(Reply(text, ReplyState.FINAL, sign * 4000)):
        assert NOTICE_ROOM <= len(outlet._content(piece, bare=False)["text"]) <= LONGEST_TEXT


# ---- the bot ----------------------------------------------------------------------------------------------------


async def test_a_mention_is_answered_once_in_its_thread(server: SlackServer, sqlite_store: Store) -> None:
    engine = echoing()
    async with slack_bot.bot(server, engine, sqlite_store):
        number = await server.say("why", channel=GROUP, mention=True)
        await until(lambda: bool(server.texts(GROUP)))
        await nothing_left(sqlite_store, "slack")
        assert server.unacknowledged == 0
    (message,) = server.messages[GROUP].values()
    assert message["thread_ts"] == server.said[number]["ts"]
    assert len(engine.prompts) == 1
    assert all(
        not fields.get("unfurl_links") for method, fields in server.calls if method == "chat.postMessage"
    )


async def test_an_event_that_comes_again_is_answered_once(server: SlackServer, sqlite_store: Store) -> None:
    engine = echoing()
    async with slack_bot.bot(server, engine, sqlite_store):
        number = await server.say("one")
        await until(lambda: bool(server.texts(PRIVATE)))
        again = {**server.said[number], "channel_type": "im"}
        await server.disconnect()
        await server.tell(again, event_id="Ev1")
        await server.say("two")
        await until(lambda: len(server.texts(PRIVATE)) == 2)
        await nothing_left(sqlite_store, "slack")
    assert len(engine.prompts) == 2


async def test_a_layout_that_is_refused_leaves_the_words(server: SlackServer, sqlite_store: Store) -> None:
    async with slack_bot.bot(server, ScriptedEngine("**a** < b & <!channel> @here"), sqlite_store):
        server.refusals["chat.update"] = ["invalid_blocks", 1]
        await server.say("one")
        await until(lambda: server.texts(PRIVATE)[:1] == ["a < b & <!channel> @here"])
        await nothing_left(sqlite_store, "slack")


async def test_a_file_that_slack_refuses_for_good_is_left_out(
    server: SlackServer, sqlite_store: Store
) -> None:
    server.upload_status = 413
    code = "\n".join(f"line_{number} = {number}" for number in range(150))
    async with slack_bot.bot(server, ScriptedEngine(f"```python\n{code}\n```"), sqlite_store):
        await server.say("one")
        await until(lambda: any("line_149" in text for text in server.texts(PRIVATE)))
        await nothing_left(sqlite_store, "slack")
    assert not server.files


async def test_where_it_is_no_member_nothing_hangs(server: SlackServer, sqlite_store: Store) -> None:
    async with slack_bot.bot(server, echoing(), sqlite_store):
        server.refusals["chat.postMessage"] = ["channel_not_found", 1]
        await server.command("why")
        await nothing_left(sqlite_store, "slack")
        await server.command("how")
        await until(lambda: server.texts(GROUP) == ["answer to how"])
        await nothing_left(sqlite_store, "slack")


async def test_a_button_of_somebody_elses_is_refused_for_their_eyes_alone(
    server: SlackServer, sqlite_store: Store
) -> None:
    engine = echoing()
    async with slack_bot.bot(server, engine, sqlite_store):
        await server.say("why", channel=GROUP, mention=True)
        await until(lambda: bool(server.texts(GROUP)))
        await nothing_left(sqlite_store, "slack")
        (ts,) = server.messages[GROUP]
        for _ in range(20):
            await server.press(GROUP, ts, "retry", user=8)
        await until(lambda: server.unacknowledged == 0)
        await until(lambda: bool(server.ephemeral))
        await nothing_left(sqlite_store, "slack")
    # Who presses without end is told so now and then.
    assert [told[:2] for told in server.ephemeral] == [(GROUP, user_id(8))]
    assert len(engine.prompts) == 1


async def test_anybody_of_a_channel_votes_by_a_button_and_is_told_the_counts(
    server: SlackServer, sqlite_store: Store
) -> None:
    async with slack_bot.bot(server, echoing(), sqlite_store):
        await server.command("/poll Which? | a < b | b")
        await until(lambda: bool(server.texts(GROUP)))
        await nothing_left(sqlite_store, "slack")
        (ts,) = server.messages[GROUP]
        await server.press(GROUP, ts, server.buttons(GROUP, ts)[0], user=8)
        await until(lambda: bool(server.ephemeral))
    assert server.ephemeral == [
        (GROUP, user_id(8), "You voted for a &lt; b. (a &lt; b 1, b 0)"),
    ]


async def test_the_tab_home_says_what_the_bot_can_do_and_is_shown_once(
    server: SlackServer, sqlite_store: Store
) -> None:
    async with slack_bot.bot(server, echoing(), sqlite_store):
        server.refusals["views.publish"] = ["internal_error", 1]
        while user_id(7) not in server.homes:
            await server.open_home()
            await until(lambda: server.unacknowledged == 0)
        await server.open_home()
        await server.open_home(8)
        await until(lambda: user_id(8) in server.homes)
    (shown,) = server.homes[user_id(7)]
    assert shown[0] == "What I can do:"
    assert any(line.startswith("/new") for line in shown)


async def test_a_wrong_token_says_which_and_where(server: SlackServer, sqlite_store: Store) -> None:
    for key in ("token", "app_token"):
        wrong = {key: SecretStr("xapp-1-wrong-wrong")}
        adapter = SlackAdapter(
            slack_bot.settings_for(server, **wrong), make_dialogue(echoing(), sqlite_store)
        )
        with pytest.raises(PlatformRefused, match=rf"\[slack\] {key}"):
            await adapter.start()
        await adapter.stop()
    server.out_of_order_until = time.monotonic() + 60
    adapter = SlackAdapter(slack_bot.settings_for(server), make_dialogue(echoing(), sqlite_store))
    with pytest.raises(AdapterError):
        await adapter.start()
    await adapter.stop()


@pytest.mark.parametrize("fault", ["refuses", "silent"])
async def test_a_connection_that_can_t_be_opened_is_told_in_one_line_without_a_traceback(
    server: SlackServer,
    sqlite_store: Store,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("glmbot_slack.client._TIMEOUT_S", 0.3)
    server.link_fault = fault
    adapter = SlackAdapter(slack_bot.settings_for(server), make_dialogue(echoing(), sqlite_store))
    with pytest.raises(AdapterError, match=r"no connection of Socket Mode could be opened \(\w+Error\)$"):
        await adapter.start()
    await adapter.stop()
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    assert server.links == 1


async def test_a_connection_that_is_closed_again_and_again_is_opened_in_peace(
    server: SlackServer, sqlite_store: Store
) -> None:
    async with slack_bot.bot(server, echoing(), sqlite_store):
        server.link_fault = "closes"
        await server.disconnect()
        await until(lambda: server.links == 2, 5.0)
        server.link_fault = ""
        await server.say("one")
        await until(lambda: server.texts(PRIVATE) == ["answer to one"], 10.0)
        await nothing_left(sqlite_store, "slack")
    assert server.links == 3


async def test_doctor_says_which_scope_is_missing(server: SlackServer) -> None:
    assert all(well for well, _ in await SlackAdapter.examine(slack_bot.settings_for(server)))
    server.scopes = "app_mentions:read,im:history,commands"
    wrong = [words for well, words in await SlackAdapter.examine(slack_bot.settings_for(server)) if not well]
    assert len(wrong) == 2
    assert "chat:write" in wrong[0]


# ---- what Slack posts -------------------------------------------------------------------------------------------


def test_the_signature_is_that_of_slacks_own_example() -> None:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    expected = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    assert signature_of(SIGNING_SECRET, "1531420618", body) == expected


def test_a_signed_request_counts_once_and_not_for_long() -> None:
    now = 1000.0
    replays = Replays(lambda: now, 300)
    assert [replays.fresh(stamp) for stamp in ("1000", "700", "699", "1301", "", "x", "٣", "9" * 400)] == [
        True, True, False, False, False, False, False, False,
    ]  # fmt: skip
    replays.take("a")
    assert replays.seen("a")
    now = 1601.0
    replays.take("b")
    assert not replays.seen("a")
    for number in range(30_000):
        replays.take(str(number))
    assert len(replays._seen) <= 20_000


async def test_posted_events_are_taken_once_and_only_with_their_signature(
    server: SlackServer, sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    routes, engine = Routes(), echoing()
    web = WebAdapter(WebSettings(port=0), make_dialogue(engine, sqlite_store))
    posted = {"app_token": None, "signing_secret": SecretStr(SIGNING_SECRET)}
    async with running(web, routes), slack_bot.bot(server, engine, sqlite_store, routes, settings=posted):
        server.posts_to = f"{web.url}/slack/events"
        assert await server.post("events_api", {"type": "url_verification", "challenge": "c1"}) == 200
        assert server.said_back == "c1"
        await server.say("one")
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        await server.command("new")
        await until(
            lambda: any("put aside" in text for text in server.texts(GROUP)) or bool(server.texts(GROUP))
        )
        await nothing_left(sqlite_store, "slack")
        (ts,) = list(server.messages[PRIVATE])
        await server.press(PRIVATE, ts, "retry")
        await until(lambda: len(engine.prompts) == 2)
        assert server.posted == [200, 200, 200]
        event = {"type": "event_callback", "event": said("late", channel=PRIVATE)}
        # Who is refused without end fills no log.
        with caplog.at_level("WARNING"):
            for _ in range(3):
                assert await server.post("events_api", event, at=time.time() - 301) == 401
                assert await server.post("events_api", event, secret="another") == 401
        assert sum("is refused; is" in each.getMessage() for each in caplog.records) == 2
        at = time.time()
        assert await server.post("events_api", event, at=at) == 200
        assert await server.post("events_api", event, at=at) == 403
        async with aiohttp.ClientSession() as session, session.post(server.posts_to, json=event) as answer:
            assert answer.status == 401
        await nothing_left(sqlite_store, "slack")
