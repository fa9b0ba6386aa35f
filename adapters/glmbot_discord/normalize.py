"""A Discord message, slash command or pressed button as a Message, or None where nobody speaks to us. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import discord

from glmbot.messages import Addressed, ChatKind, ConversationKey, Message, UserKey, Visibility

__all__ = [
    "PLATFORM",
    "Press",
    "button_id",
    "carried_over",
    "from_interaction",
    "from_message",
    "from_press",
    "is_thread_of",
]

PLATFORM = "discord"

# Discord's own largest are 6000 characters (a slash command's value) and 32 (a display name); a real token has
# about 230.
_LONGEST_TEXT = 8000
_LONGEST_QUOTED = 8000
_LONGEST_NAME = 64
_LARGEST_SNOWFLAKE = 2**63 - 1

_BUTTON = re.compile(r"glmbot:(?P<command>[a-z]{1,20}):(?P<asker>[0-9]{1,19})")
_TOKEN = re.compile(r"[!-~]{1,1000}")


@dataclass(frozen=True, slots=True)
class Press:
    """Somebody pressed a button under an answer. `asker` is whose answer it is."""

    asker: int
    message: Message


@dataclass(frozen=True, slots=True)
class _Place:
    """`private`: a direct channel of one person and this bot, and nothing else: everywhere else several people may
    write, and each has a history of their own."""

    chat: int
    thread: int
    private: bool

    @property
    def kind(self) -> ChatKind:
        return ChatKind.PRIVATE if self.private else ChatKind.GROUP

    def conversation(self, user: int) -> ConversationKey:
        return ConversationKey(PLATFORM, self.chat, 0 if self.private else user, self.thread)


def button_id(command: str, asker: int) -> str:
    """At most 100 characters (https://discord.com/developers/docs/components/reference#button)."""
    return f"glmbot:{command}:{asker}"


def from_message(
    received: discord.Message, bot_id: int, *, edits: bool = False, threads: bool = False
) -> Message | None:
    """Direct messages always count. Elsewhere Discord hides what does not mention the bot, unless the bot has the
    message-content intent; what is left is handed on with how it turns to the bot.

    `threads`: a question in a channel is answered in a thread of its own, which has the question's id. Raises
    ValueError for what Discord never sends.
    """
    if received.author.bot or received.type not in (discord.MessageType.default, discord.MessageType.reply):
        return None
    place = _place_of_message(received)
    mentioned = any(user.id == bot_id for user in received.mentions)
    media = next((_kind(attachment) for attachment in received.attachments), "")
    if not received.content and not (media and (place.private or mentioned)):
        return None
    in_own_thread = isinstance(received.channel, discord.Thread) and received.channel.owner_id == bot_id
    addressed = Addressed.NOT
    if place.private:
        addressed = Addressed.DIRECTLY
    elif mentioned:
        addressed = Addressed.BY_MENTION
    elif in_own_thread:
        addressed = Addressed.BY_REPLY
    if threads and not place.thread and not place.private:
        place = replace(place, thread=received.id)
    answered = received.reference if received.type is discord.MessageType.reply else None
    quoted = answered.resolved if answered is not None else None
    return Message(
        # An edit is an update of its own, and the time makes each edit another.
        update_id=f"message {received.id}" + (f" {received.edited_at}" if edits else ""),
        conversation=place.conversation(received.author.id),
        user=UserKey(PLATFORM, received.author.id),
        text=re.sub(rf"<@!?{bot_id}>", "", _bounded(received.content)).strip(),
        chat_kind=place.kind,
        user_name=received.author.display_name[:_LONGEST_NAME],
        ref=str(_snowflake(received.id)),
        edits=edits,
        replies_to=str(_snowflake(answered.message_id)) if answered and answered.message_id else "",
        quoted=quoted.content[:_LONGEST_QUOTED] if isinstance(quoted, discord.Message) else "",
        addressed=addressed,
        media=media,
    )


def is_thread_of(message: Message) -> bool:
    """Whether this question opens the thread that it is answered in."""
    return bool(message.conversation.thread) and message.ref == str(message.conversation.thread)


def from_interaction(interaction: discord.Interaction[Any], text: str, *, ephemeral: bool) -> Message:
    """A slash command. Its token answers for 15 minutes, also after a restart. Raises ValueError.

    Scope and rights are those of the place. `ephemeral` says only that the answer is shown to its asker alone,
    which is enough for /export: Discord never shows it to others, and when the token has expired nothing is shown.
    """
    place = _place_of_interaction(interaction)
    return Message(
        update_id=f"interaction {_snowflake(interaction.id)}",
        conversation=place.conversation(interaction.user.id),
        user=UserKey(PLATFORM, interaction.user.id),
        text=_bounded(text),
        chat_kind=place.kind,
        user_name=interaction.user.display_name[:_LONGEST_NAME],
        language=_language(interaction),
        origin={"token": _token(interaction.token), "ephemeral": "1" if ephemeral else ""},
        addressed=Addressed.DIRECTLY,
        visibility=Visibility.ASKER if ephemeral else Visibility.EVERYONE,
    )


def from_press(interaction: discord.Interaction[Any]) -> Press | None:
    """None: another program's button. Raises ValueError."""
    pressed = _BUTTON.fullmatch(str((interaction.data or {}).get("custom_id", ""))[:200])
    if pressed is None or interaction.message is None:
        return None
    place = _place_of_interaction(interaction)
    asker = int(pressed["asker"])
    message = Message(
        update_id=f"interaction {_snowflake(interaction.id)}",
        conversation=place.conversation(asker),
        user=UserKey(PLATFORM, interaction.user.id),
        text=f"/{pressed['command']}",
        chat_kind=place.kind,
        user_name=interaction.user.display_name[:_LONGEST_NAME],
        language=_language(interaction),
        replies_to=str(_snowflake(interaction.message.id)),
        in_place=True,
    )
    return Press(asker, message)


def carried_over(message: Message) -> Message:
    """What an earlier release stored of a slash command whose answer only its asker sees: it called the place
    private."""
    if message.chat_kind is ChatKind.PRIVATE and message.conversation.user:
        return replace(message, chat_kind=ChatKind.GROUP, visibility=Visibility.ASKER)
    return message


def _place_of_message(received: discord.Message) -> _Place:
    """By what the event says: a server is known by its id there, whether the library has it in its cache or not,
    and only an event without one comes from a direct channel."""
    channel: object = received.channel
    if isinstance(channel, discord.Thread):
        return _Place(channel.parent_id, channel.id, private=False)
    private = isinstance(channel, discord.DMChannel) and received.guild is None
    return _Place(received.channel.id, 0, private=private)


def _place_of_interaction(interaction: discord.Interaction[Any]) -> _Place:
    """A direct channel of two people, where an app that one of them has installed may be used, is of the same type
    as one with the bot; the context tells them apart.
    https://discord.com/developers/docs/interactions/receiving-and-responding#interaction-object-interaction-context-types
    """
    channel, channel_id = interaction.channel, interaction.channel_id
    if channel is None or channel_id is None:
        raise ValueError("an interaction without a channel")
    if isinstance(channel, discord.Thread):
        return _Place(channel.parent_id, channel.id, private=False)
    context = interaction.context
    alone = context.dm_channel or not (
        context.private_channel or context.guild or interaction.is_user_integration()
    )
    private = interaction.guild_id is None and isinstance(channel, discord.DMChannel) and alone
    return _Place(channel_id, 0, private=private)


def _bounded(text: object) -> str:
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
        raise ValueError(f"what was said must be text of at most {_LONGEST_TEXT} characters")
    return text


def _snowflake(number: object) -> int:
    """https://discord.com/developers/docs/reference#snowflakes"""
    if type(number) is not int or not 0 <= number <= _LARGEST_SNOWFLAKE:
        raise ValueError("an id that is no snowflake")
    return number


def _token(token: object) -> str:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise ValueError("an interaction's token that can't be one")
    return token


def _language(interaction: discord.Interaction[Any]) -> str:
    return str(interaction.locale)[:_LONGEST_NAME]


def _kind(attachment: discord.Attachment) -> str:
    return (attachment.content_type or "file").partition("/")[0][:_LONGEST_NAME]
