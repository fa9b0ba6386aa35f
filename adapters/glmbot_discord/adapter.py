"""Discord through discord.py: mentions in channels, direct messages, slash commands.

The privileged message-content intent is not asked for: Discord delivers the content of direct messages and
of messages that mention the bot without it. https://discord.com/developers/docs/events/gateway#message-content-intent
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import aiohttp
import discord
import yarl
from discord import app_commands
from discord.gateway import DiscordWebSocket
from discord.http import Route
from pydantic import BaseModel, Field

from glmbot.delivery.deliveries import Deliveries, sent_before
from glmbot.delivery.pace import Pace
from glmbot.errors import AdapterError, StoreError
from glmbot.messages import CommandInfo, Dialogue, Message, Role
from glmbot.tokens import TokenSettings
from glmbot_discord.delivery import ChannelOutlet, InteractionOutlet
from glmbot_discord.normalize import PLATFORM, from_interaction, from_message

__all__ = ["DiscordAdapter", "DiscordSettings"]

_log = logging.getLogger(__name__)

_DRAIN_S = 8.0
_LONGEST_QUIET_WAIT_S = 30.0
# Answers that everybody in the channel may read; all other commands answer in private.
_PUBLIC_COMMANDS = frozenset({"ask", "retry"})


class DiscordSettings(TokenSettings):
    """The Discord bot. Make it at https://discord.com/developers/applications."""

    api_base_url: str = Field(
        default="", description="Another REST base than Discord's own, for a proxy or a test."
    )
    gateway_url: str = Field(default="", description="Another gateway than Discord's own, likewise.")
    edit_interval_s: float = Field(
        default=1.2, gt=0, description="Seconds between edits of a growing answer."
    )
    slash_commands: bool = Field(
        default=True, description="Publish /ask and the other commands at the start."
    )


class DiscordAdapter:
    Settings: ClassVar[type[BaseModel]] = DiscordSettings

    def __init__(self, settings: DiscordSettings, dialogue: Dialogue) -> None:
        self._settings = settings
        self._dialogue = dialogue
        self._deliveries = Deliveries(dialogue)
        self._paces: dict[int, Pace] = {}
        self._resumed = False
        self._client: _Client

    async def start(self) -> None:
        if self._settings.api_base_url:
            # discord.py knows one REST base and one gateway a process, as class attributes.
            Route.BASE = self._settings.api_base_url.rstrip("/")
        if self._settings.gateway_url:
            DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(self._settings.gateway_url)
        self._client = _Client(self, publish=self._settings.slash_commands)
        try:
            await self._client.login(self._settings.read_token(PLATFORM))
        except discord.LoginFailure as error:
            await self._client.close()
            raise AdapterError("[discord] token: Discord does not know it") from error
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            await self._client.close()
            raise AdapterError(f"Discord: {error}") from error

    async def run(self) -> None:
        try:
            await self._client.connect(reconnect=True)
        except discord.ConnectionClosed as error:
            raise AdapterError(f"Discord closed the connection: {error}") from error
        raise AdapterError("Discord: the connection ended")

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        self._client.closing = True
        await self._deliveries.drain(_DRAIN_S)
        await self._client.close()

    async def resume(self) -> None:
        """Once connected: answer what an earlier process left open."""
        if self._resumed:
            return
        self._resumed = True
        for left in await self._dialogue.unfinished(PLATFORM):
            self._begin(left.message, sent_before(left.marks))

    async def take_message(self, received: discord.Message, bot_id: int) -> None:
        message = from_message(received, bot_id)
        if message is None:
            return
        try:
            if await self._dialogue.accept(message):
                self._begin(message, [])
        except StoreError as error:
            _log.error("Discord: a message could not be stored: %s", error)
            notice = self._dialogue.text(message.language, "answer.store_failed")
            await received.reply(
                notice, mention_author=False, allowed_mentions=discord.AllowedMentions.none()
            )

    async def take_command(self, interaction: discord.Interaction, name: str, text: str) -> None:
        ephemeral = name not in _PUBLIC_COMMANDS
        await interaction.response.defer(ephemeral=ephemeral, thinking=True)
        message = from_interaction(interaction, text)
        try:
            accepted = await self._dialogue.accept(message)
        except StoreError as error:
            _log.error("Discord: a command could not be stored: %s", error)
            notice = self._dialogue.text(message.language, "answer.store_failed")
            await interaction.edit_original_response(content=notice)
            return
        if accepted:
            outlet = InteractionOutlet(interaction, ephemeral=ephemeral)
            self._deliveries.begin(message, outlet, self._pace(message))

    def menu(self) -> list[tuple[CommandInfo, str]]:
        """Every command with its description in Chinese beside the English one."""
        english = self._dialogue.commands("en", Role.ADMIN)
        chinese = {info.name: info.description for info in self._dialogue.commands("zh", Role.ADMIN)}
        return [(info, chinese[info.name]) for info in english]

    def _begin(self, message: Message, sent: list[str]) -> None:
        self._deliveries.begin(message, ChannelOutlet(self._client, message), self._pace(message), sent)

    def _pace(self, message: Message) -> Pace:
        channel = message.conversation.chat
        return self._paces.setdefault(channel, Pace(self._settings.edit_interval_s))


class _Client(discord.Client):
    def __init__(self, adapter: DiscordAdapter, *, publish: bool) -> None:
        intents = discord.Intents(guilds=True, guild_messages=True, dm_messages=True)
        super().__init__(
            intents=intents,
            allowed_mentions=discord.AllowedMentions.none(),
            max_ratelimit_timeout=_LONGEST_QUIET_WAIT_S,
        )
        self.closing = False
        self._adapter = adapter
        self._publish = publish
        self._tree = app_commands.CommandTree(self)

    async def setup_hook(self) -> None:
        if not self._publish:
            return
        await self._tree.set_translator(_Translator({i.description: zh for i, zh in self._adapter.menu()}))
        for info, _ in self._adapter.menu():
            self._tree.add_command(_slash_command(self._adapter, info))
        self._tree.add_command(_ask_command(self._adapter))
        await self._tree.sync()

    async def on_ready(self) -> None:
        _log.info("Discord: %s is listening", self.user)
        await self._adapter.resume()

    async def on_message(self, message: discord.Message) -> None:
        if self.user is not None and not self.closing:
            await self._adapter.take_message(message, self.user.id)

    async def on_error(self, event_method: str, /, *args: Any, **kwargs: Any) -> None:
        _log.exception("Discord: handling %s failed", event_method)


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


def _slash_command(adapter: DiscordAdapter, info: CommandInfo) -> app_commands.Command[Any, ..., None]:
    if not info.argument and info.name != "reset":

        async def plain(interaction: discord.Interaction) -> None:
            await adapter.take_command(interaction, info.name, f"/{info.name}")

        return app_commands.Command(name=info.name, description=info.description, callback=plain)

    async def with_argument(interaction: discord.Interaction, value: str = "") -> None:
        await adapter.take_command(interaction, info.name, f"/{info.name} {value}".strip())

    return app_commands.Command(name=info.name, description=info.description, callback=with_argument)


def _ask_command(adapter: DiscordAdapter) -> app_commands.Command[Any, ..., None]:
    async def ask(interaction: discord.Interaction, question: str) -> None:
        await adapter.take_command(interaction, "ask", question)

    return app_commands.Command(name="ask", description="Ask the model · 向模型提问", callback=ask)
