"""Feishu: what comes in and whence, what is refused, how cards grow, and what an answer may never do there."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters import feishu_bot
from adapters.scripted import ScriptedEngine, echoing
from adapters.waiting import lawful, letters, nothing_left, running
from conftest import make_dialogue, until
from glmbot.delivery.outlet import Piece
from glmbot.errors import PlatformRefused
from glmbot.http.registry import Routes
from glmbot.keys import ConversationKey
from glmbot.messages import Action, Addressed, ChatKind, Message, PressedButton
from glmbot.store.base import Store
from glmbot_feishu.adapter import FeishuAdapter
from glmbot_feishu.callback import decrypted
from glmbot_feishu.cards import card_of
from glmbot_feishu.connection import Parts
from glmbot_feishu.delivery import Sequences
from glmbot_feishu.frames import DATA, Frame, read_frame, written
from glmbot_feishu.normalize import from_event
from glmbot_feishu.render import LONGEST_CARD, fits, render
from glmbot_web.adapter import WebAdapter, WebSettings
from platforms.feishu_server import BOT, ENCRYPT_KEY, GROUP, FeishuServer, chat_of, encrypted, user_id

PRIVATE = chat_of(7)


@pytest.fixture
async def server() -> AsyncGenerator[FeishuServer]:
    async with lawful(FeishuServer(messages_per_second=1000)) as server:
        yield server


def event(message: dict[str, Any], sender_type: str = "user") -> dict[str, Any]:
    whole = {
        "message_id": "om_1", "chat_id": GROUP, "chat_type": "group", "message_type": "text", "create_time": "1700000000000",
        "content": '{"text": "hello"}', **message,
    }  # fmt: skip
    sender = {"sender_type": sender_type, "sender_id": {"open_id": "ou_1"}}
    return {"header": {"event_type": "im.message.receive_v1"}, "event": {"sender": sender, "message": whole}}


def text(words: str) -> dict[str, str]:
    return {"content": json.dumps({"text": words})}


OURS = {"mentions": [{"key": "@_user_1", "id": {"open_id": BOT}, "name": "glm"}]}
OTHERS = {"mentions": [{"key": "@_user_1", "id": {"open_id": "ou_2"}, "name": "ann"}]}


# ---- what is said -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "addressed", "words"),
    [
        (text("@_user_1 hello") | OURS, Addressed.BY_MENTION, "hello"),
        (text("@_user_1 hello") | OTHERS, Addressed.NOT, "@ann hello"),
        (text("hello @_all"), Addressed.NOT, "hello @all"),
        (text("/new"), Addressed.BY_COMMAND, "/new"),
        (text("!roll"), Addressed.NOT, "!roll"),
        (text("hello") | {"chat_type": "p2p"}, Addressed.DIRECTLY, "hello"),
    ],
)
def test_who_is_spoken_to_and_in_which_words(
    message: dict[str, Any], addressed: Addressed, words: str
) -> None:
    read = from_event(event(message), BOT)
    assert isinstance(read, Message)
    assert (read.addressed, read.text) == (addressed, words)


def test_other_bots_and_other_events_are_left_alone() -> None:
    assert from_event(event(text("hi"), sender_type="app"), BOT) is None
    assert from_event({"header": {"event_type": "im.chat.member.bot.added_v1"}, "event": {}}, BOT) is None
    assert from_event(event({"message_type": "sticker", "content": '{"file_key": "f"}'}), BOT) is None


def test_a_rich_text_is_its_words() -> None:
    lines = [
        [{"tag": "at", "user_id": "@_user_1"}, {"tag": "text", "text": " see "}, {"tag": "a", "text": "this", "href": "https://a.org"}],
        [{"tag": "code_block", "language": "PYTHON", "text": "x = 1"}],
        [{"tag": "img", "image_key": "i"}],
    ]  # fmt: skip
    message = {"message_type": "post", "content": json.dumps({"title": "T", "content": lines})} | OURS
    read = from_event(event(message), BOT)
    assert isinstance(read, Message)
    assert read.text == "T\nsee this (https://a.org)\n```python\nx = 1\n```"
    assert (read.media, read.addressed) == ("photo", Addressed.BY_MENTION)


def test_a_topic_is_a_conversation_of_its_own() -> None:
    read = from_event(event(text("@_user_1 hi") | OURS | {"thread_id": "omt_9"}), BOT)
    assert isinstance(read, Message)
    assert read.conversation == ConversationKey("feishu", GROUP, "ou_1", "omt_9")
    assert read.chat_kind is ChatKind.GROUP


_VALUES = st.sampled_from(
    [None, True, 7, "", "\ud800", "{", '{"text": 5}', '{"content": [[{"tag": "text"}], 5]}', "p2p", "text", "post",
     "om_1", "oc_1", "ou_1", [], [{}], [{"key": "@_user_1"}], {}, {"value": {"glmbot": "retry"}},
     "im.message.receive_v1", "1700000000000"]
)  # fmt: skip
_FIELDS = st.dictionaries(
    st.sampled_from(["message_id", "chat_id", "chat_type", "message_type", "content", "create_time", "mentions",
                     "thread_id", "parent_id", "action", "context", "operator", "recall_time"]),
    _VALUES,
    max_size=10,
)  # fmt: skip


@settings(max_examples=60)
@given(
    _FIELDS, st.sampled_from(["im.message.receive_v1", "im.message.recalled_v1", "card.action.trigger", None])
)
def test_whatever_comes_is_read_or_refused(fields: dict[str, Any], kind: object) -> None:
    whole = event(fields)
    whole["header"]["event_type"] = kind
    whole["event"] |= fields
    with suppress(ValueError, TypeError, AttributeError):
        from_event(whole, BOT)


# ---- frames -----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**31 - 1),
    st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=4),
    st.binary(max_size=300),
)
def test_a_frame_is_read_as_it_was_written(
    sequence: int, service: int, headers: dict[str, str], payload: bytes
) -> None:
    frame = Frame(DATA, service, headers, payload, sequence, 3, {6: b"gzip"})
    assert read_frame(written(frame)) == frame


def test_a_frame_is_that_of_the_official_package() -> None:
    """What lark-oapi 1.7.5 makes of a ping of service 42, byte for byte."""
    ping = bytes.fromhex("08001000182a20002a0c0a0474797065120470696e67")
    assert read_frame(ping) == Frame(0, 42, {"type": "ping"})
    assert written(Frame(0, 42, {"type": "ping"})).startswith(ping)


@settings(max_examples=60)
@given(st.binary(max_size=100))
def test_bytes_that_are_no_frame_are_refused(content: bytes) -> None:
    with suppress(ValueError):
        read_frame(content)


def test_events_in_parts_are_joined_in_any_order_and_only_so_many_wait() -> None:
    parts = Parts()

    def part(name: str, index: int, count: int = 2) -> bytes | None:
        headers = {"message_id": name, "sum": str(count), "seq": str(index)}
        return parts.whole(Frame(DATA, 1, headers, str(index).encode()))

    assert part("a", 1) is None
    assert part("a", 0) == b"01"
    for number in range(100):
        part(f"b{number}", 0)
    assert len(parts._waiting) <= 21
    with pytest.raises(ValueError, match="too many"):
        part("c", 0, 10_000)


# ---- what is shown ----------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(st.text(alphabet=st.sampled_from("ab1 \n*_~`<>@!#|&[]()-中。:/=") | st.characters(), max_size=200))
def test_no_words_are_lost_and_no_tag_is_written(markdown: str) -> None:
    shown = render(markdown)
    assert re.search(r"<(?!\u200b)[A-Za-z/!]", shown) is None
    plain = re.sub(r"&#(\d+);", lambda sign: chr(int(sign[1])), shown)
    wanted = letters(render(letters(markdown)))
    assert len(letters(plain)) >= len(wanted) - len("latex")


@pytest.mark.parametrize(
    "calling",
    [
        "<at id=all></at>",
        "`<at id=all></at>`",
        "```\n<at id=all></at>\n```",
        "| a |\n| - |\n| <at id=all></at> |",
        "[<at id=all></at>](https://a.org)",
        "$<at id=all></at>$",
        "# <at id=all></at>",
        "&lt;at id=all&gt;&lt;/at&gt;",
        "<person id = 'ou_1'></person>",
    ],
)
def test_nobody_is_called_by_what_the_model_says(calling: str) -> None:
    assert re.search(r"<(?!\u200b)[a-z/]", render(calling)) is None
    assert "id" in render(calling)


def test_an_answer_looks_as_it_is_meant() -> None:
    shown = render(
        "# 标题\n\n这是**重点**，见[页](https://a.org/)。\n\n- one\n  - two\n\n1. *a*\n\n[bad](ftp://x) :OK: 2 * 3\n\n| a | b |\n| - | - |\n| 1 | 2 |"
    )
    assert shown == (
        "# 标题\n\n这是**重点**，见[页](https://a.org/)。\n\n- one\n  - two\n\n1. *a*\n\n"
        "bad (`ftp://x`) &#58;OK: 2 &#42; 3\n\n```\na | b\n--+--\n1 | 2\n```"
    )


def test_a_card_that_fits_has_less_than_feishu_takes() -> None:
    words = '"\\\n中' * 1800
    assert not fits(words * 3)
    longest = next(words[:length] for length in range(len(words), 0, -200) if fits(words[:length]))
    card = card_of(Piece(longest, "n" * 400, (Action("retry", "Retry"),)), [{"glmbot": "retry"}])
    assert len(json.dumps(card).encode("utf-8")) > len(card.encode())
    assert len(card.encode()) < LONGEST_CARD


def test_numbers_of_changes_grow_also_over_a_restart() -> None:
    now = 1_700_000_000.0
    first = Sequences(lambda: now)
    numbers = [first.next() for _ in range(5)]
    now += 1
    numbers += [Sequences(lambda: now).next()]
    assert numbers == sorted(set(numbers))
    assert max(numbers) < 2**31


# ---- the bot ----------------------------------------------------------------------------------------------------


async def test_an_answer_grows_in_one_card_that_streams_and_ends(
    server: FeishuServer, sqlite_store: Store
) -> None:
    engine = ScriptedEngine(" ".join(f"word{number}" for number in range(40)), steps=20, step_s=0.05)
    async with feishu_bot.bot(server, engine, sqlite_store):
        await server.say("go on", chat=GROUP, mention=True)
        await until(lambda: any("word39" in each for each in server.texts(GROUP)))
        await nothing_left(sqlite_store, "feishu")
    assert len(server.cards) == 1
    streamed = [path for _, path in server.calls if path.endswith("/elements/answer/content")]
    assert len(streamed) >= 3
    (card,) = server.cards.values()
    assert card["card"]["config"]["streaming_mode"] is False
    (message,) = server.messages[GROUP].values()
    assert message["question"] == next(iter(server.said.values()))["message_id"]


async def test_where_streaming_was_closed_the_card_is_written_as_a_whole(
    server: FeishuServer, sqlite_store: Store
) -> None:
    server.refusals["/content"] = [200850, 2]
    engine = ScriptedEngine(" ".join(f"word{number}" for number in range(40)), steps=20, step_s=0.05)
    async with feishu_bot.bot(server, engine, sqlite_store):
        await server.say("go on")
        await until(lambda: any("word39" in each for each in server.texts(PRIVATE)))
        await nothing_left(sqlite_store, "feishu")
    assert server.refusals["/content"][1] == 0


@pytest.mark.parametrize("status", [403, 413])
async def test_a_file_whose_upload_is_refused_by_a_page_is_left_out(
    server: FeishuServer, sqlite_store: Store, status: int
) -> None:
    server.pages["/im/v1/files"] = status
    code = "\n".join(f"line_{number} = {number}" for number in range(150))
    async with feishu_bot.bot(server, ScriptedEngine(f"```python\n{code}\n```"), sqlite_store):
        await server.say("one")
        await until(lambda: any("line_149" in text for text in server.texts(PRIVATE)))
        await nothing_left(sqlite_store, "feishu")
    assert not server.files


async def test_a_topic_is_answered_in_the_topic(server: FeishuServer, sqlite_store: Store) -> None:
    async with feishu_bot.bot(server, echoing(), sqlite_store):
        await server.say("why", chat=GROUP, mention=True, thread="omt_1")
        await until(lambda: server.texts(GROUP) == ["answer to why"])
        await nothing_left(sqlite_store, "feishu")
    (message,) = server.messages[GROUP].values()
    assert message["in_thread"] is True


async def test_a_question_that_is_recalled_before_it_is_answered_is_answered_without_a_quotation(
    server: FeishuServer, sqlite_store: Store
) -> None:
    async with feishu_bot.bot(server, echoing(), sqlite_store):
        server.refusals["/reply"] = [230011, 1]
        await server.say("why", chat=GROUP, mention=True)
        await until(lambda: server.texts(GROUP) == ["answer to why"])
        await nothing_left(sqlite_store, "feishu")
    (message,) = server.messages[GROUP].values()
    assert message["question"] == ""


async def test_a_token_that_ended_is_asked_for_again(server: FeishuServer, sqlite_store: Store) -> None:
    async with feishu_bot.bot(server, echoing(), sqlite_store):
        server.end_token()
        await server.say("one")
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        await nothing_left(sqlite_store, "feishu")
    assert server.tokens == 2


async def test_an_event_that_comes_again_is_answered_once(server: FeishuServer, sqlite_store: Store) -> None:
    engine = echoing()
    async with feishu_bot.bot(server, engine, sqlite_store) as bot:
        number = await server.say("one")
        await until(lambda: bool(server.texts(PRIVATE)))
        again = event(server.said[number])["event"]
        again["sender"]["sender_id"]["open_id"] = user_id(7)
        await server.tell("im.message.receive_v1", again)
        await server.disconnect()
        await server.say("two")
        assert bot._connection is not None
        await until(lambda: len(server.texts(PRIVATE)) == 2)
        await nothing_left(sqlite_store, "feishu")
    assert len(engine.prompts) == 2


async def test_somebody_elses_button_says_so_to_who_pressed_it(
    server: FeishuServer, sqlite_store: Store
) -> None:
    engine = echoing()
    async with feishu_bot.bot(server, engine, sqlite_store):
        await server.say("why", chat=GROUP, mention=True)
        await until(lambda: bool(server.texts(GROUP)))
        await nothing_left(sqlite_store, "feishu")
        (name,) = server.messages[GROUP]
        await server.press(GROUP, name, "retry", user=8)
        await until(lambda: bool(server.toasts))
        await nothing_left(sqlite_store, "feishu")
    assert len(engine.prompts) == 1


async def test_anybody_of_a_group_votes_by_a_button(server: FeishuServer, sqlite_store: Store) -> None:
    async with feishu_bot.bot(server, echoing(), sqlite_store):
        await server.say("/poll Go? | Yes | No", chat=GROUP, mention=True)
        await until(lambda: bool(server.texts(GROUP)))
        await nothing_left(sqlite_store, "feishu")
        (name,) = server.messages[GROUP]
        vote = server.buttons(GROUP, name)[0]["glmbot"]
        await server.press(GROUP, name, vote, user=8)
        await until(lambda: server.unacknowledged == 0)
        await nothing_left(sqlite_store, "feishu")
        await server.say(f"/poll {vote[-8:]}", chat=GROUP, mention=True)
        await until(lambda: any("1. Yes · 1" in text for text in server.texts(GROUP)))
        await nothing_left(sqlite_store, "feishu")
    assert not server.toasts


def test_a_button_says_whose_it_is_and_where() -> None:
    value = {"glmbot": "retry", "asker": "ou_1", "thread": "omt_1"}
    pressed = {
        "header": {"event_type": "card.action.trigger", "event_id": "e1"},
        "event": {"operator": {"open_id": "ou_2"}, "action": {"value": value},
                  "context": {"open_message_id": "om_1", "open_chat_id": "oc_1"}},
    }  # fmt: skip
    press = from_event(pressed, BOT)
    assert isinstance(press, PressedButton)
    assert (press.asker, press.message.user.id) == ("ou_1", "ou_2")
    assert press.message.conversation == ConversationKey("feishu", "oc_1", "ou_1", "omt_1")


async def test_a_wrong_secret_is_said(server: FeishuServer, sqlite_store: Store) -> None:
    wrong = feishu_bot.settings_for(server, token=SecretStr("another"))
    adapter = FeishuAdapter(wrong, make_dialogue(echoing(), sqlite_store))
    with pytest.raises(PlatformRefused, match="App Secret"):
        await adapter.start()
    await adapter.stop()
    with pytest.raises(PlatformRefused, match="app_id"):
        FeishuAdapter.check(feishu_bot.settings_for(server, app_id=""), None)
    assert all(well for well, _ in await FeishuAdapter.examine(feishu_bot.settings_for(server)))


# ---- what Feishu posts ------------------------------------------------------------------------------------------


def test_what_is_encrypted_is_read_as_in_feishus_own_example() -> None:
    """https://open.feishu.cn/document/ukTMukTMukTM/uYDNxYjL2QTM24iN0EjN/event-subscription-configure-/encrypt-key-encryption-configuration-case"""
    assert decrypted(ENCRYPT_KEY, "P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk=") == b"hello world"
    for wrong in ("", "AAAA", "P37w+VZImNgPEO1RBhJ6Rg==", "P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghg="):
        with pytest.raises(ValueError):  # noqa: PT011
            decrypted(ENCRYPT_KEY, wrong)


