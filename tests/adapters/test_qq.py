"""QQ's official bots: what comes in, how an answer fits into the replies that QQ takes, what is refused and done without."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters import qq_bot
from adapters.scripted import ScriptedEngine, echoing, last_question
from adapters.waiting import lawful, letters, nothing_left, until_async
from conftest import make_dialogue, until
from glmbot.errors import PlatformRefused
from glmbot.keys import ConversationKey
from glmbot.messages import Addressed, ChatKind, Message, PressedButton
from glmbot.store.base import Store
from glmbot_qq.adapter import QQAdapter
from glmbot_qq.normalize import Scene, button_data, chat_in, from_event, scene_of
from glmbot_qq.render import Addresses, to_markdown, to_plain
from glmbot_qq.replies import SPLIT_AT, Portions
from platforms.qq_server import BOT, CHANNEL, GROUP, QQServer, member, openid

PRIVATE = openid(7)
LONG = "\n\n".join(
    f"Paragraph {number} begins. " + " ".join(f"word{number}x{each}" for each in range(200))
    for number in range(10)
)


@pytest.fixture
async def server() -> AsyncGenerator[QQServer]:
    async with lawful(QQServer()) as server:
        yield server


def event(kind: str, **data: Any) -> dict[str, Any]:
    whole = {
        "id": "ROBOT1.0_.b6nx.CVryAO0nR58RXuU6SC.m92gc19j02qKqdm8ek!", "content": "hello",
        "timestamp": "2023-11-06T13:37:18+08:00", "group_openid": GROUP, "channel_id": CHANNEL, "guild_id": "18",
        "author": {"user_openid": PRIVATE, "member_openid": member(7), "id": "1234", "username": "ann"}, **data,
    }  # fmt: skip
    return {"op": 0, "s": 42, "t": kind, "id": f"{kind}:1", "d": whole}


OURS = {"mentions": [{"id": BOT, "bot": True, "username": "glm"}]}
YOU = {"mentions": [{"member_openid": "M1", "is_you": True}, {"member_openid": "M2", "nickname": "bob"}]}


# ---- what is said -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "words", "media", "addressed"),
    [
        (event("C2C_MESSAGE_CREATE"), "hello", "", Addressed.DIRECTLY),
        (event("GROUP_AT_MESSAGE_CREATE", content=" hello "), "hello", "", Addressed.BY_MENTION),
        (event("GROUP_AT_MESSAGE_CREATE", content=" /new"), "/new", "", Addressed.BY_COMMAND),
        (event("GROUP_MESSAGE_CREATE"), "hello", "", Addressed.NOT),
        (event("GROUP_MESSAGE_CREATE", content="<@M1> ask <@M2>", **YOU), "ask @bob", "", Addressed.BY_MENTION),
        (event("AT_MESSAGE_CREATE", content=f"<@!{BOT}> 1 &lt; 2", **OURS), "1 < 2", "", Addressed.BY_MENTION),
        (event("MESSAGE_CREATE", content="hello"), "hello", "", Addressed.NOT),
        (event("MESSAGE_CREATE", content=f"why <@!{BOT}>"), "why", "", Addressed.BY_MENTION),
        (event("DIRECT_MESSAGE_CREATE"), "hello", "", Addressed.DIRECTLY),
        (event("C2C_MESSAGE_CREATE", attachments=[{"content_type": "image/png"}]), "hello", "photo", Addressed.DIRECTLY),
        (event("C2C_MESSAGE_CREATE", content="", attachments=[{"content_type": "voice", "asr_refer_text": "spoken"}]),
         "spoken", "", Addressed.DIRECTLY),
        (event("C2C_MESSAGE_CREATE", content='<faceType=1,faceId="5",ext="e">'), "", "sticker", Addressed.DIRECTLY),
    ],
)  # fmt: skip
def test_what_is_said_and_to_whom(
    payload: dict[str, Any], words: str, media: str, addressed: Addressed
) -> None:
    message = from_event(payload, BOT, "zh")
    assert isinstance(message, Message)
    assert (message.text, message.media, message.addressed) == (words, media, addressed)
    assert message.act.at == 1_699_249_038


def test_each_scene_is_a_chat_of_its_own_and_each_person_of_a_group_has_a_history() -> None:
    found = [
        from_event(event(kind), BOT, "zh")
        for kind in ("C2C_MESSAGE_CREATE", "GROUP_AT_MESSAGE_CREATE", "AT_MESSAGE_CREATE", "DIRECT_MESSAGE_CREATE")
    ]  # fmt: skip
    assert [message.conversation for message in found if isinstance(message, Message)] == [
        ConversationKey("qq", PRIVATE),
        ConversationKey("qq", f"g.{GROUP}", member(7)),
        ConversationKey("qq", f"c.{CHANNEL}", "1234"),
        ConversationKey("qq", "d.18"),
    ]
    for scene in Scene:
        assert scene_of(chat_in(scene, GROUP)) == (scene, GROUP)


@pytest.mark.parametrize(
    "payload",
    [
        event("C2C_MESSAGE_CREATE", content=" "),
        event("GROUP_AT_MESSAGE_CREATE", author={"member_openid": "b", "bot": True}),
        event("FRIEND_ADD"),
        event("GROUP_MSG_REJECT"),
        {"op": 0, "t": "GUILD_CREATE", "d": {}},
    ],
)
def test_what_nobody_says_to_us_is_left_out(payload: dict[str, Any]) -> None:
    assert from_event(payload, BOT, "zh") is None


def test_a_reply_brings_the_words_that_it_is_about() -> None:
    quoting = event("GROUP_AT_MESSAGE_CREATE", message_type=103, msg_elements=[{"content": "old words"}])
    message = from_event(quoting, BOT, "zh")
    assert isinstance(message, Message)
    assert message.quoted == "old words"


@pytest.mark.parametrize("group", [True, False])
def test_a_button_says_whose_it_is_and_under_which_answer(group: bool) -> None:
    who = (
        {"group_openid": GROUP, "group_member_openid": "M2"}
        if group
        else {"group_openid": None, "user_openid": "M1"}
    )
    pressed = from_event(
        event("INTERACTION_CREATE", id="i1", data={"resolved": {"button_data": button_data("retry", "M1", "ref!")}}, **who),
        BOT,
        "zh",
    )  # fmt: skip
    assert isinstance(pressed, PressedButton)
    assert (pressed.asker, pressed.message.user.id) == ("M1", "M2" if group else "M1")
    assert pressed.message.about == "ref!"
    assert pressed.message.chat_kind is (ChatKind.GROUP if group else ChatKind.PRIVATE)


_WORST = st.sampled_from(
    [None, True, 7, -1, 2**70, "", "\ud800", "{", "x" * 400, "1:2:3", "2023-99-99", [], [{}], [5, {}], {}, {"bot": True},
     {"id": 5}, {"resolved": {"button_data": "a" * 500}}, {"resolved": []}]
)  # fmt: skip
_FIELDS = st.dictionaries(
    st.sampled_from(["id", "content", "timestamp", "group_openid", "channel_id", "guild_id", "author", "mentions", "data", "message",
                     "attachments", "message_type", "msg_elements", "user_openid", "group_member_openid"]),
    _WORST,
    max_size=10,
)  # fmt: skip


@settings(max_examples=60)
@given(_FIELDS, st.sampled_from(["C2C", "GROUP_AT", "GROUP", "AT", "DIRECT", "INTERACTION", "DELETE"]))
def test_whatever_comes_is_read_or_refused(fields: dict[str, Any], kind: str) -> None:
    others = {"INTERACTION": "INTERACTION_CREATE", "DELETE": "PUBLIC_MESSAGE_DELETE"}
    name = others.get(kind, f"{kind}_MESSAGE_CREATE")
    with suppress(ValueError):
        from_event(event(name, **fields), BOT, "zh")


# ---- what is written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said_by_the_model",
    [
        '<qqbot-at-user id="A1" /> and <@A1> and <@!A1>',
        '<qqbot-cmd-enter text="%2Fnew" />',
        '`<qqbot-cmd-enter text="yes" />`',
        '```\n<qqbot-cmd-input text="x" show="y" />\n@everyone\n```',
        "@everyone <qqbot-at-everyone />",
        "<#100010> <emoji:4> <faceType=1>",
        "[touch](mqqapi://send?x=1)",
    ],
)
def test_nothing_that_the_model_says_acts_for_a_reader(said_by_the_model: str) -> None:
    shown = [
        to_plain(said_by_the_model, "", Addresses.WHOLE, "en", guild=False),
        to_plain(said_by_the_model, "", Addresses.WHOLE, "en", guild=True),
        to_markdown(said_by_the_model, "", Addresses.WHOLE, "en"),
    ]
    for text in shown:
        assert re.search(r"<(?!\u200b)[@#A-Za-z!/]|@everyone|\]\(mqq", text) is None
        assert text


def test_addresses_are_left_out_as_far_as_they_are_refused() -> None:
    said = "see [docs](https://a.com/x?y=1) or b.com, and os.path"
    assert "https://a.com/x?y=1" in to_plain(said, "", Addresses.WHOLE, "en", guild=False)
    assert to_plain(said, "", Addresses.LEFT_OUT, "en", guild=False) == (
        "see docs ([link]) or b.com, and os.path"
    )
    assert "." not in to_plain(said, "", Addresses.NO_NAMES, "zh", guild=False)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 7000), min_size=1, max_size=12), st.sampled_from([4, 5]))
def test_what_is_sent_early_leaves_two_replies_for_the_end(lengths: list[int], most: int) -> None:
    portions, text, sent, said = Portions(most), "", 0, 0
    for length in lengths:
        # What follows begins with a letter, so that the paragraph has ended.
        text += "w" * length + "\n\n"
        if portions.sends(text + "x"):
            sent += -(-(len(text) - said) // SPLIT_AT)
            said = len(text)
    assert sent <= most - 2


# ---- answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", ["users", "groups", "channels", "dms"])
async def test_who_asks_is_answered_where_it_was_asked(
    server: QQServer, sqlite_store: Store, scene: str
) -> None:
    chat = {"users": PRIVATE, "groups": GROUP, "channels": CHANNEL, "dms": "18700000000001"}[scene]
    places = {"places": ["groups", "guilds", "guild_dms"]}
    async with qq_bot.bot(server, echoing(), sqlite_store, settings=places):
        asked = await server.say("one", scene=scene)
        await until(lambda: server.texts(chat) == ["answer to one"])
        await nothing_left(sqlite_store, "qq")
    (body,) = server.bodies
    assert body["msg_id"] == asked


async def test_a_long_answer_comes_in_paragraphs_as_they_end_and_in_as_many_replies_as_there_are(
    server: QQServer, sqlite_store: Store
) -> None:
    engine = ScriptedEngine(LONG[:6000], steps=60, step_s=0.005)
    async with qq_bot.bot(server, engine, sqlite_store):
        engine.goes_on.clear()
        await server.say("go on", scene="groups")
        await until(lambda: bool(server.texts(GROUP)))
        engine.goes_on.set()
        await nothing_left(sqlite_store, "qq")
    assert 2 <= len(server.texts(GROUP)) <= 5
    assert letters("".join(server.texts(GROUP))) == letters(LONG[:6000])
    assert [body["msg_seq"] for body in server.bodies] == list(range(1, len(server.bodies) + 1))


async def test_an_answer_in_paragraphs_that_a_restart_broke_is_seen_whole_and_once(
    server: QQServer, sqlite_store: Store
) -> None:
    first = ScriptedEngine(LONG[:6000], steps=30, step_s=0.01)
    first.goes_on.clear()
    async with qq_bot.bot(server, first, sqlite_store) as bot:
        await server.say("go on", scene="groups")
        await until(lambda: len(server.texts(GROUP)) == 2)
        # The process ends, and nothing is drained.
        await bot._stop_receiving()
        await bot._deliveries.drain(0)
    async with qq_bot.bot(server, ScriptedEngine(LONG[:6000], steps=30, step_s=0.005), sqlite_store):
        await until(lambda: LONG[5990:6000].strip() in "".join(server.texts(GROUP)))
        await nothing_left(sqlite_store, "qq")
    assert letters("".join(server.texts(GROUP))) == letters(LONG[:6000])
    assert len(server.texts(GROUP)) <= 5


async def test_what_does_not_fit_the_replies_is_told_to_be_missing(
    server: QQServer, sqlite_store: Store
) -> None:
    async with qq_bot.bot(server, ScriptedEngine(LONG), sqlite_store, settings={"answers": "whole"}):
        await server.say("go on")
        await until(lambda: len(server.texts(PRIVATE)) == 4)
        await nothing_left(sqlite_store, "qq")
    *_, last = server.texts(PRIVATE)
    assert "QQ lets me answer a message 4 times only" in last
    assert letters(LONG).startswith(letters("".join(server.texts(PRIVATE)).partition("QQ lets me")[0]))


async def test_the_rest_is_a_message_of_the_bots_own_where_those_are_granted(
    server: QQServer, sqlite_store: Store
) -> None:
    server.granted.add("active")
    own = {"answers": "whole", "active_messages": True}
    async with qq_bot.bot(server, ScriptedEngine(LONG), sqlite_store, settings=own):
        await server.say("go on")
        await until(lambda: "word9x199" in "".join(server.texts(PRIVATE)))
        await nothing_left(sqlite_store, "qq")
    assert letters("".join(server.texts(PRIVATE))) == letters(LONG)
    assert ["msg_id" in body for body in server.shown[PRIVATE]].count(True) == 4


async def test_an_answer_that_comes_too_late_is_kept_with_its_reason(
    server: QQServer, sqlite_store: Store
) -> None:
    engine = ScriptedEngine("late words")
    engine.goes_on.clear()
    async with qq_bot.bot(
        server, engine, sqlite_store, settings={"answers": "whole", "active_messages": True}, tries=1
    ):
        await server.say("go on", scene="groups")
        await until(lambda: bool(engine.prompts))
        server.later(301)
        engine.goes_on.set()
        await nothing_left(sqlite_store, "qq")
        (letter,) = await sqlite_store.dead_letters()
    assert "no reply was possible any more, and no message of the bot's own: QQ: 40034105" in letter.reason
    assert server.texts(GROUP) == []


async def test_a_question_of_yesterday_asks_no_model_where_nobody_could_be_answered(
    server: QQServer, sqlite_store: Store
) -> None:
    engine = echoing()
    async with qq_bot.bot(server, engine, sqlite_store, tries=1):
        await server.say("go on", scene="groups", timestamp="2026-01-01T00:00:00+08:00")
        await until_async(sqlite_store.dead_letters, bool)
        (letter,) = await sqlite_store.dead_letters()
    assert letter.reason == "TooLateForQQ"
    assert engine.prompts == []


async def test_a_message_whose_answer_was_lost_on_the_way_is_not_sent_twice(
    server: QQServer, sqlite_store: Store
) -> None:
    server.loses_answers = 1
    async with qq_bot.bot(server, echoing(), sqlite_store):
        await server.say("one")
        await until(lambda: len(server.bodies) == 2)
        await nothing_left(sqlite_store, "qq")
    assert server.texts(PRIVATE) == ["answer to one"]


async def test_a_flood_is_waited_for(server: QQServer, sqlite_store: Store) -> None:
    async with qq_bot.bot(server, echoing(), sqlite_store):
        server.refusals.append((22009, 429))
        await server.say("one")
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        await nothing_left(sqlite_store, "qq")


async def test_a_crowd_in_one_channel_is_answered_within_its_five_a_second(
    server: QQServer, sqlite_store: Store
) -> None:
    # Five times as fast as QQ's, on both sides.
    server.per_channel_and_second = 25
    async with qq_bot.bot(server, echoing(), sqlite_store, settings={"interval_s": 0.3 / 5}):
        for number in range(30):
            await server.say(f"question {number}.", user=100 + number, scene="channels")
        await until(lambda: len(server.texts(CHANNEL)) == 30)
        await nothing_left(sqlite_store, "qq")
    assert sorted(server.texts(CHANNEL)) == sorted(f"answer to question {number}." for number in range(30))
    assert server.floods == 0


async def test_a_question_that_is_taken_back_in_a_guild_takes_its_answer_with_it(
    server: QQServer, sqlite_store: Store
) -> None:
    async with qq_bot.bot(server, echoing(), sqlite_store):
        asked = await server.say("forget it", scene="channels")
        await until(lambda: server.texts(CHANNEL) == ["answer to forget it"])
        await nothing_left(sqlite_store, "qq")
        await server.delete(asked)
        await until(lambda: server.texts(CHANNEL) == [])


async def test_what_is_not_granted_is_done_without(server: QQServer, sqlite_store: Store) -> None:
    engine = ScriptedEngine("**see** https://example.org/x and os.path at example.org")
    wished = {"markdown": True, "buttons": True}
    async with qq_bot.bot(server, engine, sqlite_store, settings=wished):
        await server.say("where")
        await until(lambda: bool(server.texts(PRIVATE)))
        await nothing_left(sqlite_store, "qq")
    assert server.texts(PRIVATE) == ["see [link] and os．path at example．org"]
    assert "keyboard" in server.bodies[0]
    assert {body["msg_seq"] for body in server.bodies} == {1}


async def test_markdown_and_buttons_stand_where_they_are_granted_and_a_retry_is_a_new_message(
    server: QQServer, sqlite_store: Store
) -> None:
    server.granted |= {"markdown", "buttons"}
    said = iter(("**once**", "**twice**"))
    engine = ScriptedEngine(lambda _: next(said))
    wished = {"markdown": True, "buttons": True}
    async with qq_bot.bot(server, engine, sqlite_store, settings=wished):
        await server.say("say it", scene="groups")
        await until(lambda: server.texts(GROUP) == ["**once**"])
        await nothing_left(sqlite_store, "qq")
        (first,) = server.shown[GROUP]
        (key, *_) = first["keyboard"]["content"]["rows"][0]["buttons"]
        assert key["action"]["permission"] == {"type": 0, "specify_user_ids": [member(7)]}
        theirs = await server.press(first, "retry", user=8, group=True)
        ours = await server.press(first, "retry", group=True)
        await until(lambda: server.texts(GROUP) == ["**once**", "**twice**"])
        await nothing_left(sqlite_store, "qq")
        await until(lambda: len(server.confirmed) == 2)
    assert server.confirmed == {theirs: 4, ours: 0}
    assert server.bodies[-1]["event_id"].startswith("INTERACTION_CREATE:")
    assert last_question(engine.prompts[-1]) == "say it"


async def test_anybody_of_a_group_votes_by_a_button_for_any_option(
    server: QQServer, sqlite_store: Store
) -> None:
    server.granted |= {"markdown", "buttons"}
    wished = {"markdown": True, "buttons": True}
    async with qq_bot.bot(server, echoing(), sqlite_store, settings=wished):
        await server.say("/poll Go? | a | b | c | d | e | f", scene="groups")
        await until(lambda: bool(server.texts(GROUP)))
        await nothing_left(sqlite_store, "qq")
        (poll,) = server.shown[GROUP]
        first, second = (row["buttons"] for row in poll["keyboard"]["content"]["rows"])
        assert (len(first), len(second)) == (5, 1)
        assert second[0]["action"]["permission"] == {"type": 2}
        pressed = await server.press(poll, second[0]["id"], user=8, group=True)
        await until(lambda: server.confirmed == {pressed: 0})
        await nothing_left(sqlite_store, "qq")
        await server.say(f"/poll {second[0]['id'][-8:]}", scene="groups")
        await until(lambda: any("6. f · 1" in text for text in server.texts(GROUP)))
        await nothing_left(sqlite_store, "qq")


async def test_a_wrong_secret_is_said(server: QQServer, sqlite_store: Store) -> None:
    wrong = qq_bot.settings_for(server, token=SecretStr("another"))
    adapter = QQAdapter(wrong, make_dialogue(echoing(), sqlite_store))
    with pytest.raises(PlatformRefused, match="AppSecret"):
        await adapter.start()
    await adapter.stop()
    with pytest.raises(PlatformRefused, match="app_id"):
        QQAdapter.check(qq_bot.settings_for(server, app_id=""), None)


def test_two_bots_with_one_app_id_are_refused(server: QQServer) -> None:
    one = qq_bot.settings_for(server)
    assert "[qq]" in qq_bot.settings_for(server, token=SecretStr("another")).trouble_beside(one, "qq")
    assert not qq_bot.settings_for(server, app_id="1", token=SecretStr("another")).trouble_beside(one, "qq")


async def test_doctor_tells_what_is_wrong(server: QQServer) -> None:
    settings = qq_bot.settings_for(server)
    assert all(well for well, _ in await QQAdapter.examine(settings))
    assert await QQAdapter.identify(settings) == "glm"
    server.clock_ahead_s = 400.0
    assert [
        "400 s off" in words or "399 s off" in words
        for well, words in await QQAdapter.examine(settings)
        if not well
    ] == [True]
    server.clock_ahead_s, server.intents = 0.0, 1 << 25
    assert ["4014" in words for well, words in await QQAdapter.examine(settings) if not well] == [True]
    server.refusals.append((11298, 401))
    with pytest.raises(PlatformRefused, match="IP allow-list"):
        await QQAdapter.examine(settings)
    words = json.dumps(
        [*settings.advice(), *qq_bot.settings_for(server, events="webhook", buttons=True).advice()]
    )
    for told in ("4014", "callback address", "IP allow-list", "buttons need markdown"):
        assert told in words
