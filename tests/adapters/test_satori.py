"""Satori: who is spoken to, what its elements say, how its events go on, what its platforms can't."""

from __future__ import annotations

import asyncio
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from adapters.satori_bot import CHANNEL, bot, settings_for
from adapters.scripted import ScriptedEngine, echoing
from adapters.waiting import lawful, nothing_left
from conftest import free_port, until
from glmbot.errors import AdapterError, PlatformRefused, StoreError
from glmbot.platforms import keep_running
from glmbot.store.base import Store
from glmbot_satori import client
from glmbot_satori.adapter import SatoriAdapter, SatoriSettings
from glmbot_satori.elements import escaped, read_content
from platforms.satori_server import SELF, SatoriServer

PRIVATE = "private-7"
AT = f'<at id="{SELF}" name="glm"/> '


@pytest.fixture
async def satori() -> AsyncGenerator[SatoriServer]:
    async with lawful(SatoriServer()) as server:
        yield server


async def answered(satori: SatoriServer, channel: str, words: str) -> None:
    await until(lambda: any(words in text for text in satori.texts(channel)))


async def test_in_a_channel_it_answers_mentions_replies_and_commands_and_nobody_else(
    satori: SatoriServer, sqlite_store: Store
) -> None:
    engine = echoing("to: ")
    async with bot(satori, engine, sqlite_store):
        for content in (
            '<at type="all"/> hi', '<at role="admins"/> hi', '<at id="8"/> hi', "hi", "!roll", "/roll@otherbot",
            f"<quote>{AT}</quote> hi", f'<message forward><author id="9"/>{AT}hi</message>', "<face id='1'/>",
        ):  # fmt: skip
            await satori.say(content, channel=CHANNEL)
        await satori.say(AT + "one of them is a bot", user="9", channel=CHANNEL, bot=True)
        await satori.say(AT + "mentioned", channel=CHANNEL)
        await answered(satori, CHANNEL, "to: mentioned")
        await nothing_left(sqlite_store, "satori")
        (mine,) = satori.messages[CHANNEL]
        await satori.say("replied", channel=CHANNEL, quote=mine)
        await answered(satori, CHANNEL, "replied")
        other = await satori.say("the sky is green", user="8", channel=CHANNEL)
        await satori.say(AT + "is it?", channel=CHANNEL, quote=other)
        await answered(satori, CHANNEL, "is it?")
        await satori.say("/whoami", channel=CHANNEL)
        await answered(satori, CHANNEL, "satori:kook%2F7")
        await nothing_left(sqlite_store, "satori")
    assert len(engine.prompts) == 3
    assert "the sky is green" in engine.prompts[2]


async def test_what_is_forwarded_is_the_question_and_markup_stays_text(
    satori: SatoriServer, sqlite_store: Store
) -> None:
    said = '<img src="x"/> & <at type="all"/> </quote> "quoted"'
    engine = ScriptedEngine(f"`{said}`")
    async with bot(satori, engine, sqlite_store):
        await satori.say(
            '<message forward><message><author id="9" name="Ada"/>/export</message>'
            '<message><author id="8"/>a &lt;b&gt;</message></message>'
        )
        await answered(satori, PRIVATE, "quoted")
        await nothing_left(sqlite_store, "satori")
    assert "Ada: /export" in engine.prompts[0]
    assert "8: a <b>" in engine.prompts[0]
    assert satori.texts(PRIVATE) == [said]
    assert satori.files == []


async def test_where_nothing_can_be_edited_answers_come_in_paragraphs(sqlite_store: Store) -> None:
    satori = SatoriServer(features=("message.create",))
    await satori.start()
    text = "\n\n".join(f"Paragraph {number}." for number in range(8))
    async with bot(satori, ScriptedEngine(text, steps=30, step_s=0.01), sqlite_store):
        await satori.say("go on")
        await answered(satori, PRIVATE, "Paragraph 2.")
        satori.too_many = 2
        await answered(satori, PRIVATE, "Paragraph 7.")
        await nothing_left(sqlite_store, "satori")
    await satori.stop()
    assert "\n\n".join(satori.texts(PRIVATE)) == text
    assert {method for method, _ in satori.calls} == {"message.create"}
    assert satori.floods
    assert satori.violations == []


@pytest.mark.parametrize("old", [False, True])
async def test_what_came_while_the_connection_was_gone_comes_after_it(
    old: bool, satori: SatoriServer, sqlite_store: Store
) -> None:
    satori.old = old
    engine = echoing("to: ")
    async with bot(satori, engine, sqlite_store) as adapter:
        await satori.say("first")
        await answered(satori, PRIVATE, "to: first")
        running = asyncio.create_task(_kept(adapter))
        await satori.drop()
        await satori.say("second")
        await answered(satori, PRIVATE, "to: second")
        assert satori.identified[-1]["sequence" if old else "sn"] == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _kept(adapter: SatoriAdapter) -> None:
    async def soon(_: str) -> None:
        await asyncio.sleep(0.01)

    # The one that the test's `running` began ends with the connection.
    await until(lambda: adapter._connection is None)
    await keep_running(adapter, soon)


