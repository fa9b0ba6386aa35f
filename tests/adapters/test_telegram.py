"""A Telegram conversation, through python-telegram-bot's real client, the real engine and a real store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from adapters.telegram_bot import USER, answered, bot, settings_for, turns_of
from adapters.waiting import letters, until_async
from conftest import GREEDY, make_dialogue, until
from glmbot.dialogue.access import Access
from glmbot.engine.base import Sampling
from glmbot.engine.local import LocalEngine
from glmbot.errors import AdapterError
from glmbot.keys import ConversationKey, UserKey
from glmbot.store.base import Store
from glmbot.store.sqlite import SqliteStore
from glmbot_telegram.adapter import TelegramAdapter, TelegramSettings
from held import held
from platforms.telegram_server import Refusal, TelegramServer


async def test_a_conversation_of_several_turns_streams_and_remembers(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store, sampling=Sampling(max_tokens=120, temperature=0)):
        for number in range(1, 4):
            await telegram.say(f"question {number}")
            await answered(telegram, sqlite_store, number)
        turns = await turns_of(sqlite_store)
        assert [turn.question for turn in turns] == ["question 1", "question 2", "question 3"]
        for message, turn in zip(telegram.texts(USER), turns, strict=True):
            assert letters(turn.answer) in letters(message)
        shown = list(telegram.edits.values())
        assert all(len(versions) >= 3 for versions in shown), "each answer grew before it was final"
        await telegram.say("/context")
        await until(lambda: len(telegram.texts(USER)) == 4)
        assert "Turns in it: 3" in telegram.texts(USER)[-1]


async def test_reset_forgets_and_the_next_question_starts_anew(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        await telegram.say("hello")
        await answered(telegram, sqlite_store, 1)
        await telegram.say("/reset")
        await until(lambda: "put aside: 1" in telegram.texts(USER)[-1])
        assert await turns_of(sqlite_store) == []


async def test_old_turns_go_when_the_context_is_full(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    long_question = "tell me about the lazy dog " * 60
    async with bot(telegram, engine, sqlite_store):
        for number in range(1, 6):
            await telegram.say(f"{number} {long_question}")
            await answered(telegram, sqlite_store, number)
        await telegram.say("/context")
        await until(lambda: "too old for it" in telegram.texts(USER)[-1])
        report = telegram.texts(USER)[-1]
        assert "too old for it: 0" not in report
        used, budget = (int(part) for part in report.split(" tokens")[0].split(": ")[1].split(" of "))
        assert used <= budget == 2048 - GREEDY.max_tokens


async def test_a_long_answer_is_split_and_no_text_is_lost(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store, sampling=Sampling(max_tokens=1900, temperature=0)):
        await telegram.say("go on and on")
        await answered(telegram, sqlite_store, 1)
    (turn,) = await turns_of(sqlite_store)
    assert len(turn.answer) > 4096
    texts = telegram.texts(USER)
    assert len(texts) >= 2
    assert letters("".join(texts)).startswith(letters(turn.answer))


async def test_the_final_text_arrives_although_edits_are_flooded(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store, sampling=Sampling(max_tokens=600, temperature=0)):
        await telegram.say("hello")
        await until(lambda: telegram.texts(USER))
        telegram.hold(USER, 1.5)
        other = 8
        await telegram.say("hello", user=other)
        await until(lambda: telegram.floods)
        await until_async(
            lambda: turns_of(sqlite_store, ConversationKey("telegram", str(other))),
            lambda turns: bool(turns),
        )
        assert not any(chat == other for chat, _ in telegram.floods), "the other chat never waits"
        await answered(telegram, sqlite_store, 1)
    (turn,) = await turns_of(sqlite_store)
    assert letters(turn.answer) in letters("".join(telegram.texts(USER)))


async def test_an_answer_in_a_group_quotes_its_question_although_the_first_try_was_refused(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        telegram.hold(-5, 1.0)
        asked = await telegram.say("@glm_test_bot hello", user=7, chat=-5)
        await until(lambda: telegram.texts(-5))
        assert telegram.floods
        (answer,) = telegram.messages[-5].values()
        assert answer["replies_to"] == asked


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("setMyCommands", 404, page=True),
        Refusal("setMyCommands", 502, page=True),
        Refusal("setMyCommands", 429, "Too Many Requests: retry after 3600"),
    ],
)
async def test_a_bot_without_menus_answers_all_the_same(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store, refusal: Refusal
) -> None:
    telegram.refusals.append(refusal)
    async with bot(telegram, engine, sqlite_store):
        await telegram.say("hello")
        await answered(telegram, sqlite_store, 1)


async def test_real_flood_limits_are_survived(
    engine: LocalEngine, sqlite_store: Store, unhurried: None
) -> None:
    """A bot configured far too fast for Telegram's law of one message a second still ends right."""
    telegram = TelegramServer(seconds_per_message=0.5)
    await telegram.start()
    try:
        async with bot(telegram, engine, sqlite_store, sampling=Sampling(max_tokens=300, temperature=0)):
            await telegram.say("hello")
            await answered(telegram, sqlite_store, 1)
        (turn,) = await turns_of(sqlite_store)
        assert telegram.floods, "the law was felt"
        assert letters(turn.answer) in letters("".join(telegram.texts(USER)))
    finally:
        await telegram.stop()
    assert telegram.violations == []


