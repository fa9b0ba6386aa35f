"""A Telegram update as a Message or a pressed button, or None where nobody speaks to us. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from telegram import CallbackQuery, MaybeInaccessibleMessage, MessageEntity, Update, User
from telegram import Message as TelegramMessage

from glmbot.messages import Addressed, ChatKind, ConversationKey, Message, UserKey

__all__ = ["PLATFORM", "ForeignPress", "Moved", "Press", "ShutOut", "button_data", "normalize"]

PLATFORM = "telegram"

# What else can be in a message (https://core.telegram.org/bots/api#message), by the field's name.
_MEDIA = (
    "photo", "video", "voice", "audio", "document", "sticker", "animation", "video_note", "location", "contact",
    "poll", "dice", "venue", "story", "paid_media",
)  # fmt: skip
_BUTTON = re.compile(r"(?P<command>[a-z]{1,20}):(?P<asker>\d{1,20})")


@dataclass(frozen=True, slots=True)
class Press:
    """Somebody pressed a button under an answer. `asker` is whose answer it is. The message's origin has the id of
    the callback query."""

    query_id: str
    asker: int
    message: Message


@dataclass(frozen=True, slots=True)
class ForeignPress:
    """A button that is none of ours, or no longer: it only stops turning when the query is answered."""

    query_id: str


@dataclass(frozen=True, slots=True)
class ShutOut:
    """The bot was blocked, or removed from a group."""

    chat: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A group became a supergroup, which has another id. Both chats are told so, in either order."""

    old: int
    new: int


def button_data(command: str, asker: int) -> str:
    """At most 64 bytes (https://core.telegram.org/bots/api#inlinekeyboardbutton)."""
    return f"{command}:{asker}"


def normalize(update: Update, bot: User) -> Message | Press | ForeignPress | ShutOut | Moved | None:
    """In private everything counts. In groups it depends on the chat's mode, so every text is handed on with how
    it turns to the bot; what is meant for another bot is not."""
    if (query := update.callback_query) is not None:
        return _press(update.update_id, query) or ForeignPress(query.id)
    if (said := update.message) is not None and (moved := _moved(said)) is not None:
        return moved
    if (member := update.my_chat_member) is not None:
        return ShutOut(member.chat.id) if member.new_chat_member.status in ("kicked", "left") else None
    received = update.message or update.edited_message
    if received is None or received.from_user is None or received.from_user.is_bot or received.sender_chat:
        return None
    private = received.chat.type == "private"
    text = received.text or received.caption or ""
    media = next((kind for kind in _MEDIA if getattr(received, kind, None)), "")
    if not text and not media:
        return None
    answered = _answered(received)
    addressed = Addressed.DIRECTLY if private else _addressed(received, answered, bot)
    if addressed is None or (addressed is Addressed.NOT and not text):
        return None
    thread = _thread(received)
    quote = received.quote.text if received.quote is not None else ""
    return Message(
        update_id=str(update.update_id),
        conversation=_conversation(received.chat.id, received.from_user.id, thread, private=private),
        user=UserKey(PLATFORM, received.from_user.id),
        text=_without_mention(text, bot),
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=received.from_user.full_name,
        language=received.from_user.language_code or "",
        ref=_ref(received),
        edits=update.edited_message is not None,
        replies_to=_ref(answered) if answered is not None else "",
        quoted=quote or ((answered.text or answered.caption or "") if answered is not None else ""),
        addressed=addressed,
        media=media,
    )


def _moved(said: TelegramMessage) -> Moved | None:
    """Raises ValueError for what is no id."""
    ends = (said.chat.id, said.migrate_to_chat_id) if said.migrate_to_chat_id else None
    if said.migrate_from_chat_id:
        ends = (said.migrate_from_chat_id, said.chat.id)
    if ends is None:
        return None
    if any(type(end) is not int or end >= 0 for end in ends):
        raise ValueError("a group's id is a number below 0")
    return Moved(*ends)


def _press(update_id: int, query: CallbackQuery) -> Press | None:
    data = _BUTTON.fullmatch(query.data or "")
    if data is None or query.message is None:
        return None
    chat, asker = query.message.chat, int(data["asker"])
    private = chat.type == "private"
    thread = _thread(query.message) if isinstance(query.message, TelegramMessage) else 0
    message = Message(
        update_id=str(update_id),
        conversation=_conversation(chat.id, asker, thread, private=private),
        user=UserKey(PLATFORM, query.from_user.id),
        text=f"/{data['command']}",
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=query.from_user.full_name,
        language=query.from_user.language_code or "",
        replies_to=_ref(query.message),
        in_place=True,
        origin={"query": query.id},
    )
    return Press(query.id, asker, message)


def _conversation(chat: int, user: int, thread: int, *, private: bool) -> ConversationKey:
    return ConversationKey(PLATFORM, chat, 0 if private else user, thread)


def _ref(received: MaybeInaccessibleMessage) -> str:
    """Raises ValueError. What a broken update has there would be met only when it is answered."""
    if type(received.message_id) is not int:
        raise ValueError("a message's id is a number")
    return str(received.message_id)


def _thread(received: TelegramMessage) -> int:
    return (received.message_thread_id or 0) if received.is_topic_message else 0


def _answered(received: TelegramMessage) -> TelegramMessage | None:
    """In a topic every message answers the one that opened the topic; that is nobody's reply."""
    answered = received.reply_to_message
    if answered is None or answered.forum_topic_created is not None:
        return None
    return answered


def _addressed(received: TelegramMessage, answered: TelegramMessage | None, bot: User) -> Addressed | None:
    """None: a command for another bot."""
    entities = {**received.parse_entities(), **received.parse_caption_entities()}
    mentioned = False
    for entity, covered in entities.items():
        if entity.type == MessageEntity.BOT_COMMAND and entity.offset == 0:
            _, at, name = covered.partition("@")
            return Addressed.BY_COMMAND if not at or name.lower() == str(bot.username).lower() else None
        if entity.type == MessageEntity.MENTION:
            mentioned = mentioned or covered.lower() == f"@{bot.username}".lower()
        if entity.type == MessageEntity.TEXT_MENTION:
            mentioned = mentioned or (entity.user is not None and entity.user.id == bot.id)
    if mentioned:
        return Addressed.BY_MENTION
    replied = answered is not None and answered.from_user is not None and answered.from_user.id == bot.id
    return Addressed.BY_REPLY if replied else Addressed.NOT


def _without_mention(text: str, bot: User) -> str:
    return re.sub(rf"(?<!\w)(/\w+)?@{re.escape(str(bot.username))}\b", r"\1", text, flags=re.I).strip()
