"""Discord through discord.py: mentions in channels, threads, direct messages, slash commands, buttons.

The privileged message-content intent is not asked for by default: Discord delivers the content of direct messages
and of messages that mention the bot without it.
https://discord.com/developers/docs/events/gateway#message-content-intent
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Protocol

import aiohttp
import discord
from pydantic import BaseModel

from glmbot.background import together
from glmbot.delivery.abilities import Profile
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.pace import Pace
from glmbot.delivery.recent import Recent
from glmbot.delivery.thoughts import without_thoughts
from glmbot.errors import AdapterError, StoreError
from glmbot.keys import ChatKey, ConversationKey, number_in
from glmbot.messages import CommandInfo, Message, Reply, Role
from glmbot.ports import Chats, Deliver, Menus
from glmbot_discord.client import Client, asking_client, client_for, examine, log_in, set_addresses
from glmbot_discord.delivery import PROFILE, ChannelOutlet, InteractionOutlet, remove_answer
from glmbot_discord.events import read
from glmbot_discord.normalize import (
    PLATFORM,
    Self,
    carried_over,
    from_interaction,
    from_message,
    from_press,
)
from glmbot_discord.settings import DiscordSettings

__all__ = ["DiscordAdapter", "DiscordSettings"]

_log = logging.getLogger(__name__)

_NO_MENTIONS = discord.AllowedMentions.none()

# https://discord.com/developers/docs/topics/opcodes-and-status-codes#json
_ACKNOWLEDGED_BEFORE = 40060
_DRAIN_S = 8.0
# Answers that everybody in the channel may read; all other commands answer in private.
_PUBLIC_COMMANDS = frozenset({"ask", "retry", "continue"})
_QUESTIONS_KEPT = 10_000
_CHANNELS_KEPT = 10_000
_CLOCKS_DIFFER_S = 600.0
# https://discord.com/developers/docs/reference#snowflakes; the store's whole numbers have 63 bits.
_SNOWFLAKES = 2**63


class _Wanted(Deliver, Chats, Menus, Protocol): ...


class DiscordAdapter:
    Settings: ClassVar[type[BaseModel]] = DiscordSettings
    profile: ClassVar[Profile] = PROFILE

    def __init__(self, settings: DiscordSettings, dialogue: _Wanted) -> None:
        self._settings = settings
        self._dialogue = dialogue = dialogue if settings.show_thoughts else without_thoughts(dialogue)
        self._deliveries = Deliveries(dialogue)
        self._paces = Recent[str, Pace](_CHANNELS_KEPT)
        self._questions = Recent[int, ConversationKey](_QUESTIONS_KEPT)
        self._ready = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._closing = False
        self._client: Client

    @staticmethod
    async def identify(settings: DiscordSettings) -> str:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        set_addresses(settings)
        client = asking_client(settings)
        await log_in(client, settings)
        try:
            return str(client.user)
        finally:
            await client.close()

    @staticmethod
    async def examine(settings: DiscordSettings) -> Sequence[tuple[bool, str]]:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        return await examine(settings)

    async def start(self) -> None:
        settings = self._settings
        set_addresses(settings)
        self._client = client_for(self, settings)
        await log_in(self._client, settings)

    async def run(self) -> None:
        """Both what hears and what answers end with whichever of them fails, so that both are started again."""
        if self._client.is_closed():
            await self.start()
        try:
            async with together() as group:
                self._serving = group.create_task(self._serve())
                group.create_task(self._listen())
        finally:
            self._ready.clear()
            if not self._closing:
                # A connection that nobody reads any more; the next run makes another.
                await self._client.close()

    async def _listen(self) -> None:
        try:
            await self._client.connect(reconnect=True)
        except discord.PrivilegedIntentsRequired as error:
            raise AdapterError(
                "[discord] message_content: switch the message-content intent on at"
                " https://discord.com/developers/applications, or set message_content = false"
            ) from error
        except discord.ConnectionClosed as error:
            raise AdapterError(f"Discord closed the connection: {error}") from error
        if self._closing:
            await asyncio.Event().wait()
        raise AdapterError("Discord: the connection ended")

    async def _serve(self) -> None:
        """Once connected: answer what is assigned to this process."""
        await self._ready.wait()
        await self._deliveries.serve(PLATFORM, self._begin, self._stopped, self._remove)

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        self._closing = self._client.closing = True
        if self._serving is not None:
            self._serving.cancel()
        await self._deliveries.drain(_DRAIN_S)
        await self._client.close()

    # ---- what the client hears --------------------------------------------------------------------------------

    def resume(self) -> None:
        """Connected."""
        self._ready.set()

    async def take_message(
        self, received: discord.Message, bot: discord.ClientUser, *, edits: bool = False
    ) -> None:
        threads = self._settings.threads

        def said() -> Message | None:
            me = Self(bot.id, bot.name, _roles(received.guild, bot), self._settings.message_content)
            return from_message(received, me, edits=edits, threads=threads)

        message = read("message", said)
        if message is not None:
            await self._accept(
                message,
                lambda notice: received.reply(notice, mention_author=False, allowed_mentions=_NO_MENTIONS),
            )

    async def take_deletion(self, message_id: int, channel_id: int) -> None:
        """Who deletes a question wants its answer gone too."""
        if not all(0 < each < _SNOWFLAKES for each in (message_id, channel_id)):
            return
        ref = str(message_id)
        # It may be a question that is assigned to this process only later, or while the store is asked.
        self._deliveries.take_back(ref)
        where = partial(self._where, channel_id, message_id)
        await self._deliveries.take_away(PLATFORM, self._dialogue, ref, where, self._remove)

    async def _remove(self, conversation: ConversationKey, message_ids: Sequence[str]) -> None:
        places = dict.fromkeys((conversation.thread or conversation.chat, conversation.chat))
        channels = [self._client.get_partial_messageable(number_in(place)) for place in places]
        await remove_answer(channels, sorted(message_ids))

    async def _where(self, channel_id: int, message_id: int) -> ConversationKey | None:
        return (
            self._questions.take(message_id)
            or await self._asked_in(channel_id, message_id)
            or self._questions.take(message_id)
        )

    async def _asked_in(self, channel_id: int, message_id: int) -> ConversationKey | None:
        """What an earlier run, or another process, has answered. Discord does not say whose message is gone."""
        channel = self._client.get_channel(channel_id)
        if channel is None:
            # A thread that rests is not among those that Discord tells of at the start.
            with suppress(discord.DiscordException, aiohttp.ClientError, OSError):
                channel = await self._client.fetch_channel(channel_id)
        chat = channel.parent_id if isinstance(channel, discord.Thread) else channel_id
        asked_at = discord.utils.snowflake_time(message_id).timestamp()
        found = await self._dialogue.asked_in(
            ChatKey(PLATFORM, str(chat)), str(message_id), asked_at - _CLOCKS_DIFFER_S
        )
        return found if found is None or str(channel_id) in (found.chat, found.thread) else None

    async def take_command(self, interaction: discord.Interaction[Any], name: str, text: str) -> None:
        ephemeral = name not in _PUBLIC_COMMANDS
        message = read("command", lambda: from_interaction(interaction, text, ephemeral=ephemeral))
        if message is None or not await _acknowledged(
            interaction.response.defer(ephemeral=ephemeral, thinking=True)
        ):
            return
        await self._accept(
            message,
            lambda notice: interaction.edit_original_response(content=notice, allowed_mentions=_NO_MENTIONS),
        )

    async def take_press(self, interaction: discord.Interaction[Any]) -> None:
        """A button passes every queue: it is acknowledged at once, and a stop needs no message of its own."""
        press = read("button", lambda: from_press(interaction))
        if press is None:
            return
        message = press.message
        if not press.counts:
            words = self._dialogue.text(message.language, "button.not_yours")
            await _acknowledged(interaction.response.send_message(words, ephemeral=True))
            return
        if await _acknowledged(interaction.response.defer()):
            await self._accept(message, lambda notice: interaction.followup.send(notice, ephemeral=True))

    async def _accept(self, message: Message, tell: Callable[[str], Awaitable[Any]]) -> None:
        """Discord does not send it again, so whoever asked is told when it could not be stored."""
        try:
            await self._dialogue.accept(message)
        except StoreError as error:
            _log.error("Discord: what was asked in %s could not be stored: %s", message.conversation, error)
            with suppress(discord.DiscordException, aiohttp.ClientError, OSError):
                await tell(self._dialogue.text(message.language, "answer.store_failed"))

    def menu(self) -> Sequence[tuple[CommandInfo, str]]:
        """Every command with its description in Chinese beside the English one."""
        english = self._dialogue.commands("en", Role.ADMIN)
        chinese = {info.name: info.description for info in self._dialogue.commands("zh", Role.ADMIN)}
        return [(info, chinese[info.name]) for info in english]

    # ---- answering -------------------------------------------------------------------------------------------

    async def _stopped(self, message: Message, reply: Reply | None) -> None:
        """Discord has no words for a button that was acknowledged already."""

    def _begin(self, message: Message, earlier: Earlier) -> None:
        message = carried_over(message)
        if message.ref:
            self._questions.put(int(message.ref), message.conversation)

        def words(key: str) -> str:
            return self._words(message, key)

        channel = message.conversation.thread or message.conversation.chat
        pace = self._paces.take(channel) or Pace(self._settings.edit_interval_s)
        self._paces.put(channel, pace)
        if "token" not in message.origin:
            self._deliveries.begin(message, ChannelOutlet(self._client, message, words), pace, earlier)
            return
        outlet = InteractionOutlet(self._client, message, words)
        self._deliveries.begin(message, outlet, pace, earlier, unanswered=outlet.end_unanswered)

    def _words(self, message: Message, key: str) -> str:
        """In both languages where Discord does not say which one its author reads."""
        languages = (message.language,) if message.language else ("en", "zh")
        return "\n".join(dict.fromkeys(self._dialogue.text(each, key) for each in languages))


def _roles(guild: discord.Guild | None, bot: discord.ClientUser) -> frozenset[int]:
    """The roles by which the bot can be mentioned there: that of its integration, and those that it was given. All
    have that of everybody."""
    if not isinstance(guild, discord.Guild):
        return frozenset()
    own = {role.id for role in guild.roles if role.tags is not None and role.tags.bot_id == bot.id}
    member = guild.get_member(bot.id)
    given = {role.id for role in member.roles} if member is not None else set[int]()
    return frozenset((own | given) - {guild.id})


async def _acknowledged(answer: Awaitable[Any]) -> bool:
    """False when there is nothing to be answered any more. When another process of this bot was quicker there is,
    for that one may have died since; the store takes only one of both."""
    try:
        await answer
    except discord.HTTPException as error:
        _log.info("Discord: an interaction could not be acknowledged: %s", error)
        return error.code == _ACKNOWLEDGED_BEFORE
    except Exception as error:  # also what the library trips over when the interaction itself was malformed
        _log.info("Discord: an interaction could not be acknowledged: %s", error)
        return False
    return True
