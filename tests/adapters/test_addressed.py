"""What comes along with what is said to the bot, and in whose name: replies, forwards, media, chats that speak."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import discord
import pytest

from adapters.said import (
    GROUP,
    ME,
    OTHERS,
    OURS,
    PERSON,
    PICTURE,
    ROLE,
    THEIRS,
    US,
    answers,
    on_discord,
    on_telegram,
    replying,
)
from glmbot.dialogue.question import asked_text
from glmbot.keys import UserKey
from glmbot.messages import HIDDEN, Addressed
from glmbot.openings import slash_command
from glmbot_discord.normalize import Self

# ---- replies, forwards, bare mentions ---------------------------------------------------------------------------


def test_a_reply_to_us_counts_with_and_without_a_ping() -> None:
    replied = on_telegram("why?", reply_to_message=OURS)
    assert replied is not None
    assert replied.addressed is Addressed.BY_REPLY
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
    photo = {name: value for name, value in THEIRS.items() if name != "text"} | {"photo": PICTURE}
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
        assert slash_command(said.text) is None


def test_what_is_forwarded_into_a_group_is_said_to_nobody() -> None:
    for text in (f"@{US} hello", "/ask why", "/new", f"/ask@{US} why"):
        assert not answers(on_telegram(text, forward_origin=FORWARDS[0][0]))
        said = on_telegram(text, forward_origin=FORWARDS[0][0])
        assert said is None or slash_command(said.text) is None
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
        "photo": PICTURE,
    }  # fmt: skip
    said = on_telegram(private=True, **{kind: fields[kind]})
    assert said is not None
    assert said.media == kind
    assert on_telegram(**{kind: fields[kind]}) is None
    assert (on_telegram(reply_to_message=OURS, **{kind: fields[kind]}) is None) is (kind == "sticker")
    sticker = SimpleNamespace(name="hi")
    alone = on_discord("", private=True, stickers=[sticker])
    assert alone is not None
    assert alone.media == "sticker"
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
    assert on_discord("", me=blind, edits=True, **replying(ME.id, "an answer")) is None
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
        assert (said.user, said.anonymous) == (UserKey("telegram", str(sender["id"])), True)
        assert said.conversation.user == str(sender["id"]), "each chat has a history of its own"
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
