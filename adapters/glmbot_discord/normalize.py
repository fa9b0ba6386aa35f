"""A Discord message, slash command or pressed button as a Message, or None where nobody speaks to us. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import discord

from glmbot.messages import Addressed, ChatKind, ConversationKey, Message, UserKey

__all__ = ["PLATFORM", "Press", "button_id", "from_interaction", "from_message", "from_press", "is_thread_of"]

PLATFORM = "discord"

_BUTTON = re.compile(r"glmbot:(?P<command>[a-z]{1,20}):(?P<asker>\d{1,20})")


@dataclass(frozen=True, slots=True)
class Press:
    """Somebody pressed a button under an answer. `asker` is whose answer it is."""

    asker: int
    message: Message


def button_id(command: str, asker: int) -> str:
    """At most 100 characters (https://discord.com/developers/docs/components/reference#button)."""
    return f"glmbot:{command}:{asker}"


def from_message(
    received: discord.Message, bot_id: int, *, edits: bool = False, threads: bool = False
) -> Message | None:
    """Direct messages always count. Elsewhere Discord hides what does not mention the bot, unless the bot has the
    message-content intent; what is left is handed on with how it turns to the bot.

    `threads`: a question in a channel is answered in a thread of its own, which has the question's id.
    """
    if received.author.bot or received.type not in (discord.MessageType.default, discord.MessageType.reply):
        return None
    private = received.guild is None
    mentioned = any(user.id == bot_id for user in received.mentions)
    media = next((_kind(attachment) for attachment in received.attachments), "")
    if not received.content and not (media and (private or mentioned)):
        return None
    thread = received.channel if isinstance(received.channel, discord.Thread) else None
    in_own_thread = thread is not None and thread.owner_id == bot_id
    addressed = Addressed.NOT
    if private:
        addressed = Addressed.DIRECTLY
    elif mentioned:
        addressed = Addressed.BY_MENTION
    elif in_own_thread:
        addressed = Addressed.BY_REPLY
    opens = threads and thread is None and not private
    answered = received.reference if received.type is discord.MessageType.reply else None
    quoted = answered.resolved if answered is not None else None
    return Message(
        # An edit is an update of its own, and the time makes each edit another.
        update_id=f"message {received.id}" + (f" {received.edited_at}" if edits else ""),
        conversation=_conversation(
            (thread.parent_id if thread is not None else received.channel.id),
            received.author.id,
            thread.id if thread is not None else (received.id if opens else 0),
            private=private,
        ),
        user=UserKey(PLATFORM, received.author.id),
        text=re.sub(rf"<@!?{bot_id}>", "", received.content).strip(),
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=received.author.display_name,
        ref=str(received.id),
        edits=edits,
        replies_to=str(answered.message_id) if answered is not None else "",
        quoted=quoted.content if isinstance(quoted, discord.Message) else "",
        addressed=addressed,
        media=media,
    )


def is_thread_of(message: Message) -> bool:
    """Whether this question opens the thread that it is answered in."""
    return bool(message.conversation.thread) and message.ref == str(message.conversation.thread)


def from_interaction(interaction: discord.Interaction[Any], text: str, *, ephemeral: bool) -> Message:
    """A slash command. Its token answers for 15 minutes, also after a restart."""
    private = interaction.guild_id is None
    chat, thread = _place(interaction)
    return Message(
        update_id=f"interaction {interaction.id}",
        conversation=_conversation(chat, interaction.user.id, thread, private=private),
        user=UserKey(PLATFORM, interaction.user.id),
        text=text,
        # A slash command always wants an answer, also from somebody who is not on the list; and what is
        # ephemeral is seen by nobody else.
        chat_kind=ChatKind.PRIVATE if private or ephemeral else ChatKind.GROUP,
        user_name=interaction.user.display_name,
        language=str(interaction.locale),
        origin={"token": interaction.token, "ephemeral": "1" if ephemeral else ""},
        addressed=Addressed.DIRECTLY,
    )


def from_press(interaction: discord.Interaction[Any]) -> Press | None:
    """None: another program's button."""
    pressed = _BUTTON.fullmatch(str((interaction.data or {}).get("custom_id", "")))
    if pressed is None or interaction.message is None:
        return None
    private = interaction.guild_id is None
    chat, thread = _place(interaction)
    asker = int(pressed["asker"])
    message = Message(
        update_id=f"interaction {interaction.id}",
        conversation=_conversation(chat, asker, thread, private=private),
        user=UserKey(PLATFORM, interaction.user.id),
        text=f"/{pressed['command']}",
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=interaction.user.display_name,
        language=str(interaction.locale),
        replies_to=str(interaction.message.id),
        in_place=True,
    )
    return Press(asker, message)


def _place(interaction: discord.Interaction[Any]) -> tuple[int, int]:
    """Channel, and thread or 0."""
    channel = interaction.channel
    if isinstance(channel, discord.Thread):
        return channel.parent_id, channel.id
    return interaction.channel_id or 0, 0


def _conversation(channel: int, user: int, thread: int, *, private: bool) -> ConversationKey:
    return ConversationKey(PLATFORM, channel, 0 if private else user, thread)


def _kind(attachment: discord.Attachment) -> str:
    return (attachment.content_type or "file").partition("/")[0]
