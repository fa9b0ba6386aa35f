"""What people do on Telegram beside asking: buttons, edits, branches, group modes, topics, media, webhooks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from adapters.telegram_bot import PRIVATE, USER, answered, bot, settings_for, turns_of
from adapters.waiting import letters, running, until_async
from conftest import GREEDY, free_port, make_dialogue, until
from glmbot.dialogue.access import Access
from glmbot.engine.base import Sampling
from glmbot.engine.local import LocalEngine
from glmbot.errors import AdapterError
from glmbot.http.registry import Routes
from glmbot.keys import ConversationKey, UserKey
from glmbot.store.base import Store
from glmbot_telegram.adapter import TelegramAdapter, TelegramSettings
from glmbot_web.adapter import WebAdapter, WebSettings
from held import held
from platforms.telegram_server import TelegramServer

GROUP = -100
LONG = Sampling(max_tokens=1900, temperature=0)
ADMIN_ACCESS = Access(admins={UserKey("telegram", str(USER))}, open_platforms={"telegram"})


async def last_button(telegram: TelegramServer, name: str, chat: int = USER) -> int:
    """The newest message of the bot's, once it has that button."""
    await until(
        lambda: telegram.messages[chat] and name in telegram.buttons(chat, max(telegram.messages[chat]))
    )
    return max(telegram.messages[chat])


@pytest.mark.usefixtures("unhurried")
async def test_the_stop_button_ends_an_answer_although_the_chat_is_held(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store, sampling=LONG):
        await telegram.say("go on")
        message = await last_button(telegram, "stop")
        await until(lambda: len(telegram.edits[USER, message]) >= 3)
        telegram.hold(USER, 2)
        query = await telegram.press(message, "stop")
        await until(lambda: query in telegram.callbacks)
        await until(lambda: engine.stats().running == 0)
        assert telegram.callbacks[query] == "Stopped."
        assert [text for text in telegram.texts(USER) if text.endswith("Stopped.")] == []
        await answered(telegram, sqlite_store, 1)
        assert telegram.texts(USER)[-1].endswith("Stopped.")
        assert telegram.buttons(USER, message) == ["retry", "continue"]


