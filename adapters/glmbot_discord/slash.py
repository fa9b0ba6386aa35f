"""The slash commands: one for each command of the bot's, and /ask, described in the user's language."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from traceback import walk_tb
from types import FrameType
from typing import Any

import discord
from discord import app_commands

from glmbot.messages import CommandInfo

__all__ = ["CommandTree", "add_commands"]

_log = logging.getLogger(__name__)

_MOST_CHOICES = 25
_LONGEST_DESCRIPTION = 100
Take = Callable[[discord.Interaction[Any], str, str], Awaitable[None]]


def _in_a_word(record: logging.LogRecord) -> bool:
    """Who types fast asks for choices that come too late, and Discord refuses them; or the request was malformed.
    That is no fault of ours, and no traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and not any(_is_ours(frame) for frame, _ in walk_tb(error.__traceback__)):
        words = str(error) if isinstance(error, discord.HTTPException) else type(error).__name__
        record.msg, record.args, record.exc_info = "Discord: choices were refused (%s)", (words,), None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("glmbot")


logging.getLogger("discord.app_commands.tree").addFilter(_in_a_word)


async def add_commands(
    tree: app_commands.CommandTree[Any], menu: Sequence[tuple[CommandInfo, str]], take: Take
) -> None:
    """menu: each command with its description in Chinese. take gets the interaction, the name, the whole text."""
    await tree.set_translator(_Translator({info.description: chinese for info, chinese in menu}))
    for info, _ in menu:
        tree.add_command(_ask(info, take) if info.name == "ask" else _command(info, take))


class CommandTree(app_commands.CommandTree[Any]):
    async def _call(self, interaction: discord.Interaction[Any]) -> None:
        try:
            await super()._call(interaction)
        except Exception as error:  # whatever a malformed interaction trips over in the library
            _log.warning("Discord: a command that could not be read is left out (%s)", type(error).__name__)

    async def on_error(
        self, interaction: discord.Interaction[Any], error: app_commands.AppCommandError, /
    ) -> None:
        """What was sent fits none of our commands: an old menu, say. Anything else is a fault of ours."""
        ours = isinstance(error, app_commands.CommandInvokeError)
        _log.error("Discord: a command failed: %s", error, exc_info=error if ours else None)


class _Translator(app_commands.Translator):
    """Chinese descriptions for Chinese clients."""

    def __init__(self, chinese: dict[str, str]) -> None:
        self._chinese = chinese

    async def translate(
        self,
        string: app_commands.locale_str,
        locale: discord.Locale,
        context: app_commands.TranslationContextTypes,
    ) -> str | None:
        if locale not in (discord.Locale.chinese, discord.Locale.taiwan_chinese):
            return None
        return self._chinese.get(string.message)


def _command(info: CommandInfo, take: Take) -> app_commands.Command[Any, ..., None]:
    description = info.description[:_LONGEST_DESCRIPTION]
    if not info.argument and info.name != "reset":

        async def plain(interaction: discord.Interaction) -> None:
            await take(interaction, info.name, f"/{info.name}")

        return app_commands.Command(name=info.name, description=description, callback=plain)

    async def with_argument(interaction: discord.Interaction, value: str = "") -> None:
        await take(interaction, info.name, f"/{info.name} {value}".strip())

    command = app_commands.Command(name=info.name, description=description, callback=with_argument)
    if choices := [word for word in info.argument.split("|") if word.isalnum() and word == word.lower()]:

        async def complete(_: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
            fitting = [word for word in choices if word.startswith(typed.strip().lower())]
            return [app_commands.Choice(name=word, value=word) for word in fitting[:_MOST_CHOICES]]

        command.autocomplete("value")(complete)
    return command


def _ask(info: CommandInfo, take: Take) -> app_commands.Command[Any, ..., None]:
    async def ask(interaction: discord.Interaction, question: str) -> None:
        # Also one that looks like a command is a question.
        await take(interaction, "ask", f"/ask {question}")

    return app_commands.Command(name="ask", description=info.description, callback=ask)
