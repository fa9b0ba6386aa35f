"""Matrix: what the bot does in rooms, where it comes, where it follows, and what it never does twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from adapters import matrix_bot
from adapters.scripted import ScriptedEngine, echoing, last_question
from adapters.waiting import lawful, nothing_left
from conftest import make_dialogue, until
from glmbot.dialogue.access import Access
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.keys import ConversationKey, UserKey
from glmbot.store.base import Store
from glmbot_matrix.adapter import MatrixAdapter, MatrixSettings
from glmbot_matrix.doctor import device_advice
from glmbot_matrix.encryption import KeysFolder
from glmbot_matrix.rooms import is_wanted
from platforms.matrix_server import BOT, DEVICE, GROUP, MatrixServer, room_of, user_id

PRIVATE = room_of(7)


@pytest.fixture
async def server() -> AsyncGenerator[MatrixServer]:
    async with lawful(MatrixServer(seconds_per_message=0.005)) as server:
        yield server


def together(server: MatrixServer, room: str = GROUP) -> None:
    """A room of three."""
    for user in (7, 8):
        server.enter(room, user)


async def seen(server: MatrixServer, room: str, *words: str) -> None:
    await until(lambda: all(any(each in text for text in server.texts(room)) for each in words))


async def test_a_homeserver_that_is_slow_to_tell_what_is_replied_to_holds_up_nobody(
    server: MatrixServer, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot_matrix.adapter._SLOW_LOOK_S", 0.05)
    server.look_s = 0.2
    together(server)
    blue = await server.say("blue", room=GROUP, user=8)
    about: dict[str, Any] = {"m.relates_to": {"m.in_reply_to": {"event_id": blue}}}
    async with matrix_bot.bot(server, echoing(), sqlite_store):
        for number in range(5):
            await server.say(f"{number}?", room=GROUP, mention=True, **about)
        await seen(server, GROUP, *(f"{number}?" for number in range(5)))
        await nothing_left(sqlite_store, "matrix")
    assert sum("/event/" in path for _, path in server.calls) == 1


async def test_in_a_room_the_answer_stands_under_the_question_and_tells_who_asked(
    server: MatrixServer, sqlite_store: Store
) -> None:
    together(server)
    async with matrix_bot.bot(server, echoing(), sqlite_store):
        asked = await server.say("why", room=GROUP, mention=True)
        await seen(server, GROUP, "answer to why")
        await nothing_left(sqlite_store, "matrix")
    ((event, content),) = server.shown(GROUP)
    assert content["m.mentions"] == {"user_ids": [user_id(7)]}
    sent = server.find(event)[1]["content"]
    assert sent["m.relates_to"] == {"m.in_reply_to": {"event_id": asked}}
    edits = [each["content"] for each in server.rooms[GROUP].events if "m.new_content" in each["content"]]
    # Who asked is told once, and not at each step.
    assert all(each["m.mentions"] == {} for each in edits)


async def test_a_thread_is_answered_in_it_with_a_history_of_its_own(
    server: MatrixServer, sqlite_store: Store
) -> None:
    together(server)
    engine = echoing()
    async with matrix_bot.bot(server, engine, sqlite_store):
        root = await server.say("one", room=GROUP, mention=True)
        await seen(server, GROUP, "answer to one")
        within = await server.say("two", room=GROUP, mention=True, thread=root)
        await seen(server, GROUP, "answer to two")
        await nothing_left(sqlite_store, "matrix")
        await server.edit(within, "glmbot: three")
        await seen(server, GROUP, "answer to three")
        await nothing_left(sqlite_store, "matrix")
    event = server.shown(GROUP)[-1][0]
    relation = server.find(event)[1]["content"]["m.relates_to"]
    assert (relation["rel_type"], relation["event_id"]) == ("m.thread", root)
    assert "one" not in engine.prompts[1]
    assert len(server.shown(GROUP)) == 2


async def test_after_a_restart_nothing_is_answered_twice_and_what_came_meanwhile_once(
    server: MatrixServer, sqlite_store: Store
) -> None:
    engine = echoing()
    await server.say("before it was there")
    async with matrix_bot.bot(server, engine, sqlite_store):
        await until(lambda: ("GET", "client/v3/sync") in server.calls)
        await until(lambda: server.calls.count(("GET", "client/v3/sync")) >= 2)
        await server.say("one")
        await seen(server, PRIVATE, "answer to one")
        await nothing_left(sqlite_store, "matrix")
    await server.say("meanwhile")
    old = await server.say("long ago")
    server.find(old)[1]["origin_server_ts"] -= 2 * 86_400_000
    for _ in range(2):
        async with matrix_bot.bot(server, engine, sqlite_store):
            await seen(server, PRIVATE, "answer to meanwhile")
            await nothing_left(sqlite_store, "matrix")
    assert [last_question(prompt) for prompt in engine.prompts] == ["one", "meanwhile"]


async def test_a_token_of_another_database_begins_anew(server: MatrixServer, sqlite_store: Store) -> None:
    name = f"matrix sync {sha256(BOT.encode()).hexdigest()[:16]}"
    await make_dialogue(echoing(), sqlite_store).keep(name, "other_1")
    async with matrix_bot.bot(server, echoing(), sqlite_store):
        await until(lambda: server.calls.count(("GET", "client/v3/sync")) >= 4)
        await server.say("one")
        await seen(server, PRIVATE, "answer to one")


async def test_reactions_are_buttons_for_whose_answer_it_is(
    server: MatrixServer, sqlite_store: Store
) -> None:
    together(server)
    engine = echoing()
    async with matrix_bot.bot(server, engine, sqlite_store):
        await server.say("why", room=GROUP, mention=True)
        await seen(server, GROUP, "answer to why")
        ((event, _),) = server.shown(GROUP)
        await until(lambda: list(server.reactions(event)) == ["🔄"])
        await nothing_left(sqlite_store, "matrix")
        await server.press(event, "🔄", user=8)
        await server.press(event, "👍")
        await server.press(event, "🔄")
        await until(lambda: len(engine.prompts) == 2)
        await nothing_left(sqlite_store, "matrix")
    # Another process knows whose answer it is, and what stands under it, from the message itself.
    async with matrix_bot.bot(server, engine, sqlite_store):
        await server.press(event, "🔄", user=8)
        await server.press(event, "🔄\ufe0f")
        await until(lambda: len(engine.prompts) == 3)
        await nothing_left(sqlite_store, "matrix")
        await until(lambda: list(server.reactions(event)) == ["🔄"])
    assert len(server.shown(GROUP)) == 1


async def test_a_stop_is_pressed_while_the_answer_grows(server: MatrixServer, sqlite_store: Store) -> None:
    engine = ScriptedEngine("word " * 200, steps=50, step_s=0.01)
    engine.goes_on.clear()
    async with matrix_bot.bot(server, engine, sqlite_store):
        await server.say("go on")
        await until(lambda: any(server.reactions(event) for event, _ in server.shown(PRIVATE)))
        ((event, _),) = server.shown(PRIVATE)
        (key,) = server.reactions(event)
        await server.press(event, key)
        await seen(server, PRIVATE, "topped")
        engine.goes_on.set()
        await nothing_left(sqlite_store, "matrix")


async def test_a_question_that_is_redacted_is_not_answered_and_its_answer_goes(
    server: MatrixServer, sqlite_store: Store
) -> None:
    together(server)
    engine = echoing()
    async with matrix_bot.bot(server, engine, sqlite_store):
        asked = await server.say("forget it", room=GROUP, mention=True)
        await seen(server, GROUP, "answer to forget it")
        await nothing_left(sqlite_store, "matrix")
        await server.delete(asked)
        await until(lambda: not server.shown(GROUP))
    where = ConversationKey("matrix", GROUP, user_id(7))
    assert await sqlite_store.turn_of(where, asked) is None


async def test_nobody_changes_what_another_asked_or_keeps_it_from_being_taken_back(
    server: MatrixServer, sqlite_store: Store
) -> None:
    together(server)
    engine = echoing()
    async with matrix_bot.bot(server, engine, sqlite_store):
        asked = await server.say("mine", room=GROUP, mention=True)
        await seen(server, GROUP, "answer to mine")
        await nothing_left(sqlite_store, "matrix")
        await server.edit(asked, "glmbot: not yours", user=8)
        await server.say("after", room=GROUP, user=8, mention=True)
        await seen(server, GROUP, "answer to after")
        await nothing_left(sqlite_store, "matrix")
        assert [last_question(prompt) for prompt in engine.prompts] == ["mine", "after"]
        await server.delete(asked)
        await until(lambda: len(server.shown(GROUP)) == 1)
    assert "answer to after" in server.texts(GROUP)[0]


# ---- where it comes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("admitted", "direct", "strangers", "expected", "comes"),
    [
        (True, False, False, False, True),
        (False, True, True, True, False),
        (None, True, True, False, True),
        (None, True, False, False, False),
        (None, False, True, False, False),
        (None, False, False, True, True),
    ],
)
def test_who_may_have_it_come(
    admitted: bool | None, direct: bool, strangers: bool, expected: bool, comes: bool
) -> None:
    assert is_wanted(admitted, direct=direct, strangers=strangers, expected=expected) is comes


async def test_invitations_are_answered_by_who_may_speak_to_it(
    server: MatrixServer, sqlite_store: Store
) -> None:
    access = Access(users={UserKey("matrix", user_id(7))})
    engine = echoing()
    # One waits since before the start.
    await server.invite("!early:test", user=7)
    async with matrix_bot.bot(server, engine, sqlite_store, access=access):
        await server.invite("!ours:test", user=7)
        await server.invite("!theirs:test", user=8)
        await server.invite("!stranger:test", user=9, direct=True)
        came = ("!early:test", "!ours:test", "!stranger:test")
        await until(lambda: all(server.rooms[room].members[BOT] == "join" for room in came))
        await until(lambda: server.rooms["!theirs:test"].members[BOT] == "leave")
        await server.say("hello", user=9, room="!stranger:test")
        await until(
            lambda: any("glmbot pair" in text or "pair" in text for text in server.texts("!stranger:test"))
        )
        # What was said between the invitation and the coming is a question too.
        await server.say("why", user=7, room="!ours:test")
        await seen(server, "!ours:test", "answer to why")
        await nothing_left(sqlite_store, "matrix")
    assert len(engine.prompts) == 1


async def test_too_many_strangers_are_refused(server: MatrixServer, sqlite_store: Store) -> None:
    async with matrix_bot.bot(server, echoing(), sqlite_store, access=Access()):
        for number in range(30):
            await server.invite(f"!s{number}:test", user=100 + number, direct=True)
        answered = lambda: [room.members.get(BOT) for room in server.rooms.values()]  # noqa: E731
        await until(lambda: answered().count("invite") == 0)
        assert answered().count("join") == 20


async def test_an_upgraded_room_is_followed_with_all_that_belongs_to_it(
    server: MatrixServer, sqlite_store: Store
) -> None:
    together(server)
    engine = echoing()
    async with matrix_bot.bot(server, engine, sqlite_store):
        await server.say("remember me", room=GROUP, mention=True)
        await seen(server, GROUP, "answer to remember me")
        await nothing_left(sqlite_store, "matrix")
        await server.upgrade(GROUP, "!new:test")
        await until(lambda: server.rooms["!new:test"].members.get(BOT) == "join")
        moved = ConversationKey("matrix", "!new:test", user_id(7))
        server.enter("!new:test", 8)
        for _ in range(500):
            if await sqlite_store.last_turns(moved, 5):
                break
            await asyncio.sleep(0.01)
        await server.say("and now", room="!new:test", mention=True)
        await seen(server, "!new:test", "answer to and now")
        await nothing_left(sqlite_store, "matrix")
    assert "remember me" in engine.prompts[-1]


async def test_a_room_that_only_says_that_it_follows_another_gets_nothing_of_it(
    server: MatrixServer, sqlite_store: Store
) -> None:
    together(server)
    async with matrix_bot.bot(server, echoing(), sqlite_store) as bot:
        await server.say("a secret", room=GROUP, mention=True)
        await seen(server, GROUP, "answer to a secret")
        await nothing_left(sqlite_store, "matrix")
        # The old room knows nothing of one, and the new room nothing of the other.
        server._make("!thief:test", user_id(9), {"predecessor": {"room_id": GROUP}})
        server._join("!thief:test", BOT)
        await server.upgrade(PRIVATE, "!else:test", lies=True)
        await server.upgrade(GROUP, GROUP, lies=True)
        await server.say("anything", user=9, room="!thief:test")
        await seen(server, "!thief:test", "answer to anything")
        await nothing_left(sqlite_store, "matrix")
        await bot._rooms.drain(5.0)
        assert bot._rooms.now(GROUP) == GROUP
    assert await sqlite_store.last_turns(ConversationKey("matrix", GROUP, user_id(7)), 5)


async def test_a_room_that_can_not_be_read_is_told_so_once(server: MatrixServer, sqlite_store: Store) -> None:
    server.enter(PRIVATE, 7)
    hidden = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "sender_key": "k", "session_id": "s",
              "device_id": "D"}  # fmt: skip
    for _ in range(2):
        async with matrix_bot.bot(server, echoing(), sqlite_store):
            for _ in range(3):
                await server.tell(PRIVATE, "m.room.encrypted", hidden, user_id(7))
            await server.say("one")
            await seen(server, PRIVATE, "answer to one", "can't read encrypted")
            await nothing_left(sqlite_store, "matrix")
    assert sum("can't read encrypted" in text for text in server.texts(PRIVATE)) == 1


# ---- trouble ----------------------------------------------------------------------------------------------------


async def test_it_connects_again_after_trouble_of_the_homeserver(
    server: MatrixServer, sqlite_store: Store
) -> None:
    async with matrix_bot.bot(server, echoing(), sqlite_store):
        await server.say("one")
        await seen(server, PRIVATE, "answer to one")
        server.out_of_order_until = time.monotonic() + 0.5
        await server.say("two")
        await seen(server, PRIVATE, "answer to two")
        await nothing_left(sqlite_store, "matrix")


async def test_a_flood_limit_is_obeyed_and_the_answer_comes_whole(
    server: MatrixServer, sqlite_store: Store
) -> None:
    engine = ScriptedEngine("word " * 100, steps=20, step_s=0.02)
    async with matrix_bot.bot(server, engine, sqlite_store):
        server.refusals["/send/m.room.message"] = refused = [
            429,
            "M_LIMIT_EXCEEDED",
            2,
            {"retry_after_ms": 300},
        ]
        began = time.monotonic()
        await server.say("go on")
        await until(lambda: any(text.count("word") == 100 for text in server.texts(PRIVATE)))
        await nothing_left(sqlite_store, "matrix")
    assert refused[2] == 0
    # Told when to come back, it does not ask before.
    assert time.monotonic() - began > 0.6


async def test_what_is_malformed_hurts_nobody_else(server: MatrixServer, sqlite_store: Store) -> None:
    server.enter(PRIVATE, 7)
    async with matrix_bot.bot(server, echoing(), sqlite_store):
        for content in ({"msgtype": "m.text", "body": 5}, {"msgtype": 5}, {"m.relates_to": 5},
                        {"msgtype": "m.text", "body": "x", "m.relates_to": {"rel_type": "m.thread", "event_id": 7}},
                        {"msgtype": "m.text", "body": "x", "m.mentions": {"user_ids": 5}}):  # fmt: skip
            await server.tell(PRIVATE, "m.room.message", content, user_id(7))
        await server.tell(
            PRIVATE, "m.room.message", {"msgtype": "m.text", "body": "x"}, "@" + "a" * 200 + ":test"
        )
        event = await server.tell(PRIVATE, "m.room.join_rules", {"join_rule": 5}, user_id(7), state_key="")
        server.find(event)[1]["origin_server_ts"] = "soon"
        for kind in ("m.reaction", "m.room.redaction", "m.room.tombstone", "m.room.member"):
            await server.tell(
                PRIVATE, kind, {"membership": 5, "replacement_room": 5}, user_id(7), state_key=""
            )
        await server.say("one")
        await seen(server, PRIVATE, "answer to one")
        await nothing_left(sqlite_store, "matrix")


async def test_a_room_of_which_nobody_says_how_many_are_there_is_no_private_one(
    server: MatrixServer, sqlite_store: Store
) -> None:
    server.says_how_many = False
    engine = echoing()
    async with matrix_bot.bot(server, engine, sqlite_store):
        await server.say("not for you")
        await server.say("for you", mention=True)
        await seen(server, PRIVATE, "answer to for you")
        await nothing_left(sqlite_store, "matrix")
    assert len(engine.prompts) == 1


async def test_too_much_at_once_makes_nobody_deaf(
    server: MatrixServer, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.enter(PRIVATE, 7)
    async with matrix_bot.bot(server, echoing(), sqlite_store):
        monkeypatch.setattr("glmbot_matrix.client._MOST_BYTES", 20_000)
        for _ in range(20):
            server._add(PRIVATE, "m.room.message", {"msgtype": "m.notice", "body": "x" * 2000}, user_id(8))
        await server.say("the last of many")
        await seen(server, PRIVATE, "answer to the last of many")
        # Too long by itself.
        since = server.calls.count(("GET", "client/v3/sync"))
        await server.say("y" * 30_000)
        await until(lambda: server.calls.count(("GET", "client/v3/sync")) > since + 4)
        await server.say("and now")
        await seen(server, PRIVATE, "answer to and now")


# ---- setting it up ----------------------------------------------------------------------------------------------


async def test_a_wrong_setting_says_which(server: MatrixServer, sqlite_store: Store) -> None:
    async def refusal(**changes: Any) -> str:
        adapter = MatrixAdapter(
            matrix_bot.settings_for(server, **changes), make_dialogue(echoing(), sqlite_store)
        )
        with pytest.raises(AdapterError) as caught:
            await adapter.start()
        await adapter.stop()
        return f"{type(caught.value).__name__} {caught.value}"

    assert "PlatformRefused [matrix] token" in await refusal(token=SecretStr("syt_wrong_token"))
    other = await refusal(account="@other:test")
    assert f"it is that of {BOT}, and account is @other:test" in other
    assert "AdapterError [matrix] homeserver" in await refusal(homeserver=f"{server.url}/nothing")
    assert await MatrixAdapter.identify(matrix_bot.settings_for(server)) == BOT
    for wrong in ("matrix.org", "https://me:pass@a.org", "ftp://a.org"):
        with pytest.raises(ValueError, match="homeserver"):
            MatrixSettings(homeserver=wrong)
    with pytest.raises(PlatformRefused, match=r"\[matrix\] homeserver is not set"):
        MatrixAdapter.check(MatrixSettings(), None)


async def test_doctor_explains_common_mistakes(server: MatrixServer, tmp_path: Path) -> None:
    settings = matrix_bot.settings_for(server, encryption=True, keys_folder=tmp_path / "keys")
    assert all(well for well, _ in await MatrixAdapter.examine(settings))
    server.clock_off = 600.0
    server.keys = {BOT: {DEVICE: {"signatures": {BOT: {f"ed25519:{DEVICE}": "x"}}}}}
    wrong = [words for well, words in await MatrixAdapter.examine(settings) if not well]
    assert "clock" in wrong[0]
    assert "keys of another program" in wrong[1]
    told = {"device_keys": server.keys}
    assert "not verified" in device_advice(told, BOT, DEVICE, has_keys=True)[0][1]
    server.keys[BOT][DEVICE]["signatures"][BOT]["ed25519:SELFSIGNING"] = "x"
    assert device_advice(told, BOT, DEVICE, has_keys=True)[0][0]
    assert not MatrixSettings(homeserver="http://a.org").advice()[0][0]


def test_one_process_alone_uses_the_keys(tmp_path: Path) -> None:
    folder = KeysFolder(tmp_path / "keys", BOT)
    with pytest.raises(PlatformRefused, match="another process"):
        KeysFolder(tmp_path / "keys", BOT)
    # Another bot's own keys may stand beside them.
    KeysFolder(tmp_path / "keys", "@other:test").close()
    folder.close()
    KeysFolder(tmp_path / "keys", BOT).close()
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0


async def test_with_encryption_it_answers_in_open_rooms_as_well(
    server: MatrixServer, sqlite_store: Store, tmp_path: Path
) -> None:
    encrypted = {"encryption": True, "keys_folder": tmp_path / "keys"}
    async with matrix_bot.bot(server, echoing(), sqlite_store, settings=encrypted):
        await server.say("one")
        await seen(server, PRIVATE, "answer to one")
        await nothing_left(sqlite_store, "matrix")
        await until(lambda: ("POST", "client/v3/keys/upload") in server.calls)
