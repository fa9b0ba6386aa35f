"""The Bot API's client for a token: who the bot is, and what keeps its messages away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from telegram import Bot, WebhookInfo
from telegram.error import BadRequest, InvalidToken, NetworkError, TelegramError

from glmbot.errors import AdapterError, PlatformRefused
from glmbot_telegram.normalize import PLATFORM
from glmbot_telegram.request import BotApiRequest
from glmbot_telegram.settings import TelegramSettings

__all__ = ["bot_for", "examine", "identify", "refusal"]

# An error that Telegram had with the webhook before that is no news.
_LATELY_S = 3600.0
_MANY_UPDATES = 100


def bot_for(settings: TelegramSettings) -> Bot:
    """Raises AdapterError."""
    base = settings.api_base_url.rstrip("/")
    return Bot(
        settings.read_token(PLATFORM),
        base_url=f"{base}/bot",
        base_file_url=f"{base}/file/bot",
        request=BotApiRequest(settings.proxy_for(base)),
    )


def refusal(settings: TelegramSettings, error: TelegramError) -> AdapterError:
    if isinstance(error, InvalidToken):
        return PlatformRefused("[telegram] token: Telegram does not know it; ask @BotFather")
    words = f"Telegram at {settings.api_base_url}: {error}"
    if isinstance(error, NetworkError) and not isinstance(error, BadRequest):
        words += "; a proxy goes into [telegram] proxy, or into HTTPS_PROXY"
    return AdapterError(words)


async def identify(settings: TelegramSettings) -> str:
    """Raises AdapterError."""
    bot = bot_for(settings)
    try:
        await bot.initialize()
        return f"@{bot.username}"
    except TelegramError as error:
        raise refusal(settings, error) from error
    finally:
        with suppress(TelegramError):
            await bot.shutdown()


async def examine(settings: TelegramSettings) -> Sequence[tuple[bool, str]]:
    """What `glmbot doctor` says after asking Telegram. Raises AdapterError."""
    bot = bot_for(settings)
    try:
        await bot.initialize()
        found = [(True, f"the token is that of @{bot.username}"), *_in_groups(bot)]
        return [*found, *_of_webhook(settings, await bot.get_webhook_info(), time.time())]
    except TelegramError as error:
        raise refusal(settings, error) from error
    finally:
        with suppress(TelegramError):
            await bot.shutdown()


def _in_groups(bot: Bot) -> Sequence[tuple[bool, str]]:
    """https://core.telegram.org/bots/features#privacy-mode"""
    if bot.can_join_groups is False:
        return [(True, "it can't be added to groups: /setjoingroups of @BotFather lets it")]
    if bot.can_read_all_group_messages is False:
        return [
            (
                True,
                "in groups it is told of commands, mentions and replies alone; for /mode all switch its privacy"
                " mode off (/setprivacy of @BotFather), and add it to the group again",
            )
        ]
    return ()


def _of_webhook(settings: TelegramSettings, info: WebhookInfo, now: float) -> Sequence[tuple[bool, str]]:
    """https://core.telegram.org/bots/api#webhookinfo. An address is told by its host: its path may be a secret."""
    host = urlsplit(info.url).hostname or "another address"
    if info.url and not settings.webhook_url:
        return [
            (
                False,
                f"Telegram posts to a webhook at {host}, so nothing is polled. The next start takes it away; if"
                " it comes back, another program uses this token",
            )
        ]
    found: list[tuple[bool, str]] = []
    if info.url and info.url != settings.webhook_url:
        found.append((False, f"webhook_url: Telegram posts to {host}, and here only after the next start"))
    elif info.last_error_date and now - info.last_error_date.timestamp() < _LATELY_S:
        ago = max(0, round((now - info.last_error_date.timestamp()) / 60))
        found.append(
            (
                False,
                f"webhook_url: Telegram could not post there {ago} minutes ago ({info.last_error_message}); the"
                " address must be https:// with a certificate that it trusts, and lead to this bot",
            )
        )
    if settings.webhook_url and info.pending_update_count > _MANY_UPDATES:
        found.append((False, f"{info.pending_update_count} updates wait at Telegram: nobody takes them"))
    return found
