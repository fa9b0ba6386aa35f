"""What counts as speaking to the bot: tables of what people write, the same on Telegram and on Discord.

The decisions are pure, so no bot runs here: an update goes through the adapter's reading of it, and through what a
group's mode says of that.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import discord
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from telegram import Update, User

from glmbot.dialogue import commands
from glmbot.dialogue.answering import asked_text
from glmbot.dialogue.modes import is_answered
from glmbot.messages import HIDDEN, Addressed, ChatKind, Message, UserKey
from glmbot.openings import slash_command, without
from glmbot_discord.normalize import Self, from_message
from glmbot_telegram.normalize import normalize
from platforms.telegram_server import BOT

GROUP, PERSON = -1001, 9
ROLE, OTHER_ROLE = 555000000000000001, 555000000000000002
ME = Self(100000000000000001, "glmbot", {ROLE}, reads_all=True)
US, OTHERS = "glm_test_bot", "other_bot"
SILENT, ANSWERED = False, True


def entities_of(text: str) -> list[dict[str, Any]]:
    """As Telegram's clients find them: https://github.com/tdlib/td/blob/master/td/telegram/MessageEntity.cpp"""
    found = [
        ("bot_command", match)
        for match in re.finditer(
            r"(?<![\w/<>])/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{3,32})?(?![\w/<>])", text, re.ASCII
        )
    ]
    found += [("mention", match) for match in re.finditer(r"(?<![\w/@])@[A-Za-z0-9_]{3,32}\b", text)]
    return [
        {"type": kind, "offset": units(text[: match.start()]), "length": units(match[0])}
        for kind, match in found
    ]


def units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def spoken(text: str = "", *, private: bool = False, **fields: Any) -> dict[str, Any]:
    """A message on Telegram, as an update has it."""
    chat = (
        {"id": PERSON, "type": "private", "first_name": "Ann"}
        if private
        else {"id": GROUP, "type": "supergroup", "title": "Friends"}
    )
    person = {"id": PERSON, "is_bot": False, "first_name": "Ann", "language_code": "en"}
    said: dict[str, Any] = {"message_id": 5, "date": 1, "from": person, "chat": chat}
    if text:
        said |= {"text": text, "entities": entities_of(text)}
    return said | fields


def on_telegram(text: str = "", **fields: Any) -> Message | None:
    update = Update.de_json({"update_id": 1, "message": spoken(text, **fields)}, None)
    read = normalize(update, User(BOT["id"], "glmbot", is_bot=True, username=US))
    assert read is None or isinstance(read, Message)
    return read


OURS = {
    "from": BOT,
    "message_id": 4,
    "date": 1,
    "chat": {"id": GROUP, "type": "supergroup"},
    "text": "an answer",
}
THEIRS = OURS | {"from": {"id": 8, "is_bot": False, "first_name": "Bob"}, "text": "what is blue?"}


def said_on_discord(text: str, **fields: Any) -> Mock:
    """A message on Discord, as the library reads it."""
    pings = fields.pop("pings", None)
    said = Mock(spec=discord.Message)
    given: dict[str, Any] = {
        "author": SimpleNamespace(id=PERSON, bot=False, display_name="Ann"),
        "webhook_id": None,
        "type": discord.MessageType.default,
        "content": text,
        "message_snapshots": [],
        "reference": None,
        "channel": SimpleNamespace(id=700),
        "guild": object(),
        "mentions": [SimpleNamespace(id=ME.id)] if pings or (pings is None and f"<@{ME.id}>" in text) else [],
        "role_mentions": [],
        "attachments": [],
        "stickers": [],
        "poll": None,
        "id": 5,
        "edited_at": None,
    }
    for name, value in (given | fields).items():
        setattr(said, name, value)
    return said


def on_discord(text: str = "", *, me: Self = ME, private: bool = False, **fields: Any) -> Message | None:
    if private:
        fields |= {"channel": Mock(spec=discord.DMChannel, id=700), "guild": None}
    return from_message(said_on_discord(text, **fields), me)


