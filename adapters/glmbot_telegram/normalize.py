"""A Telegram update as a Message, or None where the bot is not spoken to. Pure."""

from __future__ import annotations

import re

from telegram import Message as TelegramMessage
from telegram import MessageEntity, Update, User

from glmbot.messages import ChatKind, ConversationKey, Message, UserKey

__all__ = ["normalize"]

PLATFORM = "telegram"


def normalize(update: Update, bot: User) -> Message | None:
    """In private every message counts; in groups mentions, replies to the bot, and commands."""
    received = update.message
    if received is None or received.from_user is None or received.from_user.is_bot or received.sender_chat:
        return None
    private = received.chat.type == "private"
    text = received.text or received.caption or ""
    if not private and not _addressed(received, text, bot):
        return None
    thread = received.message_thread_id if received.is_topic_message else None
    origin = {"chat": str(received.chat.id), "reply_to": "" if private else str(received.message_id)}
    if thread:
        origin["thread"] = str(thread)
    return Message(
        update_id=str(update.update_id),
        conversation=ConversationKey(
            PLATFORM,
            received.chat.id,
            0 if private else received.from_user.id,
            thread or 0,
        ),
        user=UserKey(PLATFORM, received.from_user.id),
        text=_without_mention(text, bot),
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=received.from_user.full_name,
        language=received.from_user.language_code or "",
        origin=origin,
    )


def _addressed(received: TelegramMessage, text: str, bot: User) -> bool:
    answered = received.reply_to_message
    if answered is not None and answered.from_user is not None and answered.from_user.id == bot.id:
        return True
    entities = {**received.parse_entities(), **received.parse_caption_entities()}
    for entity, covered in entities.items():
        if entity.type == MessageEntity.MENTION and covered.lower() == f"@{bot.username}".lower():
            return True
        if entity.type == MessageEntity.TEXT_MENTION and entity.user and entity.user.id == bot.id:
            return True
        if entity.type == MessageEntity.BOT_COMMAND and entity.offset == 0:
            _, at, name = covered.partition("@")
            return not at or name.lower() == str(bot.username).lower()
    return False


def _without_mention(text: str, bot: User) -> str:
    return re.sub(rf"(?<!\w)(/\w+)?@{re.escape(str(bot.username))}\b", r"\1", text, flags=re.I).strip()
