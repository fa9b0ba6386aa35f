"""A Telegram update as a Message or a pressed button, or None where nobody speaks to us. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from telegram import (
    CallbackQuery,
    MaybeInaccessibleMessage,
    MessageEntity,
    MessageOriginChannel,
    MessageOriginChat,
    MessageOriginHiddenUser,
    MessageOriginUser,
    Update,
    User,
)
from telegram import Message as TelegramMessage

from glmbot.delivery.split import utf16_length
from glmbot.keys import ConversationKey, UserKey, number_in, numeric_id
from glmbot.messages import Act, Addressed, Ask, ChatKind, Edit, Message, Press, PressedButton
from glmbot.openings import has_prefix, slash_command, without

__all__ = [
    "PLATFORM",
    "QUERY",
    "THREAD",
    "ForeignPress",
    "Moved",
    "ShutOut",
    "button_data",
    "in_the_name_of",
    "is_group",
    "normalize",
    "number_of",
]

PLATFORM = "telegram"
# A note of where to answer: the message that the comments or replies stand under, in a group without topics.
THREAD = "thread"
# A note of the callback query that a button's press waits for an answer to.
QUERY = "query"

# What else can be in a message (https://core.telegram.org/bots/api#message), by the field's name.
_MEDIA = (
    "photo", "video", "voice", "audio", "document", "sticker", "animation", "video_note", "location", "contact",
    "poll", "dice", "venue", "story", "paid_media", "game", "invoice", "checklist", "giveaway",
)  # fmt: skip
# What people say to each other in a group without a word.
_GESTURES = frozenset({"sticker", "animation", "dice"})
# A mention in these is somebody else's, or no mention.
_QUIET = frozenset(
    {
        MessageEntity.BLOCKQUOTE,
        MessageEntity.EXPANDABLE_BLOCKQUOTE,
        MessageEntity.CODE,
        MessageEntity.PRE,
    }
)
# Buttons of earlier releases say nothing of the topic.
_BUTTON = re.compile(r"(?P<command>[a-z]{1,20}):(?P<asker>-?[0-9]{1,19})(?::(?P<thread>[0-9]{1,19}))?")
# Where a text was too long, the desktop client cuts it anywhere in the second half of what one message takes, at
# the best break that it finds there; others nearer to the end.
_MAY_BE_CUT = 4096 // 2
_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ForeignPress:
    """A button that is none of ours, or no longer: it only stops turning when the query is answered."""

    query_id: str


@dataclass(frozen=True, slots=True)
class ShutOut:
    """The bot was blocked, or removed from a group."""

    chat: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A group became a supergroup, which has another id. Both chats are told so, in either order."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class _Author:
    id: str
    name: str
    language: str
    anonymous: bool


def number_of(given: str) -> int:
    """The number that Telegram knows a chat, a topic or a person by. Raises ValueError."""
    return number_in(given, signed=True)


def is_group(chat: str) -> bool:
    """Groups and channels have numbers below 0."""
    return chat.startswith("-")


def button_data(command: str, asker: str, thread: str) -> str:
    """At most 64 bytes (https://core.telegram.org/bots/api#inlinekeyboardbutton). Of an old message Telegram no
    longer tells the topic, so the button does."""
    return f"{command}:{asker}:{thread or 0}"


def in_the_name_of(press: PressedButton) -> PressedButton:
    """The press of somebody who may speak for the chat that asked, as that chat's."""
    asker = UserKey(PLATFORM, press.asker)
    return replace(press, message=replace(press.message, user=asker, user_name="", anonymous=True))


def normalize(update: Update, bot: User) -> Message | PressedButton | ForeignPress | ShutOut | Moved | None:
    """In private everything counts. In groups it depends on the chat's mode, so every text is handed on with how
    it turns to the bot; what is meant for another bot is not."""
    if (query := update.callback_query) is not None:
        if not isinstance(cast(object, query.id), str) or not query.id:
            raise ValueError("a button's press has no id")
        return _press(update.update_id, query) or ForeignPress(query.id)
    if (said := update.message) is not None and (moved := _moved(said)) is not None:
        return moved
    if (member := update.my_chat_member) is not None:
        return ShutOut(_id(member.chat.id)) if member.new_chat_member.status in ("kicked", "left") else None
    received = update.message or update.edited_message
    if received is None or (author := _author(received)) is None:
        return None
    private = received.chat.type == "private"
    said = received.text or received.caption or ""
    media = _media(received)
    # An edit without words says nothing new: a live location, another picture, buttons.
    silent = update.edited_message is not None or (not private and media in _GESTURES)
    if not said and (not media or silent):
        return None
    answered = _answered(received)
    mentions = _mentions(received, said, bot)
    if not private and not mentions and _calls_another_bot(received, said):
        return None
    foreign = received.forward_origin is not None or received.via_bot is not None
    addressed = Addressed.DIRECTLY if private else _addressed(said, answered, mentions, bot)
    if foreign and not private:
        addressed = Addressed.NOT
    if addressed is None or (addressed is Addressed.NOT and (not said or received.via_bot is not None)):
        return None
    # What mentions nobody may be a piece of a longer text, whose white space counts.
    text, quoted, quoted_from = without(said, mentions) if mentions else said, "", ""
    if foreign:
        # The words of somebody else: a question, and never a command.
        text, quoted, quoted_from = "", said, _origin(received)
    elif answered is not None or received.quote is not None:
        quoted, quoted_media = _quoted(received, answered, text, bot)
        media = media or quoted_media
    return Message(
        update_id=str(update.update_id),
        conversation=_conversation(_id(received.chat.id), author.id, _topic(received), private=private),
        user=UserKey(PLATFORM, author.id),
        text=text,
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=author.name,
        language=author.language,
        origin=_where(received, private=private),
        ref=_ref(received),
        intent=Edit() if update.edited_message is not None else Ask(),
        replies_to=_ref(answered) if answered is not None else "",
        quoted=quoted,
        quoted_from=quoted_from,
        addressed=addressed,
        media=media,
        anonymous=author.anonymous,
        act=_act(received, foreign=foreign),
    )


def _act(received: TelegramMessage, *, foreign: bool) -> Act:
    units = utf16_length((received.text or "").rstrip())
    return Act(
        album=received.media_group_id or "",
        at=max(0, int(received.date.timestamp())),
        cut=units if units > _MAY_BE_CUT and not foreign else 0,
        forwarded=received.forward_origin is not None,
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
    return Moved(*map(_id, ends))


def _press(update_id: int, query: CallbackQuery) -> PressedButton | None:
    data = _BUTTON.fullmatch(query.data or "")
    if data is None or query.message is None:
        return None
    chat, asker = query.message.chat, _id(int(data["asker"]))
    private = chat.type == "private"
    if data["thread"] is not None:
        topic = _optional_id(int(data["thread"]))
    else:
        topic = _topic(query.message) if isinstance(query.message, TelegramMessage) else ""
    message = Message(
        update_id=str(update_id),
        conversation=_conversation(_id(chat.id), asker, topic, private=private),
        user=UserKey(PLATFORM, _id(query.from_user.id)),
        text=f"/{data['command']}",
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=query.from_user.full_name,
        language=query.from_user.language_code or "",
        intent=Press(_ref(query.message)),
        origin={QUERY: query.id},
    )
    return PressedButton(asker, message)


def _conversation(chat: str, user: str, thread: str, *, private: bool) -> ConversationKey:
    return ConversationKey(PLATFORM, chat, "" if private else user, thread)


def _id(number: object) -> str:
    """Groups and channels have numbers below 0. Raises ValueError for what Telegram never sends."""
    return numeric_id(number, signed=True)


def _optional_id(number: object) -> str:
    return _id(number) if number else ""


def _ref(received: MaybeInaccessibleMessage) -> str:
    """Raises ValueError. What a broken update has there would be met only when it is answered."""
    if type(received.message_id) is not int:
        raise ValueError("a message's id is a number")
    return str(received.message_id)


# ---- who, and where ---------------------------------------------------------------------------------------------


def _author(received: TelegramMessage) -> _Author | None:
    """None: no person. A group's anonymous administrators and who sends as a channel speak in a chat's name; a
    channel's post that Telegram itself copies into the discussion group is said to nobody."""
    if received.is_automatic_forward:
        return None
    if (chat := received.sender_chat) is not None:
        return _Author(_id(chat.id), chat.title or "", "", anonymous=True)
    person = received.from_user
    if person is None or person.is_bot:
        return None
    return _Author(_id(person.id), person.full_name, person.language_code or "", anonymous=False)


def _topic(received: TelegramMessage) -> str:
    return _optional_id(received.message_thread_id) if received.is_topic_message else ""


def _where(received: TelegramMessage, *, private: bool) -> dict[str, str]:
    """Where there are no topics, a thread is that of the comments under a post, or of the replies to a message."""
    if private or received.is_topic_message or received.chat.is_forum or not received.message_thread_id:
        return {}
    return {THREAD: str(int(received.message_thread_id))}


# ---- to whom ----------------------------------------------------------------------------------------------------


def _addressed(
    said: str, answered: TelegramMessage | None, mentions: Sequence[_Span], bot: User
) -> Addressed | None:
    """None: a command for another bot. A command's argument may mention us ("/ban @us"), and so may what follows
    another bot's prefix: that is not said to us."""
    if (command := slash_command(said)) is not None:
        return Addressed.BY_COMMAND if command.may_be_for(str(bot.username)) else None
    if has_prefix(said):
        return Addressed.NOT
    if mentions:
        return Addressed.BY_MENTION
    return Addressed.BY_REPLY if answered is not None and _is_by(answered, bot) else Addressed.NOT


def _mentions(received: TelegramMessage, said: str, bot: User) -> list[_Span]:
    """Where in the text the bot is mentioned by whoever says it, as indices."""
    entities = received.entities if received.text else received.caption_entities
    quiet = [_span(entity) for entity in entities if entity.type in _QUIET]
    units = said.encode("utf-16-le")
    found: list[_Span] = []
    for entity in entities:
        if entity.type not in (MessageEntity.MENTION, MessageEntity.TEXT_MENTION):
            continue
        start, end = _span(entity)
        covered = units[2 * start : 2 * end].decode("utf-16-le")
        named = entity.user is not None and entity.user.id == bot.id
        if entity.type == MessageEntity.MENTION:
            named = covered.lower() == f"@{bot.username}".lower()
        if named and not _within(start, quiet):
            index = len(units[: 2 * start].decode("utf-16-le"))
            found.append((index, index + len(covered)))
    return found


def _calls_another_bot(received: TelegramMessage, said: str) -> bool:
    """Whether it begins with the name of a bot, which ends in "bot" (https://core.telegram.org/bots/features)."""
    for entity in received.entities if received.text else received.caption_entities:
        if entity.offset != 0:
            continue
        if entity.type == MessageEntity.MENTION and said[: entity.length].lower().endswith("bot"):
            return True
        if entity.type == MessageEntity.TEXT_MENTION and entity.user is not None and entity.user.is_bot:
            return True
    return False


def _span(entity: MessageEntity) -> _Span:
    """In UTF-16 units. Raises ValueError."""
    if not all(type(number) is int and number >= 0 for number in (entity.offset, entity.length)):
        raise ValueError("an entity's place is a number")
    return entity.offset, entity.offset + entity.length


def _within(place: int, spans: Iterable[_Span]) -> bool:
    return any(start <= place < end for start, end in spans)


def _answered(received: TelegramMessage) -> TelegramMessage | None:
    """In a topic every message answers the one that opened the topic; that is nobody's reply."""
    answered = received.reply_to_message
    if answered is None or answered.forum_topic_created is not None:
        return None
    return answered


def _is_by(said: TelegramMessage, bot: User) -> bool:
    return said.from_user is not None and said.from_user.id == bot.id


# ---- what comes along -------------------------------------------------------------------------------------------


def _media(received: TelegramMessage) -> str:
    return next((kind for kind in _MEDIA if getattr(received, kind, None)), "")


def _quoted(
    received: TelegramMessage, answered: TelegramMessage | None, text: str, bot: User
) -> tuple[str, str]:
    """The words that this message is about, and the name of what can't be read there."""
    chosen = received.quote.text if received.quote is not None else ""
    if answered is None:
        return chosen, ""
    if _is_by(answered, bot):
        # Its words are in the history; a mention that adds none asks nothing about them.
        return chosen or (answered.text or answered.caption or "" if text else ""), ""
    return chosen or answered.text or answered.caption or "", _media(answered)


def _origin(received: TelegramMessage) -> str:
    """Whose words were forwarded, by name."""
    match received.forward_origin:
        case MessageOriginUser(sender_user=user):
            return user.full_name
        case MessageOriginHiddenUser(sender_user_name=name):
            return name
        case MessageOriginChat(sender_chat=chat) | MessageOriginChannel(chat=chat):
            return chat.title or ""
        case _:
            return ""