def replying(author: int, text: str = "", **fields: Any) -> dict[str, Any]:
    """The fields of a Discord message that replies to what that author said."""
    about = said_on_discord(
        text, author=SimpleNamespace(id=author, bot=author == ME.id, display_name="B"), **fields
    )
    return {"type": discord.MessageType.reply, "reference": SimpleNamespace(message_id=4, resolved=about)}


def answers(message: Message | None, mode: str = "mention") -> bool:
    return message is not None and is_answered(message, mode)


# ---- commands, paths, comments ----------------------------------------------------------------------------------

# {us} and {them} are the names of bots; what each mode of a group does: mention, command, all.
IN_GROUPS = [
    ("/8ball will it rain?", SILENT, SILENT, SILENT),
    ("/d20+3", SILENT, SILENT, SILENT),
    ("/roll@{them}", SILENT, SILENT, SILENT),
    ("/ask@{them} why", SILENT, SILENT, SILENT),
    ("/help@{them}", SILENT, SILENT, SILENT),
    ("/帮助 我", SILENT, SILENT, SILENT),
    ("/start-up costs", SILENT, SILENT, SILENT),
    ("!roll 2d6", SILENT, SILENT, SILENT),
    ("！help", SILENT, SILENT, SILENT),
    ("/ban {@us}", SILENT, SILENT, SILENT),
    ("!kick {@us}", SILENT, SILENT, SILENT),
    ("/8ball {@us} will it rain?", SILENT, SILENT, SILENT),
    ("/etc/hosts is wrong", SILENT, SILENT, ANSWERED),
    ("/usr/bin?", SILENT, SILENT, ANSWERED),
    ("//todo: fix", SILENT, SILENT, ANSWERED),
    ("/* a comment */", SILENT, SILENT, ANSWERED),
    ("/.env is missing", SILENT, SILENT, ANSWERED),
    ("/config.toml is wrong", SILENT, SILENT, ANSWERED),
    ("/", SILENT, SILENT, ANSWERED),
    ("!", SILENT, SILENT, ANSWERED),
    ("hello", SILENT, SILENT, ANSWERED),
    ("say /ask to it", SILENT, SILENT, ANSWERED),
    ("/ask why", ANSWERED, ANSWERED, ANSWERED),
    ("/ASK why", ANSWERED, ANSWERED, ANSWERED),
    ("/ask: why", ANSWERED, ANSWERED, ANSWERED),
    ("／ask 为什么", ANSWERED, ANSWERED, ANSWERED),
    ("／ＡＳＫ　为什么", ANSWERED, ANSWERED, ANSWERED),
    ("/ask@{us} why", ANSWERED, ANSWERED, ANSWERED),
    ("/help", ANSWERED, ANSWERED, ANSWERED),
    ("/help!", ANSWERED, ANSWERED, ANSWERED),
    ("/ask {@us} why", ANSWERED, ANSWERED, ANSWERED),
    ("{@us} /ask why", ANSWERED, ANSWERED, ANSWERED),
    ("{@us}, /ask why", ANSWERED, ANSWERED, ANSWERED),
    ("/8ball@{us}", ANSWERED, ANSWERED, ANSWERED),
    ("{@us} /8ball", ANSWERED, SILENT, ANSWERED),
    ("{@us} !important", ANSWERED, SILENT, ANSWERED),
    ("{@us} hello", ANSWERED, SILENT, ANSWERED),
    ("hello {@us}", ANSWERED, SILENT, ANSWERED),
    ("你好 {@us}，请问", ANSWERED, SILENT, ANSWERED),
    ("/etc/hosts is wrong, {@us}", ANSWERED, SILENT, ANSWERED),
    ("//todo {@us}", ANSWERED, SILENT, ANSWERED),
    ("{@us}", ANSWERED, SILENT, ANSWERED),
    ("@everyone look", SILENT, SILENT, ANSWERED),
    ("@here look", SILENT, SILENT, ANSWERED),
]


