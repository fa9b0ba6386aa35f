"""discord.py's client: it connects, hands what it hears to the adapter, and publishes the commands."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import aiohttp
import discord
import yarl
from discord import app_commands
from discord.gateway import DiscordWebSocket, KeepAliveHandler
from discord.http import Route

from glmbot.errors import AdapterError, PlatformRefused
from glmbot.messages import CommandInfo
from glmbot_discord.events import forgiving
from glmbot_discord.normalize import PLATFORM
from glmbot_discord.settings import DiscordSettings
from glmbot_discord.slash import CommandTree, add_commands

__all__ = ["Client", "Listener", "asking_client", "client_for", "examine", "log_in", "set_addresses"]

_log = logging.getLogger(__name__)

_LONGEST_QUIET_WAIT_S = 30.0
_FEW_STARTS = 10
# The library warns that it can't speak or listen, which nobody wants of it here.
discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False


class Listener(Protocol):
    """Who takes what the client hears."""

    def resume(self) -> None:
        """Connected."""
        ...

    def menu(self) -> Sequence[tuple[CommandInfo, str]]:
        """Every command with its description in Chinese beside the English one."""
        ...

    async def take_message(
        self, received: discord.Message, bot: discord.ClientUser, *, edits: bool = False
    ) -> None: ...

    async def take_deletion(self, message_id: int, channel_id: int) -> None: ...

    async def take_command(self, interaction: discord.Interaction[Any], name: str, text: str) -> None: ...

    async def take_press(self, interaction: discord.Interaction[Any]) -> None: ...


def client_for(listener: Listener, settings: DiscordSettings) -> Client:
    return (_ShardedClient if settings.shards > 1 else Client)(listener, settings)


def set_addresses(settings: DiscordSettings) -> None:
    """discord.py knows one REST base and one gateway a process, as class attributes."""
    if settings.api_base_url:
        Route.BASE = settings.api_base_url.rstrip("/")
    if settings.gateway_url:
        DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(settings.gateway_url)


def asking_client(settings: DiscordSettings) -> discord.Client:
    """One that never connects to the gateway. Without an intent the library would warn of what it then lacks."""
    return discord.Client(intents=discord.Intents(guilds=True), proxy=settings.proxy_for(Route.BASE))


async def log_in(client: discord.Client, settings: DiscordSettings) -> None:
    try:
        await client.login(settings.read_token(PLATFORM))
    except discord.LoginFailure as error:
        await client.close()
        raise PlatformRefused("[discord] token: Discord does not know it") from error
    except (discord.DiscordException, aiohttp.ClientError, OSError) as error:
        await client.close()
        # Its own words hold the proxy's password.
        refused = isinstance(error, aiohttp.ClientHttpProxyError)
        words = f"Discord: the proxy answered {error.status}" if refused else f"Discord: {error}"[:500]
        if not isinstance(error, discord.DiscordException):
            words += "; a proxy goes into [discord] proxy, or into HTTPS_PROXY"
        raise AdapterError(words) from error


async def examine(settings: DiscordSettings) -> Sequence[tuple[bool, str]]:
    """What `glmbot doctor` says after asking Discord. Raises AdapterError."""
    set_addresses(settings)
    client = asking_client(settings)
    await log_in(client, settings)
    try:
        application = await client.application_info()
        shards, _, starts = await client.http.get_bot_gateway()
        return [
            (True, f"the token is that of {client.user}"),
            *_of_application(settings, application),
            *_of_gateway(settings, shards, starts["remaining"], starts["reset_after"]),
        ]
    except (discord.DiscordException, aiohttp.ClientError, OSError, KeyError, TypeError) as error:
        raise AdapterError(f"Discord: {str(error)[:300] or type(error).__name__}") from error
    finally:
        await client.close()


def _of_application(settings: DiscordSettings, application: discord.AppInfo) -> Sequence[tuple[bool, str]]:
    """https://docs.discord.com/developers/resources/application#application-object-application-flags"""
    flags = application.flags
    granted = flags.gateway_message_content or flags.gateway_message_content_limited
    found: list[tuple[bool, str]] = []
    if settings.message_content and not granted:
        found.append(
            (
                False,
                "message_content: the Message Content Intent is off at https://discord.com/developers/applications"
                " (Bot), so Discord closes the connection: switch it on there",
            )
        )
    if application.approximate_guild_count == 0:
        invitation = discord.utils.oauth_url(application.id, scopes=("bot", "applications.commands"))
        found.append((True, f"it is on no server yet: invite it at {invitation}"))
    return found


