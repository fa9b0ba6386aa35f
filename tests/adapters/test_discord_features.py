"""What people do on Discord beside asking: threads, buttons, edits, deletions, autocompletion; and what it forbids."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest
from discord.gateway import KeepAliveHandler

from adapters.discord_bot import IN_CHANNEL, MENTION, USER, answered, bot
from adapters.scripted import ScriptedEngine
from adapters.waiting import letters, until_async
from conftest import until
from glmbot.dialogue.access import Access
from glmbot.engine.base import Sampling
from glmbot.engine.local import LocalEngine
from glmbot.keys import ConversationKey, UserKey
from glmbot.store.base import Store
from glmbot.store.redis import RedisStore
from held import held
from platforms.discord_server import CHANNEL_ID, DiscordServer

LONG = Sampling(max_tokens=1500, temperature=0)


async def questions(store: Store, conversation: ConversationKey = IN_CHANNEL) -> list[str]:
    return [turn.question for turn in await store.last_turns(conversation, 100)]


async def last_button(discord: DiscordServer, name: str) -> int:
    """The newest message of the bot's in the channel, once it has that button."""
    shown = discord.messages[CHANNEL_ID]
    await until(lambda: shown and name in discord.buttons(max(shown)))
    return max(shown)


@pytest.mark.usefixtures("unhurried")
async def test_the_stop_button_ends_an_answer_although_the_channel_is_held(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store, sampling=LONG):
        await discord.say(f"{MENTION} go on")
        message = await last_button(discord, "stop")
        await until(lambda: len(discord.versions[message]) >= 2)
        discord.hold(CHANNEL_ID, 2)
        await discord.press(message, "stop")
        await until(lambda: engine.stats().running == 0)
        assert not discord.texts()[0].endswith("Stopped.")
        await answered(sqlite_store, 1)
        assert discord.texts()[0].endswith("-# Stopped.")
        assert discord.buttons(message) == ["retry", "continue"]


async def test_retry_and_continue_work_in_the_answers_own_message_and_for_its_asker_only(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store, sampling=Sampling(max_tokens=24, temperature=0)):
        await discord.say(f"{MENTION} hello")
        await answered(sqlite_store, 1)
        message = await last_button(discord, "continue")
        (turn,) = await sqlite_store.last_turns(IN_CHANNEL, 5)
        await discord.press(message, "continue", user=8)
        await until(lambda: discord.callbacks)
        assert discord.callbacks[-1]["data"]["content"] == "That answer belongs to somebody else."
        assert discord.callbacks[-1]["data"]["flags"] == 64
        await discord.press(message, "continue")
        await until_async(
            lambda: sqlite_store.last_turns(IN_CHANNEL, 5), lambda turns: turns[0].answer != turn.answer
        )
        await answered(sqlite_store, 1)
        (longer,) = await sqlite_store.last_turns(IN_CHANNEL, 5)
        assert longer.answer.startswith(turn.answer)
        assert letters(longer.answer) in letters(discord.texts()[0])
        await discord.press(message, "retry")
        await until_async(
            lambda: sqlite_store.last_turns(IN_CHANNEL, 5), lambda turns: turns[0].answer != longer.answer
        )
        await answered(sqlite_store, 1)
        assert list(discord.messages[CHANNEL_ID]) == [message]


async def test_an_answer_to_a_slash_command_has_buttons_that_work(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store):
        token = await discord.use("ask", question="hello")
        await answered(sqlite_store, 1)
        (message,) = discord._interactions[token]["messages"]
        discord.messages[CHANNEL_ID][message] = discord._interactions[token]["messages"][message]
        (turn,) = await sqlite_store.last_turns(IN_CHANNEL, 5)
        await discord.press(message, "retry")
        await until_async(
            lambda: sqlite_store.last_turns(IN_CHANNEL, 5), lambda turns: turns[0].answer != turn.answer
        )
        await answered(sqlite_store, 1)
        (again,) = await sqlite_store.last_turns(IN_CHANNEL, 5)
        assert letters(again.answer) in letters(discord.texts()[0])


async def test_an_edited_question_is_answered_again_in_place_and_a_preview_is_no_edit(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store):
        asked = await discord.say(f"{MENTION} what is blue?")
        await answered(sqlite_store, 1)
        finished = engine.stats().requests_finished
        await discord.edit(asked, f"{MENTION} what is blue?", preview=True)
        await discord.edit(asked, f"{MENTION} what is red?")
        await until_async(lambda: questions(sqlite_store), lambda asked: asked == ["what is red?"])
        await answered(sqlite_store, 1)
        assert len(discord.texts()) == 1
        (turn,) = await sqlite_store.last_turns(IN_CHANNEL, 5)
        assert letters(turn.answer) in letters(discord.texts()[0])
        assert engine.stats().requests_finished == finished + 1


