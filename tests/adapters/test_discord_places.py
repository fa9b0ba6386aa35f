"""Where something is said on Discord, and what follows: whose history it is, and who may do what there."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.discord_bot import IN_CHANNEL, MENTION, USER, answered, bot
from adapters.scripted import ScriptedEngine
from adapters.waiting import until_async
from conftest import until
from glmbot.dialogue.access import Access
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import ChatKind, Message, Visibility
from glmbot.store.base import Store
from glmbot_discord.normalize import carried_over
from platforms.discord_server import (
    BETWEEN_ID,
    BOT,
    BOT_ID,
    CHANNEL_ID,
    GROUP_DM_ID,
    GUILD_ID,
    DiscordServer,
)

ADMIN, MEMBER, NEWCOMER = 1, 7, 9
ACCESS = Access(admins={UserKey("discord", str(ADMIN))}, users={UserKey("discord", str(MEMBER))})


async def told(discord: DiscordServer, command: str, *, user: int, **options: str) -> str:
    """What the one who uses a slash command reads in the end."""
    token = await discord.use(command, user=user, **options)
    await until(lambda: "".join(discord.replies_to(token)).strip("…"))
    return "\n".join(discord.replies_to(token))


async def test_a_slash_command_has_the_rights_of_its_channel_whoever_sees_its_answer(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    channel = ChatKey("discord", str(CHANNEL_ID))
    async with bot(discord, ScriptedEngine(), sqlite_store, access=ACCESS):
        assert "for administrators" in await told(discord, "prompt", user=MEMBER, value="Only insults.")
        assert "for administrators" in await told(discord, "mode", user=MEMBER, value="all")
        assert "not on this bot's list" in await told(discord, "status", user=NEWCOMER)
        assert await sqlite_store.settings(channel) == {}
        await told(discord, "prompt", user=ADMIN, value="Be brief.")
        assert "every message" in await told(discord, "mode", user=ADMIN, value="all")
        await told(discord, "allow", user=ADMIN, value="here")
        assert await sqlite_store.settings(channel) == {
            "prompt": "Be brief.",
            "mode": "all",
            "access": "user",
        }
        options = {"lang": {"value": "zh"}, "forget": {"value": "yes"}}
        for command in ("new", "reset", "stop", "context", "help", "whoami", "lang", "prompt", "forget"):
            assert "list" not in await told(discord, command, user=NEWCOMER, **options.get(command, {}))
        assert {callback["data"]["flags"] for callback in discord.callbacks} == {64}, "each for one alone"


@pytest.mark.parametrize("blocked", [False, True])
async def test_who_is_not_let_in_does_not_watch_the_bot_think_for_ever(
    discord: DiscordServer, sqlite_store: Store, blocked: bool
) -> None:
    """Nothing stands in the channel, and its user is told alone."""
    async with bot(discord, ScriptedEngine(), sqlite_store, access=ACCESS):
        if blocked:
            await sqlite_store.set_setting(UserKey("discord", str(NEWCOMER)), "access", "blocked")
        token = await discord.use("ask", user=NEWCOMER, question="hello")
        await until(lambda: discord.withdrawn(token))
        await until(lambda: discord.hidden_replies_to(token))
        assert discord.replies_to(token) == discord.hidden_replies_to(token)
        assert "/start" in discord.replies_to(token)[0]
        await until_async(lambda: sqlite_store.unfinished("discord"), lambda left: not left)


async def test_somebody_blocked_does_not_watch_the_bot_think_in_private_either(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    async with bot(discord, ScriptedEngine(), sqlite_store, access=ACCESS):
        await sqlite_store.set_setting(UserKey("discord", str(NEWCOMER)), "access", "blocked")
        assert "let in" in await told(discord, "help", user=NEWCOMER)


async def test_a_history_is_sent_to_its_owner_from_a_channel_but_never_into_one(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    async with bot(discord, ScriptedEngine(), sqlite_store):
        await discord.use("export")
        await until(lambda: discord.files)
        assert [name for name, _ in discord.files] == ["glmbot-export.json"]
        assert discord.callbacks[-1]["data"]["flags"] == 64
        await discord.say(f"{MENTION} /export")
        await until(discord.texts)
        assert "private" in discord.texts()[0]
        assert len(discord.files) == 1


async def test_what_is_asked_by_slash_command_is_a_question_whatever_it_begins_with(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    async with bot(discord, ScriptedEngine(), sqlite_store):
        for number, question in enumerate(("/8ball", "/prompt Only insults.", "/usr/bin?"), 1):
            await discord.use("ask", question=question)
            await answered(sqlite_store, number)
        turns = await sqlite_store.last_turns(IN_CHANNEL, 9)
        assert [turn.question for turn in turns] == ["/8ball", "/prompt Only insults.", "/usr/bin?"]
        assert await sqlite_store.settings(ChatKey("discord", str(CHANNEL_ID))) == {}


@pytest.mark.parametrize(("place", "chat"), [("group", GROUP_DM_ID), ("between", BETWEEN_ID)])
async def test_people_of_one_direct_channel_have_a_history_each(
    discord: DiscordServer, sqlite_store: Store, place: str, chat: int
) -> None:
    async with bot(discord, ScriptedEngine(), sqlite_store, access=ACCESS):
        for user in (MEMBER, ADMIN):
            await discord.use("ask", user=user, place=place, question=f"of {user}")
            key = ConversationKey("discord", str(chat), str(user))
            await answered(sqlite_store, 1, key)
            assert [turn.question for turn in await sqlite_store.last_turns(key, 9)] == [f"of {user}"]
        assert "for administrators" in await told(discord, "prompt", user=MEMBER, place=place, value="x")
    assert await sqlite_store.last_turns(ConversationKey("discord", str(chat)), 9) == []


async def test_alone_with_the_bot_words_and_slash_commands_share_a_history(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    direct = ConversationKey("discord", str(DiscordServer.direct_channel(USER)))
    async with bot(discord, ScriptedEngine(), sqlite_store, access=ACCESS):
        await discord.say("one", direct=True)
        await answered(sqlite_store, 1, direct)
        await discord.use("ask", place="direct", question="two")
        await answered(sqlite_store, 2, direct)
    assert [turn.question for turn in await sqlite_store.last_turns(direct, 9)] == ["one", "two"]


async def test_people_of_a_server_that_the_library_does_not_know_have_a_history_each(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    """Its GUILD_CREATE is late, or was left out as unreadable; so were its channels and threads."""

    def elsewhere(channel: int, user: int, text: str, **changes: Any) -> dict[str, Any]:
        spoken = discord.spoken(discord._new_id(), channel, user, text, direct=False)
        return spoken | {"guild_id": "999000000000000000"} | changes

    engine = ScriptedEngine()
    async with bot(discord, engine, sqlite_store):
        for channel_type, channel in ((0, 700), (11, 701)):
            for user in (7, 8):
                asked = elsewhere(channel, user, f"{MENTION} of {user}", channel_type=channel_type)
                key = ConversationKey("discord", str(channel), str(user))
                await discord.send_raw("MESSAGE_CREATE", asked)
                await answered(sqlite_store, 1, key)
                edited = {
                    "content": f"{MENTION} again of {user}",
                    "edited_timestamp": "2026-01-01T00:00:00+00:00",
                }
                await discord.send_raw("MESSAGE_UPDATE", asked | edited)
                await until_async(
                    lambda key=key: sqlite_store.last_turns(key, 9),
                    lambda turns, user=user: [turn.question for turn in turns] == [f"again of {user}"],
                )
                await answered(sqlite_store, 1, key)
                shown = discord.messages[channel][max(discord.messages[channel])]
                (retry,) = [
                    button["custom_id"]
                    for row in shown["components"]
                    for button in row["components"]
                    if "retry" in button["custom_id"]
                ]
                before = len(engine.prompts)
                pressed = discord.interaction(
                    3, {"custom_id": retry, "component_type": 2}, user=user, message=shown, channel=channel
                )
                await discord.send_raw("INTERACTION_CREATE", pressed | {"guild_id": "999000000000000000"})
                await until(lambda before=before: len(engine.prompts) > before)
                await answered(sqlite_store, 1, key)
            assert await sqlite_store.last_turns(ConversationKey("discord", str(channel)), 9) == []


def test_what_an_earlier_release_stored_as_private_is_obeyed_with_the_rights_of_its_channel() -> None:
    channel, direct = ConversationKey("discord", str(CHANNEL_ID), "7"), ConversationKey("discord", "5")
    stored = Message("interaction 1", channel, UserKey("discord", "7"), "/prompt x", ChatKind.PRIVATE)
    read = carried_over(stored)
    assert (read.chat_kind, read.visibility) == (ChatKind.GROUP, Visibility.ASKER)
    alone = Message("interaction 1", direct, UserKey("discord", "7"), "/prompt x", ChatKind.PRIVATE)
    assert carried_over(alone) is alone


@pytest.mark.parametrize("threads", [False, True])
async def test_a_question_deleted_after_a_restart_takes_its_answer_with_it(
    discord: DiscordServer, sqlite_store: Store, threads: bool
) -> None:
    settings = {"threads": threads, "message_content": True}
    async with bot(discord, ScriptedEngine(), sqlite_store, settings=settings):
        asked = await discord.say(f"{MENTION} something private")
        key = ConversationKey("discord", str(CHANNEL_ID), str(USER), str(asked) if threads else "")
        await answered(sqlite_store, 1, key)
        other = await discord.say(f"{MENTION} of somebody else", user=8)
        await answered(
            sqlite_store,
            1,
            ConversationKey("discord", str(CHANNEL_ID), "8", str(other) if threads else ""),
        )
        follow = 0
        if threads:
            follow = await discord.say("and more of it", thread=asked)
            await answered(sqlite_store, 2, key)
    async with bot(discord, ScriptedEngine(), sqlite_store, settings=settings):
        if threads:
            # The thread rests, so nobody has told this run of it.
            await discord.delete(follow)
            await until_async(lambda: sqlite_store.last_turns(key, 9), lambda turns: len(turns) == 1)
            await until(lambda: len(discord.texts(asked)) == 1)
        await discord.delete(asked)
        await until_async(lambda: sqlite_store.last_turns(key, 9), lambda turns: not turns)
        place = asked if threads else CHANNEL_ID
        await until(lambda: len(discord.texts(place)) == (0 if threads else 1))
    assert len(discord.texts(other if threads else CHANNEL_ID)) == 1, "somebody else's stays"


@pytest.mark.parametrize("threads", [False, True])
async def test_a_question_that_waits_or_streams_again_after_a_restart_can_be_deleted(
    discord: DiscordServer, sqlite_store: Store, threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The engine stands still for longer in any case.
    monkeypatch.setattr("glmbot_discord.adapter._DRAIN_S", 0.5)
    engine = ScriptedEngine("a long answer")
    engine.goes_on.clear()
    settings = {"threads": threads, "message_content": True}
    place, key = CHANNEL_ID, IN_CHANNEL
    async with bot(discord, engine, sqlite_store, settings=settings):
        first = await discord.say(f"{MENTION} the first")
        if threads:
            place, key = (
                first,
                ConversationKey("discord", str(CHANNEL_ID), str(USER), str(first)),
            )
            await until(lambda: first in discord.threads)
        second = await discord.say(f"{MENTION} the second", thread=first if threads else None)
        await until_async(lambda: sqlite_store.unfinished("discord"), lambda left: len(left) == 2)
        await until(lambda: discord.texts(place))
    engine.prompts.clear()
    async with bot(discord, engine, sqlite_store, settings=settings):
        await until(lambda: engine.prompts)
        await discord.delete(second)
        await discord.delete(first)
        await until_async(lambda: sqlite_store.unfinished("discord"), lambda left: not left)
        await until(lambda: not discord.texts(place))
        assert await sqlite_store.last_turns(key, 9) == []
        assert len(engine.prompts) == 1


async def test_a_question_that_is_deleted_before_it_is_assigned_is_not_answered(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    """As at the start, or while another process had it."""
    engine = ScriptedEngine()
    async with bot(discord, engine, sqlite_store) as adapter:
        asked = discord._new_id()
        gone = {"id": str(asked), "channel_id": str(CHANNEL_ID), "guild_id": str(GUILD_ID)}
        await discord.dispatch("MESSAGE_DELETE", gone)
        await until(lambda: (None, str(asked)) in adapter._deliveries._taken_back)
        await discord.say(f"{MENTION} never mind", id=asked)
        await discord.say(f"{MENTION} this one")
        await answered(sqlite_store, 1)
        assert engine.prompts == ["Q:this one\nA:"]
        assert len(discord.texts()) == 1


async def test_the_buttons_of_an_answer_that_could_not_have_its_thread_work_where_it_stands(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    discord.no_threads_in.add(CHANNEL_ID)
    engine = ScriptedEngine()
    async with bot(discord, engine, sqlite_store, settings={"threads": True}):
        asked = await discord.say(f"{MENTION} hello")
        key = ConversationKey("discord", str(CHANNEL_ID), str(USER), str(asked))
        await answered(sqlite_store, 1, key)
        (answer,) = discord.messages[CHANNEL_ID]
        engine.answer = "another answer"
        await discord.press(answer, "retry")
        await until(lambda: discord.texts() == ["another answer"])
        await answered(sqlite_store, 1, key)
        assert (await sqlite_store.last_turns(key, 1))[0].answer == "another answer"


async def test_a_role_of_the_bots_is_a_mention_and_where_discord_hides_the_words_that_is_said(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    managed, given = 555000000000000001, 555000000000000002
    everybody = {"name": "r", "color": 0, "hoist": False, "position": 1, "permissions": "0", "managed": False,
                 "mentionable": True, "flags": 0}  # fmt: skip
    member = {"user": BOT, "roles": [str(given)], "joined_at": "2026-01-01T00:00:00+00:00", "deaf": False,
              "mute": False, "flags": 0, "guild_id": str(GUILD_ID)}  # fmt: skip
    for reads_all in (True, False):
        engine = ScriptedEngine()
        async with bot(discord, engine, sqlite_store, settings={"message_content": reads_all}):
            for role, more in ((managed, {"tags": {"bot_id": str(BOT_ID)}}), (given, {})):
                created = {"guild_id": str(GUILD_ID), "role": everybody | more | {"id": str(role)}}
                await discord.dispatch("GUILD_ROLE_CREATE", created)
            await discord.dispatch("GUILD_MEMBER_UPDATE", member)
            for role in (managed, given):
                said = discord.spoken(discord._new_id(), CHANNEL_ID, USER, f"<@&{role}> hi", direct=False)
                before = len(discord.texts())
                await discord._tell("MESSAGE_CREATE", said | {"mention_roles": [str(role)]})
                await until(lambda before=before: len(discord.texts()) > before)
                await until_async(lambda: sqlite_store.unfinished("discord"), lambda left: not left)
            assert all(prompt.endswith("Q:hi\nA:") for prompt in engine.prompts)
            assert len(engine.prompts) == (2 if reads_all else 0)
            if not reads_all:
                assert "message_content" in discord.texts()[-1]


@pytest.mark.parametrize("reads_all", [True, False])
async def test_a_reply_without_a_ping_is_answered_or_told_that_it_can_not_be_read(
    discord: DiscordServer, sqlite_store: Store, reads_all: bool
) -> None:
    engine = ScriptedEngine()
    async with bot(discord, engine, sqlite_store, settings={"message_content": reads_all}):
        await discord.say(f"{MENTION} hello")
        await until(discord.texts)
        await until_async(lambda: sqlite_store.unfinished("discord"), lambda left: not left)
        await discord.say("and more?", reply_to=max(discord.messages[CHANNEL_ID]))
        await until(lambda: len(discord.texts()) == 2)
        await until_async(lambda: sqlite_store.unfinished("discord"), lambda left: not left)
        told = "message_content" in discord.texts()[-1]
        assert (len(engine.prompts), told) == ((2, False) if reads_all else (1, True))