async def test_the_retry_button_answers_again_in_the_same_message(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    sampling = Sampling(max_tokens=40, temperature=0.9)
    async with bot(telegram, engine, sqlite_store, sampling=sampling):
        for number in (1, 2):
            await telegram.say(f"question {number}")
            await answered(telegram, sqlite_store, number)
        first, second = sorted(telegram.messages[USER])
        before = telegram.texts(USER)
        await telegram.press(second, "retry")
        await until(
            lambda: len(telegram.edits[USER, second]) > 2 and "retry" in telegram.buttons(USER, second)
        )
        await answered(telegram, sqlite_store, 2)
        assert sorted(telegram.messages[USER]) == [first, second]
        assert telegram.texts(USER)[0] == before[0]
        turns = await turns_of(sqlite_store)
        assert [turn.question for turn in turns] == ["question 1", "question 2"]
        assert letters(turns[1].answer) == letters(telegram.texts(USER)[1].split("The answer reached")[0])
        # The older answer's button works as well, and begins a branch there.
        await telegram.press(first, "retry")
        await until_async(lambda: turns_of(sqlite_store), lambda turns: len(turns) == 1)


async def test_an_answer_goes_on_where_its_group_went_when_that_became_a_supergroup(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    supergroup = -1001
    async with bot(telegram, engine, sqlite_store, sampling=Sampling(max_tokens=300, temperature=0)):
        with held(engine, after=100):
            await telegram.say("@glm_test_bot go on", chat=GROUP)
            await until(lambda: len("".join(telegram.texts(GROUP))) > 50)
            telegram.migrated[GROUP] = supergroup
        key = ConversationKey("telegram", str(GROUP), str(USER))
        await until_async(lambda: sqlite_store.unfinished("telegram"), lambda open_still: not open_still)
        (turn,) = await sqlite_store.last_turns(key, 5)
        shown = "".join(telegram.texts(supergroup)).split("The answer reached")[0]
        assert letters(shown) == letters(turn.answer)


async def test_the_continue_button_goes_on_with_a_cut_answer_in_its_message(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store, sampling=replace(GREEDY, max_tokens=24)):
        await telegram.say("hello")
        await answered(telegram, sqlite_store, 1)
        (turn,) = await turns_of(sqlite_store)
        message = await last_button(telegram, "continue")
        await telegram.press(message, "continue")
        await until_async(lambda: turns_of(sqlite_store), lambda turns: turns[0].answer != turn.answer)
        await answered(telegram, sqlite_store, 1)
        (longer,) = await turns_of(sqlite_store)
        assert longer.question == "hello"
        assert longer.answer.startswith(turn.answer)
        assert sorted(telegram.messages[USER]) == [message]
        assert letters(longer.answer) in letters(telegram.texts(USER)[0])
    # What stood before the cut is what the model says without one. (What follows may differ: this tiny model says
    # bytes that are no text, which can't be told to it again.)
    async with bot(telegram, engine, sqlite_store, sampling=replace(GREEDY, max_tokens=48)):
        await telegram.say("/new")
        await until_async(lambda: turns_of(sqlite_store), lambda turns: not turns)
        await telegram.say("hello")
        await answered(telegram, sqlite_store, 1)
        (whole,) = await turns_of(sqlite_store)
        assert whole.answer.startswith(turn.answer)


async def test_a_button_is_for_whose_answer_it_is(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        await telegram.say("@glm_test_bot hello", user=8, chat=GROUP)
        message = await last_button(telegram, "retry", GROUP)
        text = telegram.texts(GROUP)
        query = await telegram.press(message, "retry", user=9, chat=GROUP)
        await until(lambda: query in telegram.callbacks)
        assert telegram.callbacks[query] == "That answer belongs to somebody else."
        await until_async(lambda: sqlite_store.unfinished("telegram"), lambda left: not left)
        assert telegram.texts(GROUP) == text


async def test_an_edited_question_is_answered_again_in_place_and_in_the_history(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        asked = await telegram.say("what is blue?")
        await answered(telegram, sqlite_store, 1)
        (answer,) = telegram.messages[USER]
        await telegram.edit(asked, "what is red?")
        await until_async(lambda: turns_of(sqlite_store), lambda turns: turns[-1].question == "what is red?")
        await answered(telegram, sqlite_store, 1)
        assert [turn.question for turn in await turns_of(sqlite_store)] == ["what is red?"]
        assert list(telegram.messages[USER]) == [answer]
        (turn,) = await turns_of(sqlite_store)
        assert letters(turn.answer) in letters(telegram.texts(USER)[0])
        # Telegram reports other edits as well: with the same text nothing happens.
        finished = engine.stats().requests_finished
        await telegram.edit(asked, "what is red?")
        await telegram.say("next")
        await answered(telegram, sqlite_store, 2)
        assert engine.stats().requests_finished == finished + 1


async def test_a_question_edited_in_mid_answer_stops_the_old_answer(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store, sampling=Sampling(max_tokens=200, temperature=0)):
        with held(engine, after=20):
            asked = await telegram.say("what is blue?")
            message = await last_button(telegram, "stop")
            await until(lambda: telegram.edits[USER, message])
            await telegram.edit(asked, "what is red?")
            await until(lambda: engine.stats().requests_cancelled == 1)
        await until_async(
            lambda: turns_of(sqlite_store), lambda turns: [t.question for t in turns] == ["what is red?"]
        )
        await answered(telegram, sqlite_store, 1)
        assert list(telegram.messages[USER]) == [message]
        (turn,) = await turns_of(sqlite_store)
        assert letters(turn.answer) in letters(telegram.texts(USER)[0])


async def test_replying_to_an_older_answer_branches_from_there(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        for number in (1, 2, 3):
            await telegram.say(f"question {number}")
            await answered(telegram, sqlite_store, number)
        first = min(telegram.messages[USER])
        await telegram.say("and now?", reply_to=first)
        await until_async(
            lambda: turns_of(sqlite_store),
            lambda turns: [turn.question for turn in turns] == ["question 1", "and now?"],
        )
        # Replying to the end of the other branch leads back to it.
        await telegram.say("back", reply_to=sorted(telegram.messages[USER])[2])
        await until_async(
            lambda: turns_of(sqlite_store),
            lambda turns: (
                [turn.question for turn in turns] == ["question 1", "question 2", "question 3", "back"]
            ),
        )


async def test_a_groups_mode_decides_what_is_answered(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store, access=ADMIN_ACCESS):
        await telegram.say("/mode all", chat=GROUP, user=8)
        await until(
            lambda: "administrators" in telegram.texts(GROUP)[-1:][0] if telegram.texts(GROUP) else False
        )
        await telegram.say("/mode all", chat=GROUP)
        await until(lambda: "every message" in telegram.texts(GROUP)[-1])
        await telegram.say("just talking", chat=GROUP, user=8)
        eight = ConversationKey("telegram", str(GROUP), "8")
        await until_async(lambda: turns_of(sqlite_store, eight), lambda turns: len(turns) == 1)
        await telegram.say("/mode command", chat=GROUP)
        await until(lambda: "commands only" in telegram.texts(GROUP)[-1])
        await telegram.say("@glm_test_bot hello", chat=GROUP, user=8)
        await telegram.say("/ask what is blue?", chat=GROUP, user=8)
        await until_async(lambda: turns_of(sqlite_store, eight), lambda turns: len(turns) == 2)
        assert (await turns_of(sqlite_store, eight))[-1].question == "what is blue?"


async def test_forum_topics_are_conversations_of_their_own(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    telegram.chats_with_topics.add(GROUP)
    async with bot(telegram, engine, sqlite_store):
        for topic in (5, 6):
            await telegram.say(f"@glm_test_bot in topic {topic}", chat=GROUP, thread=topic)
            key = ConversationKey("telegram", str(GROUP), str(USER), str(topic))
            await until_async(
                lambda key=key: turns_of(sqlite_store, key),
                lambda turns, topic=topic: [t.question for t in turns] == [f"in topic {topic}"],
            )
        await until_async(lambda: sqlite_store.unfinished("telegram"), lambda left: not left)
        assert {m["message_thread_id"] for m in telegram.messages[GROUP].values()} == {5, 6}


async def test_a_picture_with_words_is_answered_and_said_to_be_unseen(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        await telegram.say("what is blue?", photo=True)
        await answered(telegram, sqlite_store, 1)
        assert "only read text" in telegram.texts(USER)[-1]
        await telegram.say("", photo=True)
        await until(lambda: telegram.texts(USER)[-1] == "I can only read text for now.")
        await telegram.say("", photo=True, chat=GROUP)
        await telegram.say("after that")
        await answered(telegram, sqlite_store, 2)
        assert telegram.texts(GROUP) == []


async def test_export_stays_out_of_groups(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        await telegram.say("/export", chat=GROUP)
        await until(lambda: telegram.texts(GROUP))
        assert "private chat" in telegram.texts(GROUP)[0]
        assert telegram.documents == []


async def test_a_stranger_gets_in_by_a_pairing_code_that_an_administrator_passes_on(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    access = Access(admins={UserKey("telegram", str(USER))})
    async with bot(telegram, engine, sqlite_store, access=access):
        await telegram.say("hello", user=8)
        await until(lambda: telegram.texts(8))
        code = telegram.texts(8)[0].split("Pairing code: ")[1].split(" ")[0]
        await telegram.say(f"/pair {code}", user=8)
        await until(lambda: len(telegram.texts(8)) == 2)
        assert "not on this bot's list" in telegram.texts(8)[1]
        await telegram.say("/pair WRONGONE")
        await until(lambda: "No such code" in "".join(telegram.texts(USER)))
        await telegram.say(f"/pair {code}")
        await until(lambda: "telegram:8 may talk" in telegram.texts(USER)[-1])
        await telegram.say("hello", user=8)
        eight = ConversationKey("telegram", "8")
        await until_async(lambda: turns_of(sqlite_store, eight), lambda turns: len(turns) == 1)
        await until_async(lambda: sqlite_store.unfinished("telegram"), lambda left: not left)
        await telegram.say("/block 8")
        await until(lambda: "telegram:8 is blocked" in telegram.texts(USER)[-1])
        shown = telegram.texts(8)
        await telegram.say("hello again", user=8)
        await until_async(lambda: sqlite_store.unfinished("telegram"), lambda left: not left)
        assert telegram.texts(8) == shown


async def test_a_notice_reaches_every_chat_once_also_after_a_restart(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its delivery to one chat is held for longer in any case.
    monkeypatch.setattr("glmbot_telegram.adapter._DRAIN_S", 0.5)
    async with bot(telegram, engine, sqlite_store, access=ADMIN_ACCESS):
        for user in (8, 9):
            await telegram.say("hello", user=user)
        await telegram.say("@glm_test_bot hello", user=8, chat=GROUP)
        await until(
            lambda: len(telegram.texts(8)) == len(telegram.texts(9)) == len(telegram.texts(GROUP)) == 1
        )
        await until_async(lambda: sqlite_store.unfinished("telegram"), lambda left: not left)
        telegram.hold(9, 3)
        await telegram.say("/broadcast Back in ten minutes.")
        await until(lambda: telegram.texts(8)[-1] == telegram.texts(GROUP)[-1] == "Back in ten minutes.")
        await until(lambda: "Chats: 3" in "".join(telegram.texts(USER)))
        telegram.hold(9, 60)
    telegram.hold(9, 0)
    async with bot(telegram, engine, sqlite_store, access=ADMIN_ACCESS):
        await until(lambda: telegram.texts(9)[-1] == "Back in ten minutes.")
        await until_async(lambda: sqlite_store.unfinished("telegram"), lambda left: not left)
    for chat in (8, 9, GROUP):
        assert telegram.texts(chat).count("Back in ten minutes.") == 1


@pytest.mark.usefixtures("unhurried")
async def test_drafts_show_the_growing_answer_and_one_message_is_left(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    sampling = replace(GREEDY, max_tokens=100)
    async with bot(telegram, engine, sqlite_store, sampling=sampling, settings={"drafts": True}):
        await telegram.say("hello")
        await answered(telegram, sqlite_store, 1)
        assert len({text for _, _, text in telegram.drafts}) >= 3
        (versions,) = telegram.edits.values()
        assert len(versions) == 2, "the message that says nothing yet, and the whole answer"
        await telegram.say("@glm_test_bot hello", chat=GROUP)
        await until(lambda: telegram.texts(GROUP) and not engine.stats().running)
        assert {chat for chat, _, _ in telegram.drafts} == {USER}


@pytest.mark.usefixtures("unhurried")
async def test_typing_is_shown_while_there_is_no_word_yet(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        await telegram.say("hello")
        await answered(telegram, sqlite_store, 1)
        assert [chat for chat, _ in telegram.actions] == [USER]


async def test_menus_have_a_scope_and_a_language(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    telegram.messages[USER] = {}
    access = Access(admins={UserKey("telegram", str(USER)), UserKey("telegram", "999")})
    async with bot(telegram, engine, sqlite_store, access=access):
        menus = {
            scope: [entry["command"] for entry in menu] for scope, menu in telegram.scoped_commands.items()
        }
    assert set(menus) == {
        (scope, language)
        for scope in ("default", "all_private_chats", "all_group_chats", "chat")
        for language in ("", "zh")
    }
    assert "export" in menus["all_private_chats", "zh"]
    assert "export" not in menus["all_group_chats", ""]
    assert "broadcast" in menus["chat", ""]
    assert "broadcast" not in menus["default", ""]


async def raw_status(port: int, *headers: bytes, body: bytes = b"") -> int:
    """What a webhook answers to such bytes, before the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /telegram/hook HTTP/1.1\r\nHost: x\r\n" + b"\r\n".join(headers) + b"\r\n\r\n" + body)
    async with asyncio.timeout(90):
        answer = await reader.readline()
    writer.close()
    return int(answer.split()[1])


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded() -> None:
    url = "https://bot.example.org/hook"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        there = TelegramSettings(webhook_url=url, webhook_port=port)
        polling = there.model_copy(update={"webhook_url": ""})
        for running in (None, polling, there.model_copy(update={"webhook_port": 1})):
            with pytest.raises(
                AdapterError, match=rf"127\.0\.0\.1:{port} can't be listened on.*webhook_port"
            ):
                TelegramAdapter.check(there, running)
        # It is this bot that listens there, or nobody will.
        TelegramAdapter.check(there, there)
        TelegramAdapter.check(polling, None)
    TelegramAdapter.check(there, None)


@asynccontextmanager
async def hooked(
    server: TelegramServer, engine: LocalEngine, store: Store, way: str
) -> AsyncGenerator[tuple[int, str]]:
    """A bot that Telegram posts to, at [web]'s port or at one of its own: that port and the address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/telegram/hook"
    webhook = {"webhook_url": url, "webhook_secret": SecretStr("s3cret-Token")}
    if way == "a port of its own":
        async with bot(server, engine, store, settings=webhook | {"webhook_port": port}):
            yield port, url
        return
    routes, dialogue = Routes(), make_dialogue(engine, store)
    # A stranger's page of the same server asks for a token; Telegram has none.
    page = WebAdapter(WebSettings(port=port, token=SecretStr("sixteen-or-more-letters")), dialogue)
    adapter = TelegramAdapter(settings_for(server, webhook_port=0, **webhook), dialogue)
    async with running(page, routes), running(adapter, routes):
        yield port, url


@pytest.mark.parametrize("way", ["a port of its own", "[web]'s port"])
async def test_a_webhook_takes_only_what_carries_the_secret_and_confirms_only_what_is_stored(
    telegram: TelegramServer,
    engine: LocalEngine,
    sqlite_store: Store,
    caplog: pytest.LogCaptureFixture,
    way: str,
) -> None:
    async with hooked(telegram, engine, sqlite_store, way) as (port, url):
        assert telegram.webhook["secret_token"] == "s3cret-Token"
        await telegram.say("hello")
        await answered(telegram, sqlite_store, 1)
        async with aiohttp.ClientSession() as client:
            update = {"update_id": 1, "message": {}}
            for headers in ({}, {"X-Telegram-Bot-Api-Secret-Token": "guess"}):
                async with client.post(url, json=update, headers=headers) as response:
                    assert response.status == 401
            for header in (
                b"\xff",
                "s3cret-Tokené".encode(),
                b"\xed\xa0\x80",
                b"s3cret-Token\x01",
                b"x" * 8000,
            ):
                # Half a body: nobody waits for the rest of it.
                line = b"X-Telegram-Bot-Api-Secret-Token: " + header
                assert await raw_status(port, line, b"Content-Length: 900000", body=b"{") in (400, 401)
            assert await raw_status(port, b"Content-Length: x") == 400
            right = b"X-Telegram-Bot-Api-Secret-Token: s3cret-Token"
            assert await raw_status(port, right, b"Content-Length: 2000000", body=b" " * 2_000_000) == 413
            assert (
                await raw_status(port, right, b"Content-Encoding: gzip\r\nContent-Length: 2", body=b"{}")
                == 415
            )
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(150)]
            headers = {"X-Telegram-Bot-Api-Secret-Token": "s3cret-Token"}
            for body in (b"", b"[]", b"{", b'{"update_id": "x"}', b"[" * 100_000):
                async with client.post(url, data=body, headers=headers) as response:
                    assert response.status in (200, 400)
        real, failures = sqlite_store.accept, iter([True, True])

        async def failing(message: Any, at: float, *, announce: bool = True) -> bool:
            from glmbot.errors import StoreError

            if next(failures, False):
                raise StoreError("the disk is full")
            return await real(message, at)

        sqlite_store.accept = failing
        await telegram.say("again")
        await answered(telegram, sqlite_store, 2)
        assert telegram.webhook_answers[-3:] == [503, 503, 200]
        for _, writer in idle:
            writer.close()
        async with (
            aiohttp.ClientSession() as client,
            client.post(url.replace("telegram/hook", "other"), headers=headers) as response,
        ):
            assert response.status == (404 if way == "a port of its own" else 401)
        async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")
    assert not any(name == "getUpdates" for name, _ in telegram.calls)
    assert "Traceback" not in caplog.text


async def test_who_blocks_the_bot_in_mid_answer_is_left_in_peace(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store, sampling=LONG):
        with held(engine, after=20):
            await telegram.say("go on")
            await last_button(telegram, "stop")
            await telegram.shut_out()
        # That it was shut out is told by the next edit that is refused.
        await until(lambda: engine.stats().running == 0)
        await until_async(lambda: sqlite_store.unfinished("telegram"), lambda left: not left)
        writes = len(telegram.calls)
        await asyncio.sleep(0.2)
        assert [name for name, _ in telegram.calls[writes:] if name != "getUpdates"] == []
    assert PRIVATE.chat == str(USER)