async def test_posted_events_are_taken_once_and_only_with_their_signature(
    server: FeishuServer, sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    routes, engine = Routes(), echoing()
    web = WebAdapter(WebSettings(port=0), make_dialogue(engine, sqlite_store))
    posted = {"encrypt_key": SecretStr(ENCRYPT_KEY)}
    async with running(web, routes), feishu_bot.bot(server, engine, sqlite_store, routes, settings=posted):
        server.posts_to = f"{web.url}/feishu/events"
        trying = json.dumps({"type": "url_verification", "challenge": "c1", "token": "v"}).encode()
        assert await server.post(trying, signed=False) == 200
        assert json.loads(server.said_back) == {"challenge": "c1"}
        assert await server.post(trying) == 200
        await server.say("one")
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        await nothing_left(sqlite_store, "feishu")
        (name,) = server.messages[PRIVATE]
        await server.press(PRIVATE, name, "retry", user=8)
        assert len(server.toasts) == 1
        assert server.posted == [200, 200]
        late = json.dumps(event({"chat_type": "p2p", "chat_id": PRIVATE})).encode()
        # Who is refused without end fills no log.
        with caplog.at_level("WARNING"):
            for _ in range(3):
                assert await server.post(late, at=time.time() - 301) == 401
                assert await server.post(late, key="another") == 401
        assert sum("is refused; is" in each.getMessage() for each in caplog.records) == 2
        # Without a signature everything is refused alike, whether it can be decrypted or not.
        assert await server.post(late, signed=False) == 401
        assert await server.post_body(b'{"encrypt": "AAAA"}', signed=False) == 401
        body, at = json.dumps({"encrypt": encrypted(ENCRYPT_KEY, late)}).encode(), time.time()
        assert await server.post_body(body, at=at, nonce="n") == 200
        assert await server.post_body(body, at=at, nonce="n") == 403
        await asyncio.sleep(0)
        await nothing_left(sqlite_store, "feishu")