def _of_gateway(
    settings: DiscordSettings, shards: int, starts: int, again_ms: int
) -> Sequence[tuple[bool, str]]:
    """https://docs.discord.com/developers/events/gateway#get-gateway-bot"""
    found: list[tuple[bool, str]] = []
    if shards > settings.shards:
        found.append(
            (False, f"shards: Discord wants {shards} connections by now, and {settings.shards} are set")
        )
    if starts < _FEW_STARTS:
        found.append(
            (
                False,
                f"Discord allows {starts} more connections in the next {again_ms / 3_600_000:.0f} hours: the bot"
                " has begun too often",
            )
        )
    return found


class Client(discord.Client):
    def __init__(self, listener: Listener, settings: DiscordSettings, **options: Any) -> None:
        intents = discord.Intents(
            guilds=True, guild_messages=True, dm_messages=True, message_content=settings.message_content
        )
        super().__init__(
            intents=intents,
            allowed_mentions=discord.AllowedMentions.none(),
            max_ratelimit_timeout=_LONGEST_QUIET_WAIT_S,
            proxy=settings.proxy_for(Route.BASE),
            **options,
        )
        self.closing = False
        self._listener = listener
        self._publish = settings.slash_commands
        self._tree: app_commands.CommandTree[Any] = CommandTree(self)
        parsers: dict[str, Callable[[Any], None]] = self._connection.parsers
        for name, parse in parsers.items():
            parsers[name] = forgiving(name, parse)

    async def connect(self, *, reconnect: bool = True) -> None:
        try:
            await super().connect(reconnect=reconnect)
        finally:
            self._stop_heartbeats()

    async def close(self) -> None:
        await super().close()
        self._stop_heartbeats()
        # discord.py leaves those behind that say "ready" once no more servers come.
        state: Any = self._connection
        for task in (state._ready_task, *getattr(state, "_ready_tasks", {}).values()):
            if task is not None:
                task.cancel()

    def _stop_heartbeats(self) -> None:
        """discord.py forgets the thread of a connection that was still being made."""
        for thread in threading.enumerate():
            if isinstance(thread, KeepAliveHandler) and thread.ws._connection is self._connection:
                thread.stop()

    async def setup_hook(self) -> None:
        if not self._publish:
            return
        await add_commands(self._tree, self._listener.menu(), self._listener.take_command)
        try:
            await self._tree.sync()
        except (discord.DiscordException, aiohttp.ClientError, OSError) as error:
            # Mentions and direct messages need none, and those that were published before still work.
            _log.error("Discord: the slash commands could not be published: %s", str(error)[:500])

    async def on_ready(self) -> None:
        _log.info("Discord: %s is listening", self.user)
        self._listener.resume()

    async def on_message(self, message: discord.Message) -> None:
        if self.user is not None and not self.closing:
            await self._listener.take_message(message, self.user)

    async def on_raw_message_edit(self, payload: discord.RawMessageUpdateEvent) -> None:
        # Discord also reports link previews that it adds; those leave edited_timestamp as it was.
        if self.user is not None and not self.closing and payload.message.edited_at is not None:
            await self._listener.take_message(payload.message, self.user, edits=True)

    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        await self._listener.take_deletion(payload.message_id, payload.channel_id)

    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        for message_id in sorted(payload.message_ids):
            await self._listener.take_deletion(message_id, payload.channel_id)

    async def on_interaction(self, interaction: discord.Interaction[Any]) -> None:
        if interaction.type is discord.InteractionType.component and not self.closing:
            await self._listener.take_press(interaction)

    async def on_error(self, event_method: str, /, *args: Any, **kwargs: Any) -> None:
        _log.exception("Discord: handling %s failed", event_method)


class _ShardedClient(Client, discord.AutoShardedClient):
    """Several gateway connections, each for a part of the servers."""

    def __init__(self, listener: Listener, settings: DiscordSettings) -> None:
        super().__init__(listener, settings, shard_count=settings.shards)
