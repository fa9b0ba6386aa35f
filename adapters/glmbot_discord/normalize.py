"""A Discord message, slash command or pressed button as a Message, or None where nobody speaks to us. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import discord

from glmbot.keys import ConversationKey, UserKey, numeric_id
from glmbot.messages import (
    HIDDEN,
    Act,
    Addressed,
    Ask,
    ChatKind,
    Edit,
    Message,
    Press,
    PressedButton,
    Visibility,
)
from glmbot.openings import has_prefix, slash_command, without

__all__ = [
    "CHANNEL",
    "PLATFORM",
    "Self",
    "button_id",
    "carried_over",
    "from_interaction",
    "from_message",
    "from_press",
    "is_thread_of",
]

PLATFORM = "discord"
# A note of where the answer stands whose button was pressed.
CHANNEL = "channel"

# Discord's own largest are 6000 characters (a slash command's value) and 32 (a display name); a real token has
# about 230.
_LONGEST_TEXT = 8000
_LONGEST_QUOTED = 8000
_LONGEST_NAME = 64

# Buttons of earlier releases say nothing of the thread.
_BUTTON = re.compile(r"glmbot:(?P<command>[a-z]{1,20}):(?P<asker>[0-9]{1,19})(?::(?P<thread>[0-9]{1,19}))?")
# A mention in these is somebody else's, or none: https://discord.com/developers/docs/reference#message-formatting
_CODE = re.compile(r"```.*?```|``.+?``|`[^`]+`", re.DOTALL)
_QUOTE = re.compile(r"^>>> .*\Z|^> [^\n]*", re.DOTALL | re.MULTILINE)
_TOKEN = re.compile(r"[!-~]{1,1000}")
_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Place:
    """`private`: a direct channel of one person and this bot, and nothing else: everywhere else several people may
    write, and each has a history of their own."""

    chat: str
    thread: str
    private: bool

    @property
    def kind(self) -> ChatKind:
        return ChatKind.PRIVATE if self.private else ChatKind.GROUP

    def conversation(self, user: str) -> ConversationKey:
        return ConversationKey(PLATFORM, self.chat, "" if self.private else user, self.thread)


@dataclass(frozen=True, slots=True)
class Self:
    """The bot as it is where something is said. `roles`: those that it has there, its integration's own included.
    `reads_all`: it has the message-content intent."""

    id: int
    name: str
    roles: Collection[int] = ()
    reads_all: bool = False


def button_id(command: str, asker: str, thread: str) -> str:
    """At most 100 characters (https://discord.com/developers/docs/components/reference#button). The thread is that
    of the conversation: an answer may stand outside of it, where it could not be opened."""
    return f"glmbot:{command}:{asker}:{thread or 0}"


def from_message(
    received: discord.Message, me: Self, *, edits: bool = False, threads: bool = False
) -> Message | None:
    """Direct messages always count. Elsewhere Discord hides what does not mention the bot, unless the bot has the
    message-content intent; what is left is handed on with how it turns to the bot.

    `threads`: a question in a channel is answered in a thread of its own, which has the question's id. Raises
    ValueError for what Discord never sends.
    """
    if (
        received.author.bot
        or received.webhook_id is not None
        or received.type not in (discord.MessageType.default, discord.MessageType.reply)
    ):
        return None
    place = _place_of_message(received)
    said, forwarded = _bounded(received.content), _forwarded(received)
    answered = received.reference if received.type is discord.MessageType.reply else None
    about = answered.resolved if answered is not None else None
    about = about if isinstance(about, discord.Message) else None
    mentions = _mentions(received, said, me)
    addressed = Addressed.DIRECTLY if place.private else _addressed(received, said, about, mentions, me)
    if addressed is None:
        return None
    media = _media(received)
    if not place.private and not said and forwarded is None:
        wordless = _wordless(received, about, addressed, me, edits=edits)
        if wordless is None:
            return None
        addressed, media = wordless
    text = without(said, mentions)
    quoted, quoted_media = _quoted(received, about, text, me, private=place.private)
    if forwarded is not None:
        # The words of somebody else: a question, and never a command.
        quoted, quoted_media = forwarded
    media = media or quoted_media
    if not (said or quoted or media):
        return None
    # Where nothing was asked there is nothing to go on with in a thread.
    if threads and not place.thread and not place.private and (text or quoted):
        place = replace(place, thread=numeric_id(received.id))
    return Message(
        # An edit is an update of its own, and the time makes each edit another.
        update_id=f"message {received.id}" + (f" {received.edited_at}" if edits else ""),
        conversation=place.conversation(numeric_id(received.author.id)),
        user=UserKey(PLATFORM, numeric_id(received.author.id)),
        text=text,
        chat_kind=place.kind,
        user_name=received.author.display_name[:_LONGEST_NAME],
        ref=numeric_id(received.id),
        intent=Edit() if edits else Ask(),
        replies_to=numeric_id(answered.message_id) if answered and answered.message_id else "",
        quoted=quoted,
        addressed=addressed,
        media=media,
        act=Act(at=int(received.created_at.timestamp())),
    )


def is_thread_of(message: Message) -> bool:
    """Whether this question opens the thread that it is answered in."""
    return bool(message.conversation.thread) and message.ref == message.conversation.thread


def from_interaction(interaction: discord.Interaction[Any], text: str, *, ephemeral: bool) -> Message:
    """A slash command. Its token answers for 15 minutes, also after a restart. Raises ValueError.

    Scope and rights are those of the place. `ephemeral` says only that the answer is shown to its asker alone,
    which is enough for /export: Discord never shows it to others, and when the token has expired nothing is shown.
    """
    place = _place_of_interaction(interaction)
    return Message(
        update_id=f"interaction {numeric_id(interaction.id)}",
        conversation=place.conversation(numeric_id(interaction.user.id)),
        user=UserKey(PLATFORM, numeric_id(interaction.user.id)),
        text=_bounded(text),
        chat_kind=place.kind,
        user_name=interaction.user.display_name[:_LONGEST_NAME],
        language=_language(interaction),
        origin={"token": _token(interaction.token), "ephemeral": "1" if ephemeral else ""},
        addressed=Addressed.DIRECTLY,
        visibility=Visibility.ASKER if ephemeral else Visibility.EVERYONE,
    )


def from_press(interaction: discord.Interaction[Any]) -> PressedButton | None:
    """None: another program's button. Raises ValueError."""
    pressed = _BUTTON.fullmatch(str((interaction.data or {}).get("custom_id", ""))[:200])
    if pressed is None or interaction.message is None:
        return None
    place = _place_of_interaction(interaction)
    channel = place.thread or place.chat
    if pressed["thread"] is not None:
        place = replace(place, thread=_optional_id(int(pressed["thread"])))
    asker = numeric_id(int(pressed["asker"]))
    message = Message(
        update_id=f"interaction {numeric_id(interaction.id)}",
        conversation=place.conversation(asker),
        user=UserKey(PLATFORM, numeric_id(interaction.user.id)),
        text=f"/{pressed['command']}",
        chat_kind=place.kind,
        user_name=interaction.user.display_name[:_LONGEST_NAME],
        language=_language(interaction),
        intent=Press(numeric_id(interaction.message.id)),
        origin={CHANNEL: channel},
    )
    return PressedButton(asker, message)


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
        return _Place(numeric_id(channel.parent_id), numeric_id(channel.id), private=False)
    private = isinstance(channel, discord.DMChannel) and received.guild is None
    return _Place(numeric_id(received.channel.id), "", private=private)


def _place_of_interaction(interaction: discord.Interaction[Any]) -> _Place:
    """A direct channel of two people, where an app that one of them has installed may be used, is of the same type
    as one with the bot; the context tells them apart.
    https://discord.com/developers/docs/interactions/receiving-and-responding#interaction-object-interaction-context-types
    """
    channel, channel_id = interaction.channel, interaction.channel_id
    if channel is None or channel_id is None:
        raise ValueError("an interaction without a channel")
    if isinstance(channel, discord.Thread):
        return _Place(numeric_id(channel.parent_id), numeric_id(channel.id), private=False)
    context = interaction.context
    alone = context.dm_channel or not (
        context.private_channel or context.guild or interaction.is_user_integration()
    )
    private = interaction.guild_id is None and isinstance(channel, discord.DMChannel) and alone
    return _Place(numeric_id(channel_id), "", private=private)


def _addressed(
    received: discord.Message, said: str, about: discord.Message | None, mentions: Sequence[_Span], me: Self
) -> Addressed | None:
    """None: said to another bot, by a command or by its name in front. A command's argument may mention us
    ("/ban @us"), and so may what follows another bot's prefix: that is not said to us."""
    if (command := slash_command(said)) is not None:
        return Addressed.BY_COMMAND if command.may_be_for(me.name) else None
    if has_prefix(said) or _forwarded(received) is not None:
        return Addressed.NOT
    if mentions:
        return Addressed.BY_MENTION
    others = [user.id for user in received.mentions if user.bot and user.id != me.id]
    if any(said.startswith((f"<@{bot}>", f"<@!{bot}>")) for bot in others):
        return None
    in_own_thread = isinstance(received.channel, discord.Thread) and received.channel.owner_id == me.id
    return Addressed.BY_REPLY if in_own_thread or _replies_to(received, said, about, me) else Addressed.NOT


def _wordless(
    received: discord.Message, about: discord.Message | None, addressed: Addressed, me: Self, *, edits: bool
) -> tuple[Addressed, str] | None:
    """Of a message without words in a server: how it turns to the bot, and what can't be read of it. None where it
    wants nothing of the bot."""
    if not _pings(received, me) and any(role.id in me.roles for role in received.role_mentions):
        addressed = Addressed.BY_MENTION
    if addressed is Addressed.NOT:
        return None
    if _is_hidden(received, me):
        # What is said by the way in a thread of ours; and that an edit is hidden has been told once.
        by_the_way = addressed is Addressed.BY_REPLY and not _is_by(about, me)
        return None if edits or by_the_way else (addressed, HIDDEN)
    media = _media(received)
    return None if media in ("", "sticker") else (addressed, media)


def _replies_to(received: discord.Message, said: str, about: discord.Message | None, me: Self) -> bool:
    """Also without a ping, and also where Discord does not say what is answered but pings for it."""
    if received.type is not discord.MessageType.reply:
        return False
    if about is not None:
        return _is_by(about, me)
    return _pings(received, me) and not _markup(me, roles=False).search(said)


def _mentions(received: discord.Message, said: str, me: Self) -> list[_Span]:
    """Where in the text the bot, or a role of its own, is mentioned by whoever says it, as indices.

    Everybody (@everyone, @here) is nobody in particular.
    """
    heard = said
    for kind in (_CODE, _QUOTE):
        heard = kind.sub(lambda quiet: " " * len(quiet[0]), heard)
    pinged = _pings(received, me)
    return [match.span() for match in _markup(me).finditer(heard) if pinged or match["role"]]


def _markup(me: Self, *, roles: bool = True) -> re.Pattern[str]:
    owned = "|".join(str(role) for role in me.roles) if roles else ""
    return re.compile(rf"<@!?{me.id}>|<@&(?P<role>{owned or '(?!)'})>")


def _pings(received: discord.Message, me: Self) -> bool:
    return any(user.id == me.id for user in received.mentions)


def _is_by(said: discord.Message | None, me: Self) -> bool:
    return said is not None and said.author.id == me.id


def _is_hidden(received: discord.Message, me: Self) -> bool:
    """Whether Discord keeps back what is said: neither text nor files come without the intent.
    https://discord.com/developers/docs/events/gateway#message-content-intent
    """
    bare = not (received.content or received.attachments or received.stickers)
    return bare and not me.reads_all and not _pings(received, me)


def _forwarded(received: discord.Message) -> tuple[str, str] | None:
    """The text that was forwarded, and the name of what can't be read there. Discord does not say whose it is."""
    if not received.message_snapshots:
        return None
    snapshot = received.message_snapshots[0]
    return _bounded(snapshot.content), next((_kind(attachment) for attachment in snapshot.attachments), "")


def _quoted(
    received: discord.Message, about: discord.Message | None, text: str, me: Self, *, private: bool
) -> tuple[str, str]:
    """The words that this message is about, and the name of what can't be read there."""
    if about is None:
        return "", ""
    if _is_by(about, me):
        # Its words are in the history; a mention that adds none asks nothing about them.
        return (about.content[:_LONGEST_QUOTED] if text else ""), ""
    if not private and not (about.content or about.attachments or about.stickers or me.reads_all):
        return "", HIDDEN
    return about.content[:_LONGEST_QUOTED], _media(about)


def _media(said: discord.Message) -> str:
    """What can't be read of it."""
    if said.attachments:
        return _kind(said.attachments[0])
    if said.stickers:
        return "sticker"
    return "poll" if said.poll is not None else ""


def _bounded(text: object) -> str:
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
        raise ValueError(f"what was said must be text of at most {_LONGEST_TEXT} characters")
    return text


def _optional_id(number: object) -> str:
    return numeric_id(number) if number else ""


def _token(token: object) -> str:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise ValueError("an interaction's token that can't be one")
    return token


def _language(interaction: discord.Interaction[Any]) -> str:
    return str(interaction.locale)[:_LONGEST_NAME]


def _kind(attachment: discord.Attachment) -> str:
    return (attachment.content_type or "file").partition("/")[0][:_LONGEST_NAME]
