"""A Discord conversation, through discord.py's real client, the real engine and a real store."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from adapters.discord_bot import IN_CHANNEL, MENTION, USER, answered, bot
from adapters.waiting import letters
from conftest import make_dialogue, until
from glmbot.dialogue.access import Access
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.local import LocalEngine
from glmbot.errors import PlatformRefused
from glmbot.keys import ConversationKey, UserKey
from glmbot.store.base import Store
from glmbot_discord.adapter import DiscordAdapter, DiscordSettings
from held import held
from platforms.discord_server import CHANNEL_ID, DiscordServer


@pytest.mark.usefixtures("unhurried")
async def test_a_conversation_in_a_channel_streams_and_remembers(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store, sampling=Sampling(max_tokens=200, temperature=0)):
        for number in range(1, 4):
            await discord.say(f"{MENTION} question {number}")
            await answered(sqlite_store, number)
        turns = await sqlite_store.last_turns(IN_CHANNEL, 10)
        assert [turn.question for turn in turns] == ["question 1", "question 2", "question 3"]
        assert len(discord.texts()) == 3
        for text, turn in zip(discord.texts(), turns, strict=True):
            assert letters(turn.answer) in letters(text)
        assert all(len(versions) >= 3 for versions in discord.versions.values())
        token = await discord.use("context")
        await until(lambda: "Turns in it: 3" in "".join(discord.replies_to(token)))


async def test_what_is_not_for_the_bot_is_left_alone_and_direct_messages_need_no_mention(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store):
        await discord.say("just talking")
        await discord.say("hello there", direct=True)
        direct = ConversationKey("discord", str(400000000000000000 + USER))
        await answered(sqlite_store, 1, direct)
    assert discord.texts() == []
    assert len(discord.direct_texts(USER)) == 1
    intents = discord.identified[0]["intents"]
    assert not intents & (1 << 15), "the privileged message-content intent is not asked for"


async def test_reset_by_slash_command_answers_only_its_user(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store):
        await discord.say(f"{MENTION} hello")
        await answered(sqlite_store, 1)
        token = await discord.use("reset")
        await until(lambda: "put aside: 1" in "".join(discord.replies_to(token)))
        assert discord.callbacks[-1]["data"]["flags"] == 64, "ephemeral"
        assert await sqlite_store.last_turns(IN_CHANNEL, 10) == []


async def test_the_ask_command_streams_to_everybody(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store, sampling=Sampling(max_tokens=900, temperature=0)):
        token = await discord.use("ask", question="go on and on")
        await answered(sqlite_store, 1)
        (turn,) = await sqlite_store.last_turns(IN_CHANNEL, 10)
        assert len(turn.answer) > 2000
        assert len(discord.replies_to(token)) >= 2
        assert letters("".join(discord.replies_to(token))).startswith(letters(turn.answer))


async def test_a_long_answer_is_split_and_old_turns_go(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store, sampling=Sampling(max_tokens=1000, temperature=0)):
        for number in range(1, 4):
            await discord.say(f"{MENTION} go on and on {number}")
            await answered(sqlite_store, number)
        token = await discord.use("context")
        await until(lambda: "too old for it" in "".join(discord.replies_to(token)))
        assert "too old for it: 0" not in discord.replies_to(token)[0]
    turns = await sqlite_store.last_turns(IN_CHANNEL, 10)
    assert letters("".join(discord.texts())).count(letters(turns[0].answer)) >= 1
    assert len(discord.texts()) > 3


async def test_the_final_text_arrives_although_the_channel_is_rate_limited(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store, sampling=Sampling(max_tokens=400, temperature=0)):
        await discord.say(f"{MENTION} hello")
        await until(discord.texts)
        discord.hold(CHANNEL_ID, 1.2)
        await discord.say("hello", direct=True, user=8)
        await answered(sqlite_store, 1, ConversationKey("discord", str(400000000000000000 + 8)))
        await answered(sqlite_store, 1)
    assert discord.floods
    (turn,) = await sqlite_store.last_turns(IN_CHANNEL, 10)
    assert letters(turn.answer) in letters("".join(discord.texts()))


async def test_a_restart_in_mid_answer_finishes_in_the_same_message(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    sampling = Sampling(max_tokens=1200, temperature=0)
    async with bot(discord, engine, sqlite_store, sampling=sampling) as first:
        with held(engine, after=40):
            await discord.say(f"{MENTION} hello")
            await until(lambda: discord.versions)
            # The process dies: nothing is drained, nothing is said.
            await first._deliveries.drain(0)
    assert await sqlite_store.last_turns(IN_CHANNEL, 10) == []
    first_message = min(discord.messages[CHANNEL_ID])
    async with bot(discord, engine, sqlite_store, sampling=sampling):
        await answered(sqlite_store, 1)
    (turn,) = await sqlite_store.last_turns(IN_CHANNEL, 10)
    assert min(discord.messages[CHANNEL_ID]) == first_message
    assert letters("".join(discord.texts())).startswith(letters(turn.answer))


async def test_a_lost_gateway_connection_is_resumed_and_nothing_is_answered_twice(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store):
        said = await discord.say(f"{MENTION} one")
        await answered(sqlite_store, 1)
        await discord.drop_connections()
        await discord.say(f"{MENTION} two")
        await answered(sqlite_store, 2)
        assert discord.resumed == 1
        await discord.say(f"{MENTION} one", id=said)
        await discord.say(f"{MENTION} three")
        await answered(sqlite_store, 3)
    assert len(discord.texts()) == 3


async def test_precision_is_switched_by_an_administrator_while_another_stream_goes_on(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    access = Access(admins={UserKey("discord", "1")}, users={UserKey("discord", str(USER))})
    async with bot(
        discord, engine, sqlite_store, access=access, sampling=Sampling(max_tokens=1500, temperature=0)
    ):
        with held(engine):
            await discord.say(f"{MENTION} go on")
            await until(lambda: engine.stats().running == 1)
            refused = await discord.use("precision", user=USER, value="int8")
            await until(lambda: "for administrators" in "".join(discord.replies_to(refused)))
            assert engine.precision is Precision.FP32
            done = await discord.use("precision", user=1, value="int8")
            await until(lambda: "fp32 → int8" in "".join(discord.replies_to(done)))
            assert engine.precision is Precision.INT8
            assert engine.stats().running == 1, "the other stream is still going"
        await answered(sqlite_store, 1)
    (turn,) = await sqlite_store.last_turns(IN_CHANNEL, 10)
    assert letters(turn.answer) in letters("".join(discord.texts()))


async def test_commands_are_described_in_chinese_for_chinese_clients(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    async with bot(discord, engine, sqlite_store):
        by_name = {command["name"]: command for command in discord.commands}
        assert by_name["help"]["description_localizations"]["zh-CN"] == "我会做什么"
        assert {"ask", "reset", "stop", "retry", "precision"} <= set(by_name)


async def test_a_wrong_token_is_said_clearly(
    discord: DiscordServer, engine: LocalEngine, sqlite_store: Store
) -> None:
    settings = DiscordSettings(token=SecretStr("wrong-token-value"), api_base_url=discord.url)
    with pytest.raises(PlatformRefused, match="does not know it") as caught:
        await DiscordAdapter(settings, make_dialogue(engine, sqlite_store)).start()
    assert "wrong-token-value" not in str(caught.value)