async def test_what_could_not_be_stored_comes_again(
    satori: SatoriServer, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bot(satori, echoing("to: "), sqlite_store) as adapter:
        kept: Any = adapter._dialogue
        accept = kept._dialogue.accept
        failures = [StoreError("the disk is full")] * 2

        async def fails(message: Any, **more: Any) -> bool:
            if failures:
                raise failures.pop()
            return await accept(message, **more)

        monkeypatch.setattr(kept._dialogue, "accept", fails)
        running = asyncio.create_task(_kept(adapter))
        await satori.say("before")
        await until(lambda: not failures)
        await answered(satori, PRIVATE, "to: before")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [text for text in satori.texts(PRIVATE) if text == "to: before"] == ["to: before"]


async def test_a_question_that_is_deleted_by_nobody_in_particular_is_found(
    satori: SatoriServer, sqlite_store: Store
) -> None:
    async with bot(satori, echoing("to: "), sqlite_store):
        asked = await satori.say(AT + "forget it", channel=CHANNEL)
        await answered(satori, CHANNEL, "to: forget it")
        await nothing_left(sqlite_store, "satori")
        await satori.delete(asked, told_by_whom=False)
        await until(lambda: satori.texts(CHANNEL) == [])


async def test_a_server_that_is_silent_is_gone(
    satori: SatoriServer, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_PING_S", 0.05)
    adapter_settings = settings_for(satori)
    async with bot(satori, echoing("to: "), sqlite_store):
        await until(lambda: satori.pings >= 5)
    monkeypatch.setattr(satori, "_listen", None)
    adapter = SatoriAdapter(adapter_settings, _nobody())
    await adapter.start()
    connection: Any = adapter._connection
    monkeypatch.setattr(connection[1], "send", _swallowed)
    with pytest.raises(AdapterError, match="nothing came"):
        await adapter._listen()
    await adapter.stop()


async def _swallowed(_: str) -> None:
    """It does not arrive."""


def _nobody() -> Any:
    return object()


async def test_what_is_wrong_at_the_start_is_said(satori: SatoriServer) -> None:
    with pytest.raises(PlatformRefused, match="refuses it"):
        await SatoriAdapter.identify(settings_for(satori, token=SecretStr("another")))
    with pytest.raises(AdapterError, match="can't be reached"):
        await SatoriAdapter.identify(settings_for(satori, url=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(AdapterError, match="answers 404"):
        await SatoriAdapter.identify(settings_for(satori, url=satori.url + "/elsewhere"))
    assert await SatoriAdapter.identify(settings_for(satori)) == "glm (kook)"
    found = await SatoriAdapter.examine(settings_for(satori, platforms=["line"]))
    assert [well for well, _ in found] == [True, False]
    assert [well for well, _ in SatoriSettings(url="http://satori.example.org").advice()] == [False]
    assert SatoriSettings(url="https://satori.example.org/v1").advice() == ()
    for wrong in ("ws://x", "http://user:password@x", "5140"):
        with pytest.raises(ValidationError):
            SatoriSettings(url=wrong)


async def test_whatever_comes_the_connection_stays_and_the_next_question_is_answered_on_satori(
    satori: SatoriServer, sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    message = {"id": "x", "content": "secret words"}
    base = {"type": "message-created", "platform": "kook", "self_id": SELF, "user": {"id": "7"}}
    async with bot(satori, echoing("to: "), sqlite_store):
        for event in (
            {},
            {"type": "message-created"},
            base | {"message": 5, "channel": {"id": "c"}},
            base | {"message": message | {"id": {}}, "channel": {"id": "c"}},
            base | {"message": message, "channel": {"id": "c" * 500}},
            base | {"message": message, "channel": {"id": "c\x00", "type": "DIRECT"}},
            base
            | {
                "message": {"id": "y", "content": "<" * 50_000 + "<a " * 20_000},
                "channel": {"id": "c", "type": 0},
            },
            {"type": "message-deleted", "message": {}},
            {"type": "login-added", "login": {"platform": 5}},
            {"type": "guild-member-request", "sn": "x"},
        ):
            await satori.tell(event)
        for socket in list(satori._sockets):
            await socket.send_str("[" * 100_000)
            await socket.send_str("null")
        await satori.say("hello")
        await answered(satori, PRIVATE, "to: hello")
        assert satori.connections == 1
    assert "secret words" not in caplog.text


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=80))
def test_escaped_text_is_read_as_itself_by_us_and_by_a_strict_reader(words: str) -> None:
    assert read_content(escaped(words), SELF).text == words
    root = ElementTree.fromstring(f'<root a="{escaped(words)}">{escaped(words)}</root>')
    assert (root.text or "") == words
    assert root.attrib["a"] == words


@given(st.text(st.sampled_from("<>/='\" aqb&;!-\n"), max_size=200))
def test_whatever_a_content_is_it_is_read(content: str) -> None:
    assert read_content(content, SELF).mentions == []


@pytest.mark.parametrize(
    "worst", ["<", "<a ", "<a '", '<a "', "<!--", "<quote>", "<message forward>", "<a b='c' ", "&lt;", "</p>"]
)
def test_no_content_takes_more_than_its_length_to_read(worst: str) -> None:
    begun = time.perf_counter()
    read_content(worst * (200_000 // len(worst)), SELF)
    assert time.perf_counter() - begun < 2
