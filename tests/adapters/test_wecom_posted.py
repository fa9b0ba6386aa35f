"""WeCom's applications: what is posted and refused, what is answered at once, and what is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters import wecom_bot
from adapters.scripted import ScriptedEngine, echoing
from adapters.waiting import lawful, letters, nothing_left
from conftest import make_dialogue, until
from glmbot.errors import PlatformRefused
from glmbot.http.replays import Replays
from glmbot.http.routes import HttpAnswer, HttpCall
from glmbot.keys import ConversationKey
from glmbot.messages import Reply, ReplyState
from glmbot.store.base import Store
from glmbot_wecom.adapter import WeComAdapter
from glmbot_wecom.application import AppOutlet
from glmbot_wecom.callback import WINDOW_S, callback_route
from glmbot_wecom.crypt import Crypt
from glmbot_wecom.envelope import fields_in, written
from glmbot_wecom.passive import Passives
from glmbot_wecom.posted import from_fields
from glmbot_wecom.render import LONGEST_TEXT, size, text_of_piece
from glmbot_wecom.settings import WeComSettings
from platforms.wecom_server import (
    AES_KEY,
    AGENT_ID,
    CALLBACK_TOKEN,
    CORP_ID,
    SECRET,
    WeComServer,
    member,
    opened,
)

PRIVATE = member(7)
# https://developer.work.weixin.qq.com/document/path/90968, and the samples in each language beside it.
ECHO = {
    "msg_signature": "5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3", "timestamp": "1409659589", "nonce": "263014780",
    "echostr": "P9nAzCzyDtyTWESHep1vC5X9xho/qYX3Zpb4yKa9SKld1DsH3Iyt3tP3zNdtp+4RPcs8TgAE7OaBO+FZXvnaqQ==",
}  # fmt: skip
POSTED = {
    "msg_signature": "477715d11cdb4164915debcba66cb864d751f3e6",
    "timestamp": "1409659813",
    "nonce": "1372623149",
}
ENCRYPTED = (
    "RypEvHKD8QQKFhvQ6QleEB4J58tiPdvo+rtK1I9qca6aM/wvqnLSV5zEPeusUiX5L5X/0lWfrf0QADHHhGd3QczcdCUpj911L3vg3W/sYYvuJTs3TUUk"
    "SUXxaccAS0qhxchrRYt66wiSpGLYL42aM6A8dTT+6k4aSknmPj48kzJs8qLjvd4Xgpue06DOdnLxAUHzM6+kDZ+HMZfJYuR+LtwGc2hgf5gsijff0ekU"
    "NXZiqATP7PF5mZxZ3Izoun1s4zG4LUMnvw2r+KqCKIw+3IQH03v+BCA9nMELNqbSf6tiWSrXJB3LAVGUcallcrw8V2t9EL4EhzJWrQUax5wLVMNS0+rU"
    "PA3k22Ncx4XXZS9o0MBH27Bo6BpNelZpS+/uh9KsNlY6bHCmJU9p8g7m3fVKn28H3KDYA5Pl/T8Z1ptDAVe0lXdQ2YoyyH2uyPIGHBZZIs2pDBS8R07+"
    "qN+E7Q=="
)  # fmt: skip
BODY = f"<xml><ToUserName><![CDATA[{CORP_ID}]]></ToUserName><Encrypt><![CDATA[{ENCRYPTED}]]></Encrypt><AgentID><![CDATA[218]]></AgentID></xml>".encode()


@pytest.fixture
async def server() -> AsyncGenerator[WeComServer]:
    async with lawful(WeComServer(per_minute=10_000)) as server:
        yield server


def crypt(token: str = CALLBACK_TOKEN, key: str = AES_KEY, receiver: str = CORP_ID) -> Crypt:
    given = WeComSettings(encoding_aes_key=SecretStr(key))
    return Crypt(token, given.read_aes_key(), receiver)


class Post:
    """The route by itself, at a time of its own."""

    def __init__(self, sealing: Crypt | None = None) -> None:
        self.now = 1409659813.0
        self.taken: list[Mapping[str, str]] = []
        self.held: dict[str, str | int] = {}
        self.ready = True
        replays = Replays(lambda: self.now, WINDOW_S)
        self.route = callback_route(
            "/", sealing or crypt(), replays, self._take, lambda fields: self.held or None, lambda: self.ready
        )

    async def _take(self, fields: Mapping[str, str]) -> Mapping[str, str | int] | None:
        self.taken.append(fields)
        return self.held or None

    async def __call__(self, query: Mapping[str, str], body: bytes = b"") -> HttpAnswer:
        return await self.route.handle(HttpCall("POST" if body else "GET", {}, query, body))


# ---- signatures and encryption ------------------------------------------------------------------------------


async def test_the_address_is_confirmed_as_in_wecoms_own_example() -> None:
    post = Post()
    post.now = 1409659589.0
    answer = await post(ECHO)
    assert (answer.status, answer.text) == (200, "1616140317555161061")
    assert (await post(ECHO)).status == 403


async def test_a_message_is_read_as_in_wecoms_own_example() -> None:
    post = Post()
    assert (await post(POSTED, BODY)).status == 200
    (fields,) = post.taken
    message = from_fields(fields, AGENT_ID, "zh")
    assert message is not None
    assert (message.text, message.ref, message.user.id) == ("hello", "4561255354251345929", "mycreate")
    assert message.act.at == 1409659813


def test_a_reply_is_encrypted_so_that_wecoms_own_way_opens_it() -> None:
    assert opened(crypt().encrypted("你好".encode())) == "你好"


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_what_is_encrypted_is_decrypted(content: bytes) -> None:
    assert crypt().decrypted(crypt().encrypted(content)) == content


@settings(max_examples=60)
@given(st.binary(max_size=120).map(lambda raw: raw.hex()) | st.text(max_size=80))
def test_what_was_not_encrypted_is_refused(encrypted: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        crypt().decrypted(encrypted)


@pytest.mark.parametrize(
    ("query", "body", "later"),
    [
        ({**POSTED, "msg_signature": "0" * 40}, BODY, 0),
        ({**POSTED, "msg_signature": "签"}, BODY, 0),
        ({**POSTED, "nonce": "1"}, BODY, 0),
        ({**POSTED, "timestamp": "1409659814"}, BODY, 0),
        ({}, BODY, 0),
        (POSTED, BODY.replace(b"RypE", b"RypF"), 0),
        (POSTED, BODY, 301),
        (POSTED, BODY, -301),
        (POSTED, b"<xml></xml>", 0),
        (POSTED, b"{}", 0),
        (ECHO, b"", 301),
        ({**ECHO, "echostr": "AAAA"}, b"", 0),
    ],
)
async def test_wrong_and_old_requests_are_refused_alike(
    query: dict[str, str], body: bytes, later: float
) -> None:
    post = Post()
    post.now += later
    assert (await post(query, body)).status == 401
    assert post.taken == []


async def test_another_companys_messages_and_those_under_another_key_are_refused() -> None:
    for other in (crypt(receiver="wx0000000000000000"), crypt(key="a" * 42 + "A")):
        post = Post(other)
        assert (await post(POSTED, BODY)).status == 400
        assert post.taken == []


async def test_a_repeated_request_is_refused_unless_its_answer_may_not_have_arrived() -> None:
    post = Post()
    assert (await post(POSTED, BODY)).status == 200
    assert (await post(POSTED, BODY)).status == 403
    post.held = {"Content": "kept"}
    assert "Encrypt" in (await post(POSTED, BODY)).text
    assert len(post.taken) == 1
    late = Post()
    late.ready = False
    assert (await late(POSTED, BODY)).status == 503


# ---- XML ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attack",
    [
        b'<!DOCTYPE x [<!ENTITY a "aa">]><xml><Encrypt>&a;</Encrypt></xml>',
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><xml><Encrypt>&a;</Encrypt></xml>',
        b'<!DOCTYPE xml SYSTEM "http://127.0.0.1/x.dtd"><xml></xml>',
        b"<xml>" + b"<a>" * 30_000,
        b"<xml>" + b"<a>x</a>" * 101 + b"</xml>",
        b"<other></other>",
        b'<?xml version="1.0" encoding="unheard-of"?><xml></xml>',
        b"<xml><a></xml>",
        b"\xff\xfe<",
        b"",
    ],
)
def test_xml_that_attacks_is_refused(attack: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        fields_in(attack)


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_xml_are_refused(content: bytes) -> None:
    with suppress(ValueError):
        fields_in(content)


@settings(max_examples=60)
@given(st.text(max_size=100))
def test_what_is_written_is_read(text: str) -> None:
    read = fields_in(written({"Content": text, "CreateTime": 5}).encode())
    assert read["CreateTime"] == "5"
    assert letters(read["Content"]) == letters(text)
    assert fields_in(written({"Content": "]]></Content><a>&<"}).encode())["Content"] == "]]></Content><a>&<"


# ---- what is said -------------------------------------------------------------------------------------------

FIELDS = {
    "ToUserName": CORP_ID, "FromUserName": "ann", "CreateTime": "1700000000", "MsgType": "text", "Content": "hello",
    "MsgId": "123", "AgentID": str(AGENT_ID),
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "words", "media"),
    [
        ({}, "hello", ""),
        ({"MsgType": "image", "PicUrl": "http://x"}, "", "photo"),
        ({"MsgType": "voice"}, "", "voice"),
        ({"MsgType": "video"}, "", "video"),
        ({"MsgType": "location"}, "", "location"),
        ({"MsgType": "unheard of"}, "", "document"),
        (
            {"MsgType": "link", "Title": "T", "Description": "", "Url": "https://a.org"},
            "T\nhttps://a.org",
            "",
        ),
    ],
)
def test_what_is_posted_is_read_or_named(fields: dict[str, str], words: str, media: str) -> None:
    message = from_fields({**FIELDS, **fields}, AGENT_ID, "zh")
    assert message is not None
    assert (message.text, message.media) == (words, media)
    assert message.conversation == ConversationKey("wecom", "ann", "")
    assert message.update_id == f"{AGENT_ID}:123"


def test_events_and_other_applications_messages_are_left_alone() -> None:
    assert from_fields({**FIELDS, "MsgType": "event", "Event": "enter_agent"}, AGENT_ID, "zh") is None
    assert from_fields({**FIELDS, "AgentID": "5"}, AGENT_ID, "zh") is None


@pytest.mark.parametrize("everybody", ["@all", "@ALL"])
def test_nobody_is_everybody(everybody: str) -> None:
    with pytest.raises(ValueError, match="id"):
        from_fields({**FIELDS, "FromUserName": everybody}, AGENT_ID, "zh")


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(list(FIELDS)),
        st.sampled_from(["", "\0", "x" * 5000, "1" * 21, "-1", "text", "link", "用户"]),
    )
)
def test_whatever_is_posted_is_read_or_refused(fields: dict[str, str]) -> None:
    with suppress(ValueError):
        from_fields({**FIELDS, **fields}, AGENT_ID, "zh")


# ---- the bot ------------------------------------------------------------------------------------------------


async def test_an_answer_that_is_there_at_once_stands_in_the_answer_to_wecoms_request(
    server: WeComServer, sqlite_store: Store
) -> None:
    engine = echoing()
    async with wecom_bot.application(server, engine, sqlite_store, settings={"passive_s": 4.0}):
        assert await server.try_address("1616140317555161061") == (200, "1616140317555161061")
        assert (await server.try_address("1", key="another"))[0] == 401
        number = await server.write("<one>")
        assert server.texts(PRIVATE) == ["answer to <\u200bone>"]
        # WeCom has got no answer, and asks again.
        await server.write("<one>", number=number)
        assert [each["text"] for each in server.messages[PRIVATE]] == ["answer to <\u200bone>"] * 2
        await nothing_left(sqlite_store, "wecom")
    assert {each["kind"] for each in server.messages[PRIVATE]} == {"passive"}
    assert len(engine.prompts) == 1
    assert "/cgi-bin/message/send" not in server.calls


async def test_an_answer_that_takes_longer_is_sent(server: WeComServer, sqlite_store: Store) -> None:
    engine = echoing()
    engine.goes_on.clear()
    async with wecom_bot.application(server, engine, sqlite_store, settings={"passive_s": 0.1}):
        await server.write("one")
        assert server.posted == [(200, "")]
        engine.goes_on.set()
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        await nothing_left(sqlite_store, "wecom")
    assert server.messages[PRIVATE][0]["kind"] == "text"


async def test_a_token_that_ended_is_asked_for_again(server: WeComServer, sqlite_store: Store) -> None:
    async with wecom_bot.application(server, echoing(), sqlite_store):
        server.end_token()
        await server.write("one")
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        await nothing_left(sqlite_store, "wecom")
    assert server.tokens == 2


async def test_who_is_not_in_the_visible_range_gets_nothing_and_holds_nobody_up(
    server: WeComServer, sqlite_store: Store
) -> None:
    server.known.discard(member(8))
    async with wecom_bot.application(server, echoing(), sqlite_store):
        await server.write("mine", user=8)
        await server.write("yours", user=7)
        await until(lambda: server.texts(PRIVATE) == ["answer to yours"])
        await nothing_left(sqlite_store, "wecom")
    assert server.texts(member(8)) == []


async def test_a_long_answer_comes_in_paragraphs_of_few_enough_bytes(
    server: WeComServer, sqlite_store: Store
) -> None:
    long = "\n\n".join(f"第{number}段：" + "😀长" * 200 for number in range(6))
    async with wecom_bot.application(server, ScriptedEngine(long, steps=6, step_s=0.02), sqlite_store):
        await server.write("go on")
        await until(lambda: any("第5段" in each for each in server.texts(PRIVATE)))
        await nothing_left(sqlite_store, "wecom")
    assert letters("".join(server.texts(PRIVATE))) == letters(long)
    assert len(server.texts(PRIVATE)) >= 6


def test_a_long_line_of_the_bots_own_loses_no_word() -> None:
    notice = "".join(f"/command{number} 做这件事\n" for number in range(300)) + "长" * 3000
    outlet: Any = AppOutlet.__new__(AppOutlet)
    shown = [text_of_piece(piece) for piece in AppOutlet.cut(outlet, Reply("", ReplyState.FINAL, notice))]
    assert all(size(text) <= LONGEST_TEXT for text in shown)
    assert letters("".join(shown)) == letters(notice)


async def test_no_more_requests_are_kept_open_than_some() -> None:
    passives = Passives(5.0)
    for number in range(1100):
        passives.open(str(number))
    assert len(passives._open) == 1000
    assert await passives.answer("1050") == ""
    assert passives.give("5", "words")
    assert not passives.give("5", "others")
    assert (await passives.answer("5"), passives.given("5")) == ("words", "words")
    passives.close()
    assert await passives.answer("6") == ""


# ---- settings, and what doctor says -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"corp_id": ""}, "bot_id or corp_id"),
        ({"bot_id": "aibTest1234"}, "not both"),
        ({"agent_id": 0}, "agent_id"),
        ({"encoding_aes_key": SecretStr("short")}, "has 5 characters"),
        ({"encoding_aes_key": SecretStr(AES_KEY + "=")}, "has 44 characters"),
        ({"encoding_aes_key": None}, "has 0 characters"),
        ({"callback_token": None}, "callback_token"),
        ({"callback_token": SecretStr("with space")}, "callback_token"),
    ],
)
def test_what_is_set_wrongly_is_said(changes: dict[str, Any], words: str) -> None:
    given = wecom_bot.application_settings(WeComServer(url="http://127.0.0.1:1"), **changes)
    with pytest.raises(PlatformRefused, match=words) as told:
        WeComAdapter.check(given, None)
    assert all(not well for well, _ in given.advice())
    assert AES_KEY not in str(told.value)
    assert AES_KEY not in repr(given)


def test_two_of_them_may_not_be_one() -> None:
    away = WeComServer(url="http://127.0.0.1:1")
    bot, application = wecom_bot.settings_for(away), wecom_bot.application_settings(away)
    other = {"token": SecretStr("another-secret")}
    assert "bot_id" in bot.trouble_beside(wecom_bot.settings_for(away, **other), "wecom.b")
    assert "agent_id" in application.trouble_beside(wecom_bot.application_settings(away, **other), "wecom.b")
    assert bot.trouble_beside(wecom_bot.application_settings(away, **other), "wecom.b") == ""
    assert (
        application.trouble_beside(wecom_bot.application_settings(away, agent_id=5, **other), "wecom.b") == ""
    )


async def test_doctor_tells_of_an_address_that_is_not_trusted_and_of_a_wrong_secret(
    server: WeComServer, sqlite_store: Store
) -> None:
    given = wecom_bot.application_settings(server)
    assert await WeComAdapter.identify(given) == "小智"
    assert [well for well, _ in await WeComAdapter.examine(given)] == [True, True]
    server.refusals["/cgi-bin/agent/get"] = [60020, 1]
    found = await WeComAdapter.examine(given)
    assert [well for well, _ in found] == [True, False]
    assert "trusted IPs" in found[1][1]
    another = wecom_bot.application_settings(server, agent_id=5)
    assert "another application" in (await WeComAdapter.examine(another))[1][1]
    server.clock_ahead_s = -400
    found = await WeComAdapter.examine(given)
    assert [well for well, _ in found] == [True, False, True]
    assert "clock" in found[1][1]
    wrong = WeComAdapter(
        wecom_bot.application_settings(server, token=SecretStr("another")),
        make_dialogue(echoing(), sqlite_store),
    )
    with pytest.raises(PlatformRefused, match="Secret") as told:
        await wrong.start()
    await wrong.stop()
    assert SECRET not in str(told.value)
    assert any("five minutes" in words for _, words in given.advice())
