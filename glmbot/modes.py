"""The modes of groups: which of what is said there is answered. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping

from glmbot.messages import Addressed, ChatKind, Message
from glmbot.openings import has_prefix

__all__ = ["MODES", "SETTING", "is_answered", "mode_of"]

SETTING = "mode"
"""The name of a chat's setting."""
# What each mode answers beside this bot's own commands. The first one holds where nothing else was chosen.
MODES: Mapping[str, frozenset[Addressed]] = {
    "mention": frozenset(Addressed) - {Addressed.NOT},
    "all": frozenset(Addressed),
    "command": frozenset({Addressed.DIRECTLY, Addressed.BY_COMMAND}),
}
_FIRST = next(iter(MODES))


def mode_of(settings: Mapping[str, str]) -> str:
    """Of a chat with these settings."""
    return settings.get(SETTING, _FIRST)


def is_answered(message: Message, mode: str, commands: Container[str]) -> bool:
    """`commands`: the names of ours. Another is another bot's, unless it names us or stands behind a mention of
    us; then it is answered that we don't know it. An unknown mode is the first one."""
    if message.chat_kind is ChatKind.PRIVATE or message.addressed is Addressed.DIRECTLY:
        return True
    answered = MODES.get(mode, MODES[_FIRST])
    command = message.command
    if command is not None and command.name not in commands:
        names_us = bool(command.to) or message.addressed is Addressed.BY_MENTION
        return names_us and message.addressed in answered
    if command is None and message.addressed is Addressed.NOT and has_prefix(message.text):
        return False
    return command is not None or message.addressed in answered
