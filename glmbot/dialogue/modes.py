"""What is answered in a group: how a message turns to the bot, and what the group's mode says of that. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from glmbot.dialogue import commands
from glmbot.messages import Addressed, ChatKind, Message
from glmbot.openings import has_prefix

__all__ = ["is_answered"]

_MENTION = frozenset(Addressed) - {Addressed.NOT}
# What each mode answers beside this bot's own commands.
_MODES: Mapping[str, frozenset[Addressed]] = {
    "all": frozenset(Addressed),
    "mention": _MENTION,
    "command": frozenset({Addressed.DIRECTLY, Addressed.BY_COMMAND}),
}


def is_answered(message: Message, mode: str) -> bool:
    """A command that is none of ours is another bot's, unless it names us or stands behind a mention of us; then
    it is answered that we don't know it. An unknown mode is "mention"."""
    if message.chat_kind is ChatKind.PRIVATE or message.addressed is Addressed.DIRECTLY:
        return True
    answered = _MODES.get(mode, _MENTION)
    command = commands.parse(message.text)
    if command is not None and not command.known:
        names_us = bool(command.to) or message.addressed is Addressed.BY_MENTION
        return names_us and message.addressed in answered
    if command is None and message.addressed is Addressed.NOT and has_prefix(message.text):
        return False
    return command is not None or message.addressed in answered