@pytest.mark.parametrize("streams", [False, True])
async def test_nothing_is_left_of_a_question_that_is_edited_at_once(
    discord: DiscordServer, sqlite_store: Store, streams: bool
) -> None:
    scripted = ScriptedEngine(lambda prompt: "old words" if "blue" in prompt else "new words")
    scripted.goes_on.clear()
    engine: Any = scripted
    async with bot(discord, engine, sqlite_store):
        asked = await discord.say(f"{MENTION} what is blue?")
        await until(lambda: discord.texts() if streams else scripted.prompts)
        await discord.edit(asked, f"{MENTION} what is red?")
        await until(lambda: "red" in "".join(scripted.prompts))
        scripted.goes_on.set()
        await answered(sqlite_store, 1)
        assert discord.texts() == ["new words"]
        assert await questions(sqlite_store) == ["what is red?"]


async def test_a_deleted_question_takes_its_answer_with_it(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store):
        first = await discord.say(f"{MENTION} one")
        await answered(sqlite_store, 1)
        await discord.say(f"{MENTION} two")
        await answered(sqlite_store, 2)
        kept = discord.texts()[1]
        await discord.delete(first)
        await until(lambda: discord.texts() == [kept])
        assert await questions(sqlite_store) == ["two"]


async def test_numbers_that_are_no_messages_are_never_deleted(
    discord: DiscordServer, sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with bot(discord, ScriptedEngine(), sqlite_store) as adapter:
        for number in (10**30, 2**63, int(1e308), 0, -1):
            await adapter.take_deletion(number, CHANNEL_ID)
            await adapter.take_deletion(CHANNEL_ID, number)
    assert not caplog.records or max(record.levelno for record in caplog.records) < logging.WARNING


async def test_a_question_deleted_in_mid_answer_stops_it(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store, sampling=LONG):
        with held(engine, after=20):
            asked = await discord.say(f"{MENTION} go on")
            await last_button(discord, "stop")
            await discord.delete(asked)
            await until(lambda: discord.texts() == [] and not engine.stats().running)
        await until_async(lambda: questions(sqlite_store), lambda asked: asked == [])


async def test_a_reply_to_an_older_answer_branches_from_there(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store):
        for number in (1, 2):
            await discord.say(f"{MENTION} question {number}")
            await answered(sqlite_store, number)
        await discord.say(f"{MENTION} and now?", reply_to=min(discord.messages[CHANNEL_ID]))
        await until_async(lambda: questions(sqlite_store), lambda asked: asked == ["question 1", "and now?"])


async def test_a_question_is_answered_in_a_thread_of_its_own_which_goes_on_there(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    settings = {"threads": True, "message_content": True}
    async with bot(discord, engine, sqlite_store, settings=settings):
        asked = await discord.say(f"{MENTION} what is blue?")
        thread = ConversationKey("discord", str(CHANNEL_ID), str(USER), str(asked))
        await answered(sqlite_store, 1, thread)
        assert discord.texts() == []
        assert len(discord.texts(asked)) == 1
        assert discord.threads[asked]["name"] == "what is blue?"
        await discord.say("and red?", thread=asked)
        await answered(sqlite_store, 2, thread)
        assert await questions(sqlite_store, thread) == ["what is blue?", "and red?"]
        assert len(discord.texts(asked)) == 2
        discord.no_threads_in.add(CHANNEL_ID)
        second = await discord.say(f"{MENTION} where?")
        await answered(
            sqlite_store,
            1,
            ConversationKey("discord", str(CHANNEL_ID), str(USER), str(second)),
        )
        assert len(discord.texts()) == 1


async def test_a_restart_finds_the_thread_that_it_opened(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    settings = {"threads": True}
    async with bot(discord, engine, sqlite_store, sampling=LONG, settings=settings) as first:
        asked = await discord.say(f"{MENTION} go on")
        await until(lambda: discord.texts(asked))
        await first._deliveries.drain(0)
    async with bot(discord, engine, sqlite_store, settings=settings):
        await answered(sqlite_store, 1, ConversationKey("discord", str(CHANNEL_ID), str(USER), str(asked)))
    assert list(discord.threads) == [asked]
    assert discord.texts() == []


async def test_where_the_bot_may_not_write_its_asker_is_told_in_private(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    discord.forbidden.add(CHANNEL_ID)
    async with bot(discord, engine, sqlite_store):
        await discord.say(f"{MENTION} hello")
        await until(lambda: discord.direct_texts(USER))
        assert "Send Messages" in discord.direct_texts(USER)[0]
        await until_async(lambda: sqlite_store.unfinished("discord"), lambda left: not left)


async def test_choices_that_come_too_late_are_no_fault(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    typed = {"name": "value", "type": 3, "value": "a", "focused": True}
    async with bot(discord, engine, sqlite_store):
        event = discord.interaction(4, {"id": "1", "name": "mode", "type": 1, "options": [typed]})
        await discord.dispatch("INTERACTION_CREATE", {**event, "token": "forgotten by Discord"})
        await until(lambda: caplog.text.count("choices were refused") == 1)
        event = discord.interaction(
            4, {"id": "1", "name": "mode", "type": 1, "options": [{**typed, "type": 99}]}
        )
        await discord.dispatch("INTERACTION_CREATE", event)
        await until(lambda: caplog.text.count("choices were refused") == 2)
    assert not [record for record in caplog.records if record.exc_info]


async def test_values_of_commands_are_offered_while_one_types(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store):
        assert await discord.complete("precision", "int") == ["int8", "int4"]
        assert await discord.complete("lang", "") == ["en", "zh", "auto"]
        assert await discord.complete("mode", "x") == []


async def test_a_groups_mode_needs_the_content_of_messages(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    access = Access(admins={UserKey("discord", str(USER))}, open_platforms={"discord"})
    settings = {"message_content": True}
    async with bot(discord, engine, sqlite_store, access=access, settings=settings):
        await discord.say("among ourselves", user=9)
        await discord.say(f"{MENTION} /mode all")
        await until(lambda: "every message" in "".join(discord.texts()))
        await discord.say("just talking", user=8)
        await answered(sqlite_store, 1, ConversationKey("discord", str(CHANNEL_ID), "8"))
    assert await questions(sqlite_store, ConversationKey("discord", str(CHANNEL_ID), "9")) == []


async def test_an_answer_for_one_persons_eyes_is_never_shown_to_others_after_a_restart(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store) as first:
        real = first._dialogue.respond

        async def never(message):
            await asyncio.sleep(60)
            async for reply in real(message):
                yield reply

        first._dialogue.respond = never
        token = await discord.use("export")
        await until_async(lambda: sqlite_store.unfinished("discord"), lambda left: len(left) == 1)
        await first._deliveries.drain(0)
    async with bot(discord, engine, sqlite_store):
        await until(lambda: discord.replies_to(token))
        await until_async(lambda: sqlite_store.unfinished("discord"), lambda left: not left)
        assert discord.files
        # The same with a token that has expired by then.
        discord.files.clear()
        discord.token_lives_s = 0
        await discord.use("export")
        await until_async(lambda: sqlite_store.unfinished("discord"), lambda left: not left)
    assert discord.texts() == []
    assert discord.files == []


async def test_a_public_answer_goes_on_in_the_channel_when_the_interaction_has_expired(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    discord.token_lives_s = 0
    async with bot(discord, engine, sqlite_store):
        await discord.use("ask", question="hello")
        await answered(sqlite_store, 1)
    (turn,) = await sqlite_store.last_turns(IN_CHANNEL, 5)
    assert letters(turn.answer) in letters("".join(discord.texts()))


async def test_shards_share_the_servers_and_answer_once(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store, settings={"shards": 2}) as adapter:
        await until(lambda: len(discord.identified) == 2)
        assert sorted(each["shard"] for each in discord.identified) == [[0, 2], [1, 2]]
        await until(lambda: len(discord._sockets) == 2)
        await until(adapter._ready.is_set)
        await discord.say(f"{MENTION} hello")
        await answered(sqlite_store, 1)
        await discord.say("hello", direct=True)
        await answered(sqlite_store, 1, ConversationKey("discord", str(400000000000000000 + USER)))
    assert len(discord.texts()) == 1


@pytest.mark.parametrize("shards", [1, 2])
async def test_a_client_that_is_closed_says_no_more_that_it_is_ready(
    discord: DiscordServer, sqlite_store: Store, shards: int
) -> None:
    """It waits for its servers a while before it does; on a closed one that would pass for a new connection. Nor does
    a connection that was still being made send heartbeats for ever."""

    def waiting() -> list[str]:
        names = [repr(task.get_coro()) for task in asyncio.all_tasks()]
        return [name for name in names if "_delay_" in name]

    async with bot(discord, ScriptedEngine(), sqlite_store, settings={"shards": shards}) as adapter:
        adapter._client._connection.guild_ready_timeout = 600
        await until(waiting)
    await asyncio.sleep(0)
    assert waiting() == []
    threads = [each for each in threading.enumerate() if isinstance(each, KeepAliveHandler)]
    assert all(each._stop_ev.is_set() for each in threads)


async def test_two_processes_hear_everything_and_answer_once(
    discord: DiscordServer, engine: LocalEngine, redis_url: str
) -> None:
    prefix = f"test-{time.time_ns()}"
    mine, other = (RedisStore(redis_url, prefix=prefix) for _ in range(2))
    async with bot(discord, engine, mine) as first, bot(discord, engine, other):
        await discord.say(f"{MENTION} hello")
        token = await discord.use("ask", user=8, question="and you?")
        await answered(mine, 1)
        await answered(mine, 1, ConversationKey("discord", str(CHANNEL_ID), "8"))
        assert len(discord.texts()) == 1
        assert len(discord.replies_to(token)) == 1
        # One that dies between acknowledging a command and storing it: the other one has heard it as well.
        first._dialogue.accept = never  # pyright: ignore[reportAttributeAccessIssue]
        token = await discord.use("ask", user=9, question="and now?")
        await answered(mine, 1, ConversationKey("discord", str(CHANNEL_ID), "9"))
        assert len(discord.replies_to(token)) == 1
    await mine.close()
    await other.close()


async def never(*_: object) -> bool:
    return await asyncio.Event().wait()


async def test_typing_is_shown_in_the_channel(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store):
        await discord.say(f"{MENTION} hello")
        await answered(sqlite_store, 1)
    assert discord.typed == [CHANNEL_ID]