async def test_a_restart_in_mid_answer_finishes_in_the_same_message(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    sampling = Sampling(max_tokens=1500, temperature=0)
    adapter = TelegramAdapter(settings_for(telegram), make_dialogue(engine, sqlite_store, sampling=sampling))
    await adapter.start()
    running = asyncio.create_task(adapter.run())
    with held(engine, after=40):
        await telegram.say("hello")
        await until(lambda: telegram.edits)
        # The process dies: nothing is drained, nothing is said.
        running.cancel()
        adapter._running.end()
        await adapter._deliveries.drain(0)
    assert await turns_of(sqlite_store) == []
    first_message = min(telegram.messages[USER])
    async with bot(telegram, engine, sqlite_store, sampling=sampling):
        await answered(telegram, sqlite_store, 1)
    (turn,) = await turns_of(sqlite_store)
    assert min(telegram.messages[USER]) == first_message
    assert letters("".join(telegram.texts(USER))).startswith(letters(turn.answer))


async def test_a_restart_after_the_answer_shows_it_without_generating_again(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its delivery is held for longer in any case.
    monkeypatch.setattr("glmbot_telegram.adapter._DRAIN_S", 0.5)
    async with bot(telegram, engine, sqlite_store):
        await telegram.say("hello")
        await until(lambda: telegram.messages[USER])
        telegram.hold(USER, 3)
        await until_async(lambda: turns_of(sqlite_store), lambda turns: len(turns) == 1)
        generated = engine.stats().requests_finished
        telegram.hold(USER, 60)
    telegram.hold(USER, 0)
    assert await sqlite_store.unfinished("telegram")
    async with bot(telegram, engine, sqlite_store):
        await answered(telegram, sqlite_store, 1)
    assert engine.stats().requests_finished == generated
    (turn,) = await turns_of(sqlite_store)
    assert letters(turn.answer) in letters("".join(telegram.texts(USER)))


async def test_an_update_sent_twice_is_answered_once(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        update = await telegram.say("hello")
        await answered(telegram, sqlite_store, 1)
        await telegram.send_again(update)
        await telegram.say("another")
        await answered(telegram, sqlite_store, 2)
    assert len(telegram.texts(USER)) == 2


async def test_an_update_is_confirmed_only_once_it_is_stored(
    telegram: TelegramServer, engine: LocalEngine, tmp_path: Path
) -> None:
    class BrokenAtFirst(SqliteStore):
        failures = 2

        async def accept(self, message: Any, at: float, *, announce: bool = True) -> bool:
            if self.failures:
                self.failures -= 1
                from glmbot.errors import StoreError

                raise StoreError("the disk is full")
            return await super().accept(message, at)

    store = BrokenAtFirst(tmp_path / "broken.sqlite3")
    await store.open()
    async with bot(telegram, engine, store):
        await telegram.say("hello")
        await until(lambda: store.failures == 1)
        assert telegram.unconfirmed == 1
        await answered(telegram, store, 1)
    await store.close()


async def test_a_stranger_is_told_their_id_and_nothing_else(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store, access=Access()):
        await telegram.say("/start")
        await until(lambda: telegram.texts(USER))
        assert "telegram:7" in telegram.texts(USER)[0]
        await telegram.say("hello", chat=-100, user=9)
        await telegram.say("@glm_test_bot hello", chat=-100, user=9)
        await until_async(lambda: sqlite_store.unfinished("telegram"), lambda left: not left)
        assert telegram.texts(-100) == []
        assert engine.stats().requests_finished == 0


async def test_in_a_group_only_what_is_meant_for_the_bot_is_answered_each_with_their_own_history(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        await telegram.say("just talking", chat=-100, user=8)
        await telegram.say("@glm_test_bot what is red?", chat=-100, user=8)
        eight = ConversationKey("telegram", "-100", "8")
        await until_async(lambda: turns_of(sqlite_store, eight), lambda turns: len(turns) == 1)
        await until(lambda: telegram.texts(-100))
        answer = min(telegram.messages[-100])
        await telegram.say("and green?", chat=-100, user=9, reply_to=answer)
        nine = ConversationKey("telegram", "-100", "9")
        await until_async(lambda: turns_of(sqlite_store, nine), lambda turns: len(turns) == 1)
    assert [turn.question for turn in await turns_of(sqlite_store, eight)] == ["what is red?"]
    # What nine answered was said to somebody else: its words come along, eight's history does not.
    (turn,) = await turns_of(sqlite_store, nine)
    assert turn.question.startswith("> ")
    assert turn.question.endswith("and green?")


async def test_who_blocked_the_bot_is_left_in_peace(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    telegram.blocked_by.add(USER)
    async with bot(telegram, engine, sqlite_store):
        await telegram.say("hello")
        await until(lambda: any(method == "sendMessage" for method, _ in telegram.calls))
        await until_async(lambda: sqlite_store.unfinished("telegram"), lambda left: not left)
        await telegram.say("hello", user=8)
        await until(lambda: telegram.texts(8))


async def test_stop_ends_a_running_answer_at_once(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store, sampling=Sampling(max_tokens=1900, temperature=0)):
        with held(engine, after=40):
            await telegram.say("go on")
            await until(lambda: telegram.edits)
            await telegram.say("/stop")
            await answered(telegram, sqlite_store, 1)
        await until(lambda: engine.stats().running == 0)
        assert engine.stats().cache_tokens_used == 0
    assert any("Stopped." in text for text in telegram.texts(USER))


async def test_export_comes_as_a_file_and_forget_leaves_nothing(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        await telegram.say("my secret is blue")
        await answered(telegram, sqlite_store, 1)
        await telegram.say("/export")
        await until(lambda: telegram.documents)
        exported = json.loads(telegram.documents[0][2])
        assert exported["conversations"][0]["turns"][0]["question"] == "my secret is blue"
        await telegram.say("/forget yes")
        await until(lambda: "Nothing of you is kept" in telegram.texts(USER)[-1])
        assert await sqlite_store.export(UserKey("telegram", str(USER))) == []


async def test_menus_are_published_in_both_languages_and_pending_updates_are_kept(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        assert {"command": "help", "description": "what I can do"} in telegram.commands[""]
        assert {"command": "help", "description": "我会做什么"} in telegram.commands["zh"]
    dropped = [
        fields.get("drop_pending_updates") for name, fields in telegram.calls if name == "deleteWebhook"
    ]
    assert dropped in ([None], ["false"])


async def test_a_wrong_token_is_said_clearly_and_not_shown(
    telegram: TelegramServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    settings = settings_for(telegram).model_copy(update={"token": SecretStr("1:wrong-token-value")})
    adapter = TelegramAdapter(settings, make_dialogue(engine, sqlite_store))
    with pytest.raises(AdapterError, match="token") as caught:
        await adapter.start()
    assert "wrong-token-value" not in str(caught.value)
    with pytest.raises(AdapterError, match="GLMBOT_TELEGRAM__TOKEN"):
        await TelegramAdapter(TelegramSettings(), make_dialogue(engine, sqlite_store)).start()