@pytest.mark.parametrize(("text", "mention", "command", "everything"), IN_GROUPS)
def test_a_groups_mode_and_what_is_said_there_decide_together(
    text: str, mention: bool, command: bool, everything: bool
) -> None:
    expected = {"mention": mention, "command": command, "all": everything}
    telegram = on_telegram(text.replace("{@us}", f"@{US}").format(us=US, them=OTHERS))
    assert {mode: answers(telegram, mode) for mode in expected} == expected, "Telegram"
    there = on_discord(text.replace("{@us}", f"<@{ME.id}>").format(us="GLMbot", them=OTHERS))
    assert {mode: answers(there, mode) for mode in expected} == expected, "Discord"


@pytest.mark.parametrize("text", ["/8ball", "/translate@other_bot", "!roll"])
def test_another_bots_command_is_no_reply_to_us(text: str) -> None:
    assert not answers(on_telegram(text, reply_to_message=OURS))
    assert not answers(on_discord(text, **replying(ME.id)))


ANY_TEXT = st.one_of(
    st.text(max_size=60),
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                ["/", "／", "!", "//", " ", "\n", "ask", "help", "8ball", "d20+3", "帮助", "etc", "@", OTHERS, "@" + OTHERS,
                 US, ".", ":", "，", "`", "> ", "<@&", "<@", "7>", f"{OTHER_ROLE}>", "@everyone", "é", "𝔞", "\u200b"]
            ),
            max_size=8,
        ),
    ),
)  # fmt: skip


@given(ANY_TEXT)
@example("/d20+3")
@example("/ask")
@example("/askew")
def test_no_words_without_a_mention_a_reply_or_a_command_of_ours_are_answered(text: str) -> None:
    text = text.strip()
    ours = re.match(r"[/／](\w+)(?=[\s:：,，.!?~。！？…]|\Z)", text)
    if f"@{US}".lower() in text.lower() or (ours and commands.parse("/" + ours[1].lower() + " x").known):  # type: ignore[union-attr]
        return
    assert not answers(on_telegram(text))
    assert not answers(on_discord(text))
    assert not answers(on_discord(text, me=Self(ME.id, ME.name, ME.roles, reads_all=False)))


@pytest.mark.parametrize(
    ("text", "name", "argument", "to"),
    [
        ("/ask why", "ask", "why", ""),
        ("/Ask@OurBot  why\nnot", "ask", "why\nnot", "OurBot"),
        ("／ａｓｋ　为什么", "ask", "为什么", ""),
        ("/ask：为什么", "ask", "为什么", ""),
        ("/stop.", "stop", "", ""),
        ("/help！", "help", "", ""),
        ("/8ball", "8ball", "", ""),
        ("/帮助 我", "帮助", "我", ""),
        ("/d20+3 now", "d20+3", "now", ""),
        ("/start-up costs", "start-up", "costs", ""),
    ],
)
def test_a_command_is_read_in_any_script_width_and_case(text: str, name: str, argument: str, to: str) -> None:
    found = slash_command(text)
    assert found is not None
    assert (found.name, found.argument, found.to) == (name, argument, to)


@pytest.mark.parametrize(
    "text", ["/etc/hosts", "/usr/bin?", "//todo", "/", "/ ask", "/^a/", "/.env", "/a.txt", "/b>", "x /ask"]
)
def test_paths_comments_and_patterns_are_no_commands(text: str) -> None:
    assert commands.parse(text) is None


@given(st.text(max_size=40), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=4))
def test_nothing_but_mentions_and_gaps_is_taken_out_of_a_text(
    text: str, places: list[tuple[int, int]]
) -> None:
    spans, end = [], 0
    for start, length in sorted(places):
        if end <= start <= len(text):
            end = min(len(text), start + length)
            spans.append((start, end))
    kept = "".join(
        char for at, char in enumerate(text) if not any(start <= at < stop for start, stop in spans)
    )
    gaps = " \t,:，：、"
    assert [c for c in without(text, spans) if c not in gaps and not c.isspace()] == [
        c for c in kept if c not in gaps and not c.isspace()
    ]


