"""Telegram by long polling, through python-telegram-bot's client.

The polling loop is our own: an update is confirmed (by the next offset) only once it is stored, which the
library's updater, made for handlers in memory, does not promise.
https://core.telegram.org/bots/api#getupdates
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import ClassVar

from pydantic import BaseModel, Field
from telegram import Bot, BotCommand, Update
from telegram.error import InvalidToken, RetryAfter, TelegramError
from telegram.request import HTTPXRequest

from glmbot.delivery.deliveries import Deliveries, sent_before
from glmbot.delivery.pace import Pace
from glmbot.errors import AdapterError, StoreError
from glmbot.messages import ChatKind, Dialogue, Message
from glmbot.tokens import TokenSettings
from glmbot_telegram.delivery import TelegramOutlet
from glmbot_telegram.normalize import PLATFORM, normalize

__all__ = ["TelegramAdapter", "TelegramSettings"]

_log = logging.getLogger(__name__)

_REQUESTS_PER_SECOND = 30
_DRAIN_S = 8.0
_PAUSE_S = 3.0
_UPDATES = [Update.MESSAGE]


class TelegramSettings(TokenSettings):
    """The Telegram bot. Get a token from @BotFather."""

    api_base_url: str = Field(
        default="https://api.telegram.org",
        description="Or your own Bot API server, such as http://127.0.0.1:8081.",
    )
    edit_interval_s: float = Field(default=1.0, gt=0, description="Seconds between edits in a private chat.")
    group_edit_interval_s: float = Field(default=3.0, gt=0, description="Seconds between edits in a group.")
    poll_timeout_s: int = Field(default=30, ge=0, le=50, description="Seconds that a poll waits for news.")


class TelegramAdapter:
    Settings: ClassVar[type[BaseModel]] = TelegramSettings

    def __init__(self, settings: TelegramSettings, dialogue: Dialogue) -> None:
        self._settings = settings
        self._dialogue = dialogue
        self._deliveries = Deliveries(dialogue)
        self._overall = Pace(1 / _REQUESTS_PER_SECOND)
        self._paces: dict[tuple[int, bool], Pace] = {}
        self._poll: asyncio.Task[None] | None = None
        self._bot: Bot

    async def start(self) -> None:
        self._bot = Bot(
            self._settings.read_token(PLATFORM),
            base_url=f"{self._settings.api_base_url.rstrip('/')}/bot",
            base_file_url=f"{self._settings.api_base_url.rstrip('/')}/file/bot",
            request=HTTPXRequest(connection_pool_size=32, pool_timeout=30),
        )
        try:
            await self._bot.initialize()
            await self._bot.delete_webhook(drop_pending_updates=False)
            await self._publish_commands()
        except InvalidToken as error:
            raise AdapterError("[telegram] token: Telegram does not know it; ask @BotFather") from error
        except TelegramError as error:
            raise AdapterError(f"Telegram at {self._settings.api_base_url}: {error}") from error
        _log.info("Telegram: @%s is listening", self._bot.username)

    async def run(self) -> None:
        for left in await self._dialogue.unfinished(PLATFORM):
            self._begin(left.message, sent_before(left.marks))
        self._poll = asyncio.create_task(self._poll_updates())
        await self._poll

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
        await self._deliveries.drain(_DRAIN_S)
        with suppress(TelegramError):
            await self._bot.shutdown()

    async def _poll_updates(self) -> None:
        offset: int | None = None
        while True:
            try:
                updates = await self._bot.get_updates(
                    offset=offset,
                    timeout=self._settings.poll_timeout_s,
                    allowed_updates=_UPDATES,
                )
                for update in updates:
                    await self._take(update)
                    offset = update.update_id + 1
            except InvalidToken as error:
                raise AdapterError("[telegram] token was revoked") from error
            except RetryAfter:
                await asyncio.sleep(_PAUSE_S)
            except (TelegramError, StoreError) as error:
                # Not confirmed, so Telegram sends it again.
                _log.warning("Telegram: %s; polling again in %.0f s", error, _PAUSE_S)
                await asyncio.sleep(_PAUSE_S)

    async def _take(self, update: Update) -> None:
        message = normalize(update, self._bot.bot)
        if message is None or not await self._dialogue.accept(message):
            return
        self._begin(message, [])

    def _begin(self, message: Message, sent: list[str]) -> None:
        group = message.chat_kind is ChatKind.GROUP
        chat = (message.conversation.chat, group)
        if chat not in self._paces:
            settings = self._settings
            self._paces[chat] = Pace(settings.group_edit_interval_s if group else settings.edit_interval_s)
        outlet = TelegramOutlet(self._bot, message, self._overall)
        self._deliveries.begin(message, outlet, self._paces[chat], sent)

    async def _publish_commands(self) -> None:
        for language in ("", "zh"):
            menu = [
                BotCommand(info.name, info.description) for info in self._dialogue.commands(language or "en")
            ]
            await self._bot.set_my_commands(menu, language_code=language or None)
