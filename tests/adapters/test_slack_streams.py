"""Slack's streams: where an answer grows as one, what may not be lost or doubled when one is refused or ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import slack_bot
from adapters.scripted import ScriptedEngine, echoing
from adapters.waiting import lawful, nothing_left
from conftest import until
from glmbot.delivery.outlet import Piece
from glmbot.delivery.pace import Pace
from glmbot.delivery.stream import show
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Action, ChatKind, Message, Reply, ReplyState
from glmbot.store.base import Store
from glmbot_slack.client import session_for, web_client
from glmbot_slack.delivery import SlackOutlet
from glmbot_slack.normalize import TEAM
from glmbot_slack.streams import LONGEST_APPEND, Stream, Streams, delete, growth, harmless
from platforms.slack_server import GROUP, SlackServer, channel_of

PRIVATE = channel_of(7)
THREAD = "1700000000.000100"
STOP, RETRY = Action("stop", "Stop"), Action("retry", "Retry")
STARTED, APPENDED, STOPPED = "chat.startStream", "chat.appendStream", "chat.stopStream"


@pytest.fixture
async def server() -> AsyncGenerator[SlackServer]:
    async with lawful(SlackServer(seconds_per_message=0.001)) as server:
        yield server


class Talk:
    """One answer in a thread, as delivery writes it; `outlet()` is that of a process."""

    def __init__(self, server: SlackServer, chat: str = PRIVATE, thread: str = THREAD) -> None:
        self.server, self.chat = server, chat
        private = chat.startswith("D")
        self.streams = Streams("threads")
        self.streams.team = "T1"
        self.message = Message(
            "m1",
            ConversationKey("slack", chat, "" if private else "U0000007", thread),
            UserKey("slack", "U0000007"),
            "why",
            chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        )
        self.sent: list[str] = []

    async def __aenter__(self) -> Talk:
        self.session = session_for()
        self.client = web_client(slack_bot.settings_for(self.server), self.session)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    def outlet(self) -> SlackOutlet:
        return SlackOutlet(self.client, self.message, self.streams)

    async def write(self, *texts: str, ends: bool = True, notices: Sequence[str] = ()) -> None:
        """The texts as snapshots, each of which Slack has before the next one comes."""
        shown = asyncio.Event()

        async def replies() -> AsyncGenerator[Reply]:
            lines = [*notices, *[""] * len(texts)]
            for text, notice in zip(texts, lines, strict=False):
                yield Reply(text, ReplyState.STREAMING, notice, actions=(STOP,))
                for _ in range(200):
                    if any(text.strip("*") in each for each in self.server.texts(self.chat)):
                        break
                    await asyncio.sleep(0.005)
            shown.set()
            if ends:
                yield Reply(texts[-1], ReplyState.FINAL, actions=(RETRY,))
            else:
                await asyncio.Event().wait()

        async def note(ids: Sequence[str]) -> None:
            self.sent = list(ids)

        writing = asyncio.ensure_future(
            show(replies(), self.outlet(), Pace(0.001), sent=self.sent, on_sent=note)
        )
        if not ends:
            await shown.wait()
            writing.cancel()
        await asyncio.gather(writing, return_exceptions=not ends)

    def methods(self) -> list[str]:
        return [method for method, _ in self.server.calls]

    def fields(self, method: str) -> dict[str, Any]:
        return next(fields for name, fields in self.server.calls if name == method)


# ---- where ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chat", [PRIVATE, GROUP])
async def test_an_answer_in_a_thread_grows_by_what_is_appended(server: SlackServer, chat: str) -> None:
    async with Talk(server, chat) as talk:
        # The server takes a call, or an address that it might open, for a broken law.
        hostile = "one <!channel> & <@U1> https://a.org/?q=1"
        await talk.write(hostile, f"{hostile} **two**")
        (ts,) = server.messages[chat]
        assert server.texts(chat) == [f"{hostile} two"]
        assert server.buttons(chat, ts) == ["retry"]
        assert talk.methods() == [STARTED, APPENDED, APPENDED, STOPPED, "chat.update"]
        begun = talk.fields(STARTED)
        assert begun["thread_ts"] == THREAD
        assert (begun["recipient_user_id"], begun["recipient_team_id"]) == ("U0000007", "T1")


async def test_where_there_is_no_thread_or_none_is_wanted_it_grows_by_edits(server: SlackServer) -> None:
    async with Talk(server, thread="") as talk:
        await talk.write("one", "one two")
    async with Talk(server, GROUP) as talk:
        talk.streams = Streams("private")
        talk.streams.team = "T1"
        await talk.write("one", "one two")
    assert server.texts(PRIVATE) == server.texts(GROUP) == ["one two"]
    assert STARTED not in talk.methods()


async def test_who_asks_from_another_workspace_is_named_with_it(server: SlackServer) -> None:
    async with Talk(server, GROUP) as talk:
        talk.message = replace(talk.message, origin={TEAM: "T9"})
        await talk.write("one")
        assert talk.fields(STARTED)["recipient_team_id"] == "T9"


async def test_a_bot_streams_in_a_thread_and_the_button_is_there_meanwhile(
    server: SlackServer, sqlite_store: Store
) -> None:
    engine = ScriptedEngine("one two three", steps=3)
    engine.goes_on.clear()
    async with slack_bot.bot(server, engine, sqlite_store):
        await server.say("why", thread=THREAD, channel=PRIVATE)
        await until(lambda: any(server.buttons(PRIVATE, ts) for ts in server.messages[PRIVATE]))
        (ts,) = server.messages[PRIVATE]
        await until(lambda: server.texts(PRIVATE) != [])
        assert server.is_open(server.messages[PRIVATE][ts])
        await server.press(PRIVATE, ts, "stop")
        await nothing_left(sqlite_store, "slack")
        assert not server.is_open(server.messages[PRIVATE][ts])


# ---- what is refused, and what ends -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    ["unknown_method", "missing_scope", "method_not_supported_for_channel_type", "channel_type_not_supported",
     "missing_recipient_user_id", "streaming_state_conflict", "invalid_arguments", "invalid_chunks", "internal_error",
     "ratelimited", "user_not_found", "not_in_channel", "message_not_found"],
)  # fmt: skip
async def test_where_no_stream_may_begin_the_answer_grows_by_edits(server: SlackServer, refusal: str) -> None:
    server.refusals[STARTED] = [refusal, 1]
    async with Talk(server) as talk:
        await talk.write("one", "one two")
        assert server.texts(PRIVATE) == ["one two"]
        assert talk.methods().count(STARTED) == 1
        assert "chat.postMessage" in talk.methods()


@pytest.mark.parametrize("method", [APPENDED, STOPPED])
@pytest.mark.parametrize(
    "refusal", ["message_not_in_streaming_state", "stopped_by_user", "streaming_state_conflict", "invalid_arguments",
                "internal_error", "ratelimited"],
)  # fmt: skip
async def test_a_stream_that_is_refused_loses_and_doubles_no_word(
    server: SlackServer, method: str, refusal: str
) -> None:
    server.refusals[method] = [refusal, 1]
    async with Talk(server) as talk:
        await talk.write("one", "one two", "one two three")
        assert server.texts(PRIVATE) == ["one two three"]
        assert not any(server.is_open(message) for message in server.messages[PRIVATE].values())


@pytest.mark.parametrize(
    ("refusal", "asked"), [("unknown_method", 1), ("missing_scope", 1), ("channel_type_not_supported", 2)]
)
async def test_a_workspace_without_streams_is_not_asked_at_each_answer(
    server: SlackServer, refusal: str, asked: int
) -> None:
    server.refusals[STARTED] = [refusal, 9]
    async with Talk(server) as talk:
        for text in ("one", "two"):
            talk.sent = []
            await talk.write(text)
        assert server.texts(PRIVATE) == ["one", "two"]
        assert talk.methods().count(STARTED) == asked


@pytest.mark.parametrize("method", [STARTED, APPENDED, STOPPED, "chat.update"])
async def test_an_answer_of_slacks_that_gets_lost_doubles_no_word(server: SlackServer, method: str) -> None:
    server.lost[method] = 1
    async with Talk(server) as talk:
        await talk.write("one", "one two")
        assert server.texts(PRIVATE) == ["one two"]


async def test_words_of_which_nobody_knows_whether_they_came_are_not_appended_again(
    server: SlackServer,
) -> None:
    server.lost[APPENDED] = 1
    async with Talk(server) as talk:
        await talk.write("one", "one two", ends=False)
        await until(lambda: server.texts(PRIVATE) == ["one two"])
        assert talk.methods()[:2] == [STARTED, APPENDED]
        assert "chat.update" in talk.methods()


async def test_a_stream_that_slack_closes_goes_on_in_the_same_message(server: SlackServer) -> None:
    server.stream_s = 0.0
    async with Talk(server) as talk:
        await talk.write("one", "one two")
        assert server.texts(PRIVATE) == ["one two"]
        assert len(server.messages[PRIVATE]) == 1
        assert "chat.postMessage" not in talk.methods()


async def test_a_stream_is_ended_before_slack_would(server: SlackServer) -> None:
    now = 0.0
    async with Talk(server) as talk:
        talk.streams = Streams("threads", lambda: now)
        talk.streams.team = "T1"
        outlet = talk.outlet()
        pieces = [outlet.cut(Reply(text, ReplyState.STREAMING))[-1] for text in ("one", "one two")]
        ts = await outlet.send(replace(pieces[0], text="", notice="…"), "0")
        await outlet.edit(ts, pieces[0])
        now = 241.0
        await outlet.edit(ts, pieces[1])
        assert talk.methods() == [STARTED, APPENDED, STOPPED, "chat.update"]


async def test_a_stream_is_ended_in_time_where_nothing_more_is_said(
    server: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot_slack.streams._LONGEST_S", 0.2)
    async with Talk(server) as talk:
        await talk.write("one", ends=False)
        (ts,) = server.messages[PRIVATE]
        await until(lambda: not server.is_open(server.messages[PRIVATE][ts]))
        # By the first edit as well, where that came so late.
        before = talk.methods().count(STOPPED)
        await talk.write("one", "one two")
        assert server.texts(PRIVATE) == ["one two"]
        assert talk.methods().count(STOPPED) == before
        assert talk.streams._open == {}


async def test_a_bot_that_stops_leaves_no_stream_open(
    server: SlackServer, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot_slack.adapter._DRAIN_S", 0.1)
    engine = ScriptedEngine("one two three", steps=3)
    engine.goes_on.clear()
    async with slack_bot.bot(server, engine, sqlite_store):
        await server.say("why", thread=THREAD, channel=PRIVATE)
        await until(lambda: server.texts(PRIVATE) != [])
        (ts,) = server.messages[PRIVATE]
        assert server.is_open(server.messages[PRIVATE][ts])
    assert not server.is_open(server.messages[PRIVATE][ts])
    engine.goes_on.set()


async def test_words_that_change_are_written_anew(server: SlackServer) -> None:
    async with Talk(server) as talk:
        await talk.write("one two", "one three", "one three four")
        assert server.texts(PRIVATE) == ["one three four"]


async def test_buttons_that_a_stream_may_not_have_come_with_its_end(server: SlackServer) -> None:
    server.refusals[APPENDED] = ["invalid_blocks", 1]
    async with Talk(server) as talk:
        await talk.write("one", "one two")
        assert not talk.streams.buttons
        assert talk.methods().count(APPENDED) == 3
        (ts,) = server.messages[PRIVATE]
        assert server.buttons(PRIVATE, ts) == ["retry"]


async def test_the_bots_own_line_is_a_task_of_the_stream(server: SlackServer) -> None:
    async with Talk(server) as talk:
        await talk.write("", "one", notices=["place 3 <!here>"])
        tasks = [
            (chunk["title"], chunk["status"])
            for method, fields in server.calls
            if method in (STARTED, APPENDED)
            for chunk in fields["chunks"]
            if chunk["type"] == "task_update"
        ]
        line = "place 3 &lt;!here&gt;"
        assert tasks == [(line, "in_progress"), (line, "complete")]
        assert server.texts(PRIVATE) == ["one"]


async def test_the_next_process_ends_a_stream_and_finishes_the_answer(server: SlackServer) -> None:
    async with Talk(server) as talk:
        await talk.write("one two", ends=False)
        (ts,) = server.messages[PRIVATE]
        assert server.is_open(server.messages[PRIVATE][ts])
        assert talk.sent == [ts]
        await talk.write("one", "one two", "one two three")
        assert server.texts(PRIVATE) == ["one two three"]
        assert list(server.messages[PRIVATE]) == [ts]


async def test_an_answer_of_which_a_stream_stands_can_be_taken_away(server: SlackServer) -> None:
    async with Talk(server) as talk:
        await talk.write("one two", ends=False)
        await delete(talk.client, PRIVATE, talk.sent[0])
        assert not server.messages[PRIVATE]


async def test_a_deleted_question_s_answer_is_taken_away_also_while_slack_is_flooded(
    server: SlackServer, sqlite_store: Store
) -> None:
    async with slack_bot.bot(server, echoing(), sqlite_store):
        number = await server.say("why")
        await until(lambda: server.texts(PRIVATE) == ["answer to why"])
        await nothing_left(sqlite_store, "slack")
        server.refusals["chat.delete"] = ["ratelimited", 1]
        await server.delete(number)
        await until(lambda: not server.messages[PRIVATE])
        assert [method for method, _ in server.calls].count("chat.delete") == 2


# ---- decisions --------------------------------------------------------------------------------------------------

_WORDS = st.text(alphabet=st.sampled_from("ab <>&@!*`\n中:/"), max_size=30)


@given(_WORDS, _WORDS)
def test_what_is_appended_to_what_stands_there_is_the_text_and_calls_nobody(before: str, now: str) -> None:
    grown = growth(Stream(0.0, harmless(before)), Piece(now), ())
    if grown is None:
        assert not now.startswith(before)
        return
    stream, chunks = grown
    more = "".join(chunk["text"] for chunk in chunks)
    assert harmless(before) + more == stream.said == harmless(now)
    assert "<" not in more
    assert "://" not in stream.said


def test_more_than_slack_takes_at_once_is_not_appended() -> None:
    assert growth(Stream(0.0), Piece("a" * LONGEST_APPEND), ()) is not None
    assert growth(Stream(0.0), Piece("a" * (LONGEST_APPEND + 1)), ()) is None
    assert growth(Stream(0.0), Piece("", "a" * 257), ()) is None


def test_other_buttons_are_not_appended() -> None:
    stream, _ = growth(Stream(0.0), Piece("a", actions=(STOP,)), [{}]) or pytest.fail("it can be appended")
    assert growth(stream, Piece("ab", actions=(STOP,)), [{}]) is not None
    assert growth(stream, Piece("ab", actions=(RETRY,)), [{}]) is None


def test_no_more_streams_begin_than_slack_allows_and_none_where_it_refused() -> None:
    now = 1000.0
    streams = Streams("threads", lambda: now)
    assert [streams.begin() for _ in range(21)] == [True] * 20 + [False]
    now += 61
    assert streams.begin()
    streams.rest(30)
    now += 29
    assert not streams.begin()
    now += 2
    assert streams.begin()