# ---- mentions ---------------------------------------------------------------------------------------------------


def entity(kind: str, text: str, part: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "offset": units(text[: text.index(part)]), "length": units(part), **more}


@pytest.mark.parametrize("kind", ["blockquote", "expandable_blockquote", "code", "pre"])
def test_a_mention_in_a_quote_or_in_code_is_none_to_us_on_telegram(kind: str) -> None:
    text = f"he said @{US} hi\nand left"
    around = entity(kind, text, f"he said @{US} hi")
    said = on_telegram(text, entities=[around, *entities_of(text)])
    assert not answers(said)
    said = on_telegram(f"{text} @{US}", entities=[around, *entities_of(f"{text} @{US}")])
    assert answers(said)
    assert said is not None
    assert said.text == text, "what is quoted stays as it is"


@pytest.mark.parametrize(
    "text",
    ["> <@{us}> hi\nand left", "he wrote\n> <@{us}>", ">>> a\n<@{us}> b", "`<@{us}>`", "```\n<@{us}>\n```", "``a ` <@{us}>``"],
)  # fmt: skip
def test_a_mention_in_a_quote_or_in_code_is_none_to_us_on_discord(text: str) -> None:
    text = text.format(us=ME.id)
    assert not answers(on_discord(text))
    said = on_discord(f"<@!{ME.id}>\n{text}", pings=True)
    assert answers(said)
    assert said is not None
    assert said.text == text


def test_a_mention_in_a_caption_or_by_name_counts_on_telegram() -> None:
    picture = [{"file_id": "a", "file_unique_id": "b", "width": 1, "height": 1}]
    caption = f"look @{US}"
    said = on_telegram(photo=picture, caption=caption, caption_entities=entities_of(caption))
    assert said is not None
    assert (answers(said), said.text, said.media) == (True, "look", "photo")
    text = "𝔞 glmbot, look"
    said = on_telegram(text, entities=[entity("text_mention", text, "glmbot", user=BOT)])
    assert said is not None
    assert (said.addressed, said.text) == (Addressed.BY_MENTION, "𝔞, look")


def test_a_role_of_ours_is_a_mention_on_discord_and_other_roles_and_everybody_are_not() -> None:
    said = on_discord(f"<@&{ROLE}> hello")
    assert said is not None
    assert (said.addressed, said.text) == (Addressed.BY_MENTION, "hello")
    assert not answers(on_discord(f"<@&{OTHER_ROLE}> hello"))
    assert not answers(on_discord(f"> <@&{ROLE}> hello\nno"))
    assert not answers(on_discord(f"<@&{ROLE}> hello", me=Self(ME.id, ME.name, reads_all=True)))


# ---- replies, forwards, bare mentions ---------------------------------------------------------------------------


def test_a_reply_to_us_counts_with_and_without_a_ping() -> None:
    assert on_telegram("why?", reply_to_message=OURS).addressed is Addressed.BY_REPLY  # type: ignore[union-attr]
    for pings in (False, True):
        said = on_discord("why?", pings=pings, **replying(ME.id, "an answer"))
        assert said is not None
        assert said.addressed is Addressed.BY_REPLY
    unresolved: dict[str, Any] = {
        "type": discord.MessageType.reply,
        "reference": SimpleNamespace(message_id=4, resolved=None),
    }
    assert answers(on_discord("why?", pings=True, **unresolved))
    assert not answers(on_discord("why?", **unresolved))
    assert not answers(on_discord("why?", **replying(8, "what is blue?")))
    assert not answers(on_telegram("why?", reply_to_message=THEIRS))


