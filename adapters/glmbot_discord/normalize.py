"""A Discord message or slash command as a Message, or None where the bot is not spoken to. Pure."""

from __future__ import annotations

import re

import discord

from glmbot.messages import ChatKind, ConversationKey, Message, UserKey

__all__ = ["PLATFORM", "from_interaction", "from_message"]

PLATFORM = "discord"


def from_message(received: discord.Message, bot_id: int) -> Message | None:
    """Direct messages always; elsewhere only what mentions the bot (answers to it do, unless muted)."""
    if received.author.bot or received.type not in (discord.MessageType.default, discord.MessageType.reply):
        return None
    private = received.guild is None
    if not private and not any(user.id == bot_id for user in received.mentions):
        return None
    return Message(
        update_id=f"message {received.id}",
        conversation=_conversation(received.channel.id, received.author.id, private=private),
        user=UserKey(PLATFORM, received.author.id),
        text=re.sub(rf"<@!?{bot_id}>", "", received.content).strip(),
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=received.author.display_name,
        origin={"channel": str(received.channel.id), "reply_to": "" if private else str(received.id)},
    )


def from_interaction(interaction: discord.Interaction, text: str) -> Message:
    """A slash command. Its token lives 15 minutes, so after a restart the answer goes to the channel."""
    private = interaction.guild_id is None
    channel = interaction.channel_id or 0
    return Message(
        update_id=f"interaction {interaction.id}",
        conversation=_conversation(channel, interaction.user.id, private=private),
        user=UserKey(PLATFORM, interaction.user.id),
        text=text,
        # A slash command always wants an answer, also from somebody who is not on the list.
        chat_kind=ChatKind.PRIVATE,
        user_name=interaction.user.display_name,
        language=str(interaction.locale),
        origin={"channel": str(channel), "reply_to": ""},
    )


def _conversation(channel: int, user: int, *, private: bool) -> ConversationKey:
    return ConversationKey(PLATFORM, channel, 0 if private else user)
