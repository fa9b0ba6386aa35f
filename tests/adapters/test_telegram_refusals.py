"""What Telegram refuses: each refusal means what it says and no more, and the rest of the answer arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from unittest.mock import AsyncMock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telegram import Bot
from telegram.error import NetworkError, TelegramError

from adapters.waiting import lawful
from glmbot.delivery.outlet import Gone, Refused
from glmbot.delivery.pace import Pace
from glmbot.delivery.stream import show
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Action, Attachment, ChatKind, Message, Reply, ReplyState
from glmbot_telegram.delivery import TelegramOutlet
from glmbot_telegram.refusals import KNOWN, Meaning, meaning
from glmbot_telegram.request import BotApiRequest
from platforms.telegram_server import TOKEN, Refusal, TelegramServer

GROUP = -1005
GONE = [
    (403, "Forbidden: bot was blocked by the user"),
    (403, "Forbidden: user is deactivated"),
    (403, "Forbidden: bot was kicked from the supergroup chat"),
    (403, "Forbidden: bot was kicked from the group chat"),
    (403, "Forbidden: bot is not a member of the channel chat"),
    (403, "Forbidden: bot can't initiate conversation with a user"),
    (403, "Forbidden: bot can't send messages to bots"),
    (403, "Forbidden: the group chat was deleted"),
    (400, "Bad Request: chat not found"),
    (400, "Bad Request: PEER_ID_INVALID"),
    (400, "Bad Request: TOPIC_DELETED"),
]
CLOSED = [
    (400, "Bad Request: TOPIC_CLOSED"),
    (400, "Bad Request: CHAT_WRITE_FORBIDDEN"),
    (403, "Forbidden: CHAT_WRITE_FORBIDDEN"),
    (400, "Bad Request: CHAT_RESTRICTED"),
    (400, "Bad Request: have no rights to send a message"),
    (400, "Bad Request: not enough rights to send text messages to the chat"),
    (400, "Bad Request: need administrator rights in the channel chat"),
]
MISSING = [
    "Bad Request: message to edit not found",
    "Bad Request: MESSAGE_ID_INVALID",
    "Bad Request: message can't be edited",
    "Bad Request: there is no text in the message to edit",
]
UNDELETABLE = [
    (400, "Bad Request: message can't be deleted for everyone"),
    (400, "Bad Request: message can't be deleted"),
    (400, "Bad Request: not enough rights to delete the message"),
    (403, "Forbidden: CHAT_ADMIN_REQUIRED"),
    (400, "Bad Request: SOMETHING_NEW"),
]
NO_FILES = [
    (400, "Bad Request: not enough rights to send documents to the chat"),
    (400, "Bad Request: not enough rights to send photos to the chat"),
    (400, "Bad Request: CHAT_SEND_DOCS_FORBIDDEN"),
    (403, "Forbidden: CHAT_SEND_MEDIA_FORBIDDEN"),
    (400, "Bad Request: SOMETHING_NEW"),
    (413, "Request Entity Too Large"),
]
NO_DRAFTS = [
    (400, "Bad Request: TEXTDRAFT_PEER_INVALID"),
    (404, "Not Found: method not found"),
    (403, "Forbidden: SOMETHING_NEW"),
]
PARTS = [
    ("sendMessage", "reply_parameters", "Bad Request: message to be replied not found"),
    ("sendMessage", "reply_parameters", "Bad Request: replied message not found"),
    ("sendMessage", "reply_parameters", "Bad Request: REPLY_MESSAGE_ID_INVALID"),
    ("sendMessage", "message_thread_id", "Bad Request: message thread not found"),
    ("sendMessage", "message_thread_id", "Bad Request: TOPIC_ID_INVALID"),
    ("editMessageText", "reply_markup", "Bad Request: BUTTON_DATA_INVALID"),
    ("editMessageText", "reply_markup", "Bad Request: reply markup is too long"),
    ("editMessageText", "entities", "Bad Request: can't parse entities: unknown"),
    ("editMessageText", "entities", "Bad Request: ENTITY_BOUNDS_INVALID"),
    ("editMessageText", "entities", "Bad Request: SOMETHING_NEW"),
]
WORDS = "one **two** three"
SHOWN = "one two three"


def growing(text: str = WORDS, attachment: Attachment | None = None) -> AsyncGenerator[Reply, None]:
    async def replies() -> AsyncGenerator[Reply]:
        stop = (Action("stop", "Stop"),)
        for end in range(0, len(text), max(1, len(text) // 2)):
            yield Reply(text[:end], ReplyState.STREAMING, actions=stop)
            await asyncio.sleep(0.005)
        yield Reply(text, ReplyState.FINAL, attachment=attachment, actions=(Action("retry", "Retry"),))

    return replies()


def question(*, group: bool = False) -> Message:
    key = ConversationKey("telegram", str(GROUP), "7", "5") if group else ConversationKey("telegram", "7")
    kind = ChatKind.GROUP if group else ChatKind.PRIVATE
    return Message("1", key, UserKey("telegram", "7"), "hi", chat_kind=kind, ref="3")


@pytest.fixture
async def telegram() -> AsyncGenerator[TelegramServer]:
    async with lawful(TelegramServer(seconds_per_message=0.001, burst=100)) as server:
        yield server


@pytest.fixture
async def bot(telegram: TelegramServer) -> AsyncGenerator[Bot]:
    bot = Bot(TOKEN, base_url=f"{telegram.url}/bot", request=BotApiRequest())
    await bot.initialize()
    yield bot
    await bot.shutdown()


async def shown(
    server: TelegramServer,
    bot: Bot,
    *refusals: Refusal,
    group: bool = False,
    drafts: bool = False,
    old: int = 0,
    text: str = WORDS,
    attachment: Attachment | None = None,
) -> list[str]:
    """Show an answer in a fresh chat, in place of `old` messages, and return what stands there."""
    message = question(group=group)
    messages = server.messages[int(message.conversation.chat)]
    messages.clear()
    server.calls.clear()
    server.refusals = []
    sent = [str((await bot.send_message(7, "old words")).message_id) for _ in range(old)]
    server.refusals = list(refusals)
    outlet = TelegramOutlet(bot, message, drafts=drafts)
    await show(growing(text, attachment), outlet, Pace(0.001), sent=sent, no_file="No files here.")
    return [each.get("text", "(file)") for _, each in sorted(messages.items())]


def count(server: TelegramServer, method: str) -> int:
    return sum(name == method for name, _ in server.calls)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmbot.delivery.requests._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("glmbot.delivery.requests._LONGEST_PAUSE_S", 0.01)


async def test_what_passes_is_waited_for(telegram: TelegramServer, bot: Bot) -> None:
    pages = [(code, "forbidden", True) for code in (200, 401, 403, 404, 418, 500, 502, 503)]
    own = [(500, "Internal Server Error", False), (409, "Conflict", False), (401, "Unauthorized", False)]
    for code, description, page in [*pages, *own, *((*each, False) for each in CLOSED)]:
        for method in ("sendMessage", "editMessageText"):
            refusal = Refusal(method, code, description, 2, page)
            assert await shown(telegram, bot, refusal) == [SHOWN], refusal


async def test_only_known_answers_that_stay_mean_that_the_chat_is_gone(
    telegram: TelegramServer, bot: Bot
) -> None:
    for code, description in [*GONE, *CLOSED]:
        with pytest.raises(Gone):
            await shown(telegram, bot, Refusal("sendMessage", code, description))
        assert (count(telegram, "sendMessage") == 1) is ((code, description) in GONE)


@given(st.sampled_from([400, 403]), st.text(st.characters(codec="ascii", categories=["Lu"]), min_size=1))
def test_what_is_not_known_means_nothing_more_than_a_refusal(code: int, name: str) -> None:
    if not any(part in name.lower() for part, _, _ in KNOWN):
        assert meaning(f"Bad Request: {name}_{code}") is Meaning.UNKNOWN


def test_each_known_refusal_is_known_once_and_found() -> None:
    assert len({part for part, _, _ in KNOWN}) == len(KNOWN)
    for part, known, _ in KNOWN:
        assert part == part.lower()
        assert meaning(f"Bad Request: {part.upper()}") is known, part


async def test_an_unknown_refusal_is_a_failure_with_its_reason(telegram: TelegramServer, bot: Bot) -> None:
    for code, description in [(403, "Forbidden: SOMETHING_NEW"), (400, "Bad Request: SOMETHING_NEW")]:
        with pytest.raises(Refused, match=r"(?i)something_new"):
            await shown(telegram, bot, Refusal("editMessageText", code, description))


async def test_without_the_part_that_is_refused_the_words_arrive(telegram: TelegramServer, bot: Bot) -> None:
    """Quote, topic, buttons, formats."""
    for method, part, description in PARTS:
        refusal = Refusal(method, 400, description, having=part)
        assert await shown(telegram, bot, refusal, group=True) == [SHOWN], description
    # A topic whose question is gone as well was deleted.
    with pytest.raises(Gone):
        await shown(
            telegram,
            bot,
            Refusal("sendMessage", 400, "Bad Request: message thread not found", having="message_thread_id"),
            Refusal("sendMessage", 400, "Bad Request: message to be replied not found"),
            group=True,
        )


async def test_a_message_that_cant_be_edited_is_sent_anew(telegram: TelegramServer, bot: Bot) -> None:
    for description in MISSING:
        refusal = Refusal("editMessageText", 400, description, 1)
        assert await shown(telegram, bot, refusal, old=2) == [SHOWN], description


async def test_old_words_that_cant_be_removed_are_emptied(telegram: TelegramServer, bot: Bot) -> None:
    for code, description in UNDELETABLE:
        refusal = Refusal("deleteMessage", code, description)
        assert await shown(telegram, bot, refusal, old=3) == [SHOWN, "…", "…"], description


async def test_without_the_right_to_send_files_the_answer_is_whole(
    telegram: TelegramServer, bot: Bot
) -> None:
    long_code = "Here:\n\n```python\n" + "print('x')\n" * 150 + "```"
    file = Attachment("a.json", b"{}", "application/json")
    for code, description in NO_FILES:
        refusal = Refusal("editMessageMedia", code, description)
        (words,) = await shown(telegram, bot, refusal, group=True, text=long_code)
        assert "print" in words
        assert await shown(telegram, bot, refusal, attachment=file) == [SHOWN, "No files here."]
    too_large = Refusal("editMessageMedia", 413, "Request Entity Too Large", page=True)
    assert await shown(telegram, bot, too_large, attachment=file) == [SHOWN, "No files here."]


async def test_where_drafts_are_refused_the_answer_grows_by_edits(telegram: TelegramServer, bot: Bot) -> None:
    for code, description in NO_DRAFTS:
        assert await shown(telegram, bot, Refusal("sendMessageDraft", code, description), drafts=True) == [
            SHOWN
        ]
        assert count(telegram, "sendMessageDraft") == 1


async def test_only_the_bot_api_is_believed(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    for body in (b"", b"[]", b"{}", b'{"ok": true}', b'{"ok": 1, "result": 1}', b"[" * 10**6, b"\xff" * 99):
        answer = AsyncMock(return_value=(403, body))
        monkeypatch.setattr("telegram.request.HTTPXRequest.do_request", answer)
        with pytest.raises(NetworkError, match="on the way"):
            await bot.send_message(7, "hi")


@pytest.mark.parametrize("packed", [True, False])
async def test_an_answer_without_end_or_packed_is_given_up(
    packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot_telegram.request._LARGEST_ANSWER", 1000)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + (b"Content-Encoding: gzip\r\n" if packed else b"") + b"\r\n")
        while not writer.is_closing():
            writer.write(b" " * 1000)
            await writer.drain()
            await asyncio.sleep(0.01)

    server = await asyncio.start_server(serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    request = BotApiRequest()
    with pytest.raises(TelegramError):
        await request.do_request(f"http://127.0.0.1:{port}/", "POST")
    await request.shutdown()
    server.close()