def test_a_bare_mention_asks_about_what_it_replies_to() -> None:
    for said in (
        on_telegram(f"@{US}", reply_to_message=THEIRS),
        on_telegram(f"@{US}", reply_to_message=THEIRS, quote={"text": "what is blue?", "position": 0}),
        on_discord(f"<@{ME.id}>", **replying(8, "what is blue?")),
    ):
        assert said is not None
        assert (answers(said), asked_text(said)) == (True, "what is blue?")
    picture = [{"file_id": "a", "file_unique_id": "b", "width": 1, "height": 1}]
    photo = {name: value for name, value in THEIRS.items() if name != "text"} | {"photo": picture}
    said = on_telegram(f"@{US}", reply_to_message=photo)
    assert said is not None
    assert (asked_text(said), said.media) == ("", "photo")
    file = SimpleNamespace(content_type="image/png")
    said = on_discord(f"<@{ME.id}>", **replying(8, attachments=[file]))
    assert said is not None
    assert (asked_text(said), said.media) == ("", "image")


def test_a_bare_mention_alone_or_of_our_own_answer_asks_nothing() -> None:
    for said in (
        on_telegram(f"@{US}"),
        on_telegram(f"@{US}", reply_to_message=OURS),
        on_discord(f"<@{ME.id}>"),
        on_discord(f"<@{ME.id}>", **replying(ME.id, "an answer")),
    ):
        assert said is not None
        assert (said.addressed, asked_text(said), said.media) == (Addressed.BY_MENTION, "", "")


FORWARDS = [
    ({"type": "user", "date": 1, "sender_user": {"id": 8, "is_bot": False, "first_name": "Bob"}}, "Bob"),
    ({"type": "hidden_user", "date": 1, "sender_user_name": "Someone"}, "Someone"),
    ({"type": "chat", "date": 1, "sender_chat": {"id": -7, "type": "supergroup", "title": "Friends"}}, "Friends"),
    ({"type": "channel", "date": 1, "message_id": 3, "chat": {"id": -8, "type": "channel", "title": "News"}}, "News"),
]  # fmt: skip


@pytest.mark.parametrize(("origin", "name"), FORWARDS)
def test_what_is_forwarded_is_a_question_in_private_and_never_a_command(origin: Any, name: str) -> None:
    for text in ("The sky is green.", "/forget yes", "/8ball"):
        said = on_telegram(text, private=True, forward_origin=origin)
        assert said is not None
        assert asked_text(said) == f"{name}:\n{text}"
        assert commands.parse(said.text) is None


def test_what_is_forwarded_into_a_group_is_said_to_nobody() -> None:
    for text in (f"@{US} hello", "/ask why", "/new", f"/ask@{US} why"):
        assert not answers(on_telegram(text, forward_origin=FORWARDS[0][0]))
        said = on_telegram(text, forward_origin=FORWARDS[0][0])
        assert said is None or commands.parse(said.text) is None
    snapshot = SimpleNamespace(content=f"<@{ME.id}> /new", attachments=[])
    assert not answers(on_discord("", message_snapshots=[snapshot]))


def test_what_is_forwarded_on_discord_is_a_question_in_private() -> None:
    snapshot = SimpleNamespace(content="/forget yes", attachments=[])
    said = on_discord("", private=True, message_snapshots=[snapshot])
    assert said is not None
    assert (said.text, asked_text(said)) == ("", "/forget yes")


@pytest.mark.parametrize("kind", ["sticker", "voice", "photo"])
def test_what_has_no_words_is_noticed_in_private_and_left_alone_in_a_group(kind: str) -> None:
    fields: dict[str, Any] = {
        "sticker": {"file_id": "a", "file_unique_id": "b", "type": "regular", "width": 1, "height": 1,
                    "is_animated": False, "is_video": False},
        "voice": {"file_id": "a", "file_unique_id": "b", "duration": 1},
        "photo": [{"file_id": "a", "file_unique_id": "b", "width": 1, "height": 1}],
    }  # fmt: skip
    said = on_telegram(private=True, **{kind: fields[kind]})
    assert said is not None
    assert said.media == kind
    assert on_telegram(**{kind: fields[kind]}) is None
    assert (on_telegram(reply_to_message=OURS, **{kind: fields[kind]}) is None) is (kind == "sticker")
    sticker = cast(Any, SimpleNamespace(name="hi"))
    assert on_discord("", private=True, stickers=[sticker]).media == "sticker"  # type: ignore[union-attr]
    assert on_discord("", stickers=[sticker], **replying(ME.id)) is None


