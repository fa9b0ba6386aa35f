"""What people say on Telegram and on Discord, read by the adapters: for tests of what counts as speaking to the bot."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import discord
from telegram import Update, User

from glmbot.dialogue.commands import Commands
from glmbot.messages import Message
from glmbot.modes import is_answered
from glmbot.plugins import load_plugins
from glmbot_discord.normalize import Self, from_message
from glmbot_telegram.normalize import normalize
from platforms.telegram_server import BOT

__all__ = [
    "COMMANDS", "GROUP", "ME", "OTHERS", "OTHER_ROLE", "OURS", "PERSON", "PICTURE", "ROLE", "THEIRS", "US", "answers",
    "entities_of", "on_discord", "on_telegram", "replying", "units",
]  # fmt: skip

COMMANDS = Commands(load_plugins().commands)
GROUP, PERSON = -1001, 9
ROLE, OTHER_ROLE = 555000000000000001, 555000000000000002
ME = Self(100000000000000001, "glmbot", {ROLE}, reads_all=True)
US, OTHERS = "glm_test_bot", "other_bot"


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
    read = normalize(update, User(4242, "glmbot", is_bot=True, username=US))
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
        "mentions": [SimpleNamespace(id=ME.id, bot=True)]
        if pings or (pings is None and f"<@{ME.id}>" in text)
        else [],
        "role_mentions": [],
        "attachments": [],
        "stickers": [],
        "poll": None,
        "id": 5,
        "created_at": datetime(2026, 11, 26, tzinfo=UTC),
        "edited_at": None,
    }
    for name, value in (given | fields).items():
        setattr(said, name, value)
    return said


def on_discord(
    text: str = "", *, me: Self = ME, private: bool = False, edits: bool = False, **fields: Any
) -> Message | None:
    if private:
        fields |= {"channel": Mock(spec=discord.DMChannel, id=700), "guild": None}
    return from_message(said_on_discord(text, **fields), me, edits=edits)


def replying(author: int, text: str = "", **fields: Any) -> dict[str, Any]:
    """The fields of a Discord message that replies to what that author said."""
    about = said_on_discord(
        text, author=SimpleNamespace(id=author, bot=author == ME.id, display_name="B"), **fields
    )
    return {"type": discord.MessageType.reply, "reference": SimpleNamespace(message_id=4, resolved=about)}


def answers(message: Message | None, mode: str = "mention") -> bool:
    return message is not None and is_answered(message, mode, COMMANDS)


PICTURE = [{"file_id": "a", "file_unique_id": "b", "width": 1, "height": 1}]