def test_where_discord_hides_the_words_only_who_turns_to_us_is_told() -> None:
    blind = Self(ME.id, ME.name, ME.roles, reads_all=False)
    said = on_discord("", me=blind, **replying(ME.id, "an answer"))
    assert said is not None
    assert (said.addressed, said.media) == (Addressed.BY_REPLY, HIDDEN)
    said = on_discord("", me=blind, role_mentions=[SimpleNamespace(id=ROLE)])
    assert said is not None
    assert (said.addressed, said.media) == (Addressed.BY_MENTION, HIDDEN)
    said = on_discord(f"<@{ME.id}>", me=blind, **replying(8, ""))
    assert said is not None
    assert said.media == HIDDEN, "what somebody else said, which is asked about"
    assert on_discord("", me=blind) is None
    assert on_discord("", me=blind, **replying(8, "")) is None


# ---- in whose name ----------------------------------------------------------------------------------------------

ANONYMOUS = {
    "from": {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}
}
CHANNEL: dict[str, Any] = {"id": -1009, "type": "channel", "title": "News"}
CHANNEL_BOT = {"id": 136817688, "is_bot": True, "first_name": "Channel", "username": "Channel_Bot"}


def test_who_speaks_in_a_chats_name_is_that_chat() -> None:
    group: dict[str, Any] = {"id": GROUP, "type": "supergroup", "title": "Friends"}
    named: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (group, ANONYMOUS),
        (CHANNEL, {"from": CHANNEL_BOT}),
    ]
    for sender, fields in named:
        said = on_telegram(f"@{US} hello", sender_chat=sender, **fields)
        assert said is not None
        assert (said.user, said.anonymous) == (UserKey("telegram", sender["id"]), True)
        assert said.conversation.user == sender["id"], "each chat has a history of its own"
        assert answers(said)


def test_posts_of_the_linked_channel_other_bots_and_inline_results_are_said_to_nobody() -> None:
    service = {"id": 777000, "is_bot": False, "first_name": "Telegram"}
    text = f"@{US} hello"
    post = {"from": service, "sender_chat": CHANNEL, "is_automatic_forward": True}
    assert on_telegram(text, forward_origin=FORWARDS[3][0], **post) is None
    bot = {"id": 99, "is_bot": True, "first_name": "Other", "username": OTHERS}
    for private in (False, True):
        assert on_telegram(text, private=private, **{"from": bot}) is None
    for said in (text, "/ask why", "/new"):
        assert on_telegram(said, via_bot=bot) is None
        assert on_telegram(said, via_bot=bot, reply_to_message=OURS) is None
        chosen = on_telegram(said, via_bot=bot, private=True)
        assert chosen is not None
        assert (chosen.text, asked_text(chosen)) == ("", said), (
            "its author chose it, and its words are a bot's"
        )
    webhook = SimpleNamespace(id=PERSON, bot=False, display_name="Hook")
    assert on_discord(f"<@{ME.id}> hi", author=webhook, webhook_id=3) is None
    assert on_discord(f"<@{ME.id}> hi", author=SimpleNamespace(id=3, bot=True, display_name="B")) is None


def test_an_unknown_command_is_answered_in_private_and_a_path_is_a_question() -> None:
    for text in ("/8ball", "/帮助", "/d20+3"):
        for said in (on_telegram(text, private=True), on_discord(text, private=True)):
            assert said is not None
            assert said.chat_kind is ChatKind.PRIVATE
            command = commands.parse(said.text)
            assert command is not None
            assert not command.known
    for text in ("/etc/hosts is wrong", "//todo", "!important"):
        for said in (on_telegram(text, private=True), on_discord(text, private=True)):
            assert said is not None
            assert commands.parse(said.text) is None
