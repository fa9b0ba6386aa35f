"""What `glmbot doctor` says after asking each platform: mistakes that keep a bot from hearing or answering."""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from adapters import dingtalk_bot, feishu_bot, onebot_bot, slack_bot, telegram_bot
from adapters.waiting import lawful
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.replays import clock_ahead
from glmbot_dingtalk.adapter import DingTalkAdapter
from glmbot_discord.adapter import DiscordAdapter, DiscordSettings
from glmbot_feishu.adapter import FeishuAdapter
from glmbot_onebot.adapter import OneBotAdapter
from glmbot_slack.adapter import SlackAdapter
from glmbot_telegram.adapter import TelegramAdapter
from platforms.dingtalk_server import DingTalkServer
from platforms.discord_server import TOKEN, DiscordServer
from platforms.feishu_server import FeishuServer
from platforms.onebot_server import OneBotServer
from platforms.slack_server import SlackServer
from platforms.telegram_server import BOT, TelegramServer

_INTENT = 1 << 18


def wrong(found: Sequence[tuple[bool, str]]) -> list[str]:
    return [words for well, words in found if not well]


async def test_telegram_privacy_mode_and_a_webhook_of_somebody_elses(telegram: TelegramServer) -> None:
    settings = telegram_bot.settings_for(telegram)
    found = await TelegramAdapter.examine(settings)
    assert wrong(found) == []
    assert "@glm_test_bot" in found[0][1]
    assert any("/setprivacy" in words for _, words in found)
    telegram.bot = BOT | {"can_read_all_group_messages": True}
    assert len(await TelegramAdapter.examine(settings)) == 1
    telegram.bot = BOT | {"can_join_groups": False}
    assert any("/setjoingroups" in words for _, words in await TelegramAdapter.examine(settings))
    telegram.webhook = {"url": "https://else.example/secret-path"}
    (words,) = wrong(await TelegramAdapter.examine(settings))
    assert "else.example" in words
    assert "secret-path" not in words
    with pytest.raises(PlatformRefused, match="@BotFather"):
        await TelegramAdapter.examine(settings.model_copy(update={"token": SecretStr("1:wrong")}))


async def test_telegram_what_it_could_not_post(telegram: TelegramServer) -> None:
    url = "https://bot.example/hook"
    settings = telegram_bot.settings_for(telegram, webhook_url=url)
    assert wrong(await TelegramAdapter.examine(settings)) == [], "the next start sets it"
    telegram.webhook = {"url": "https://old.example/hook"}
    assert "old.example" in wrong(await TelegramAdapter.examine(settings))[0]
    telegram.webhook = {"url": url}
    telegram.webhook_info = {
        "last_error_date": int(time.time()) - 300,
        "last_error_message": "Wrong response from the webhook: 404 Not Found",
        "pending_update_count": 250,
    }
    could_not, waiting = wrong(await TelegramAdapter.examine(settings))
    assert "5 minutes ago (Wrong response from the webhook: 404 Not Found)" in could_not
    assert "250 updates wait" in waiting
    telegram.webhook_info = {"last_error_date": int(time.time()) - 90_000, "last_error_message": "old"}
    assert wrong(await TelegramAdapter.examine(settings)) == [], "what is long over is no news"


async def test_discord_the_library_warns_of_nothing_that_nobody_wants(
    discord: DiscordServer, caplog: pytest.LogCaptureFixture
) -> None:
    where: dict[str, Any] = {"api_base_url": discord.url, "gateway_url": discord.gateway_url}
    settings = DiscordSettings(token=SecretStr(TOKEN), **where)
    await DiscordAdapter.identify(settings)
    await DiscordAdapter.examine(settings)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


async def test_discord_an_intent_that_is_off_and_a_gateway_that_wants_more(discord: DiscordServer) -> None:
    where: dict[str, Any] = {"api_base_url": discord.url, "gateway_url": discord.gateway_url}
    settings = DiscordSettings(token=SecretStr(TOKEN), **where)
    assert wrong(await DiscordAdapter.examine(settings)) == []
    asks = settings.model_copy(update={"message_content": True})
    (words,) = wrong(await DiscordAdapter.examine(asks))
    assert "Message Content Intent is off" in words
    discord.application_flags = _INTENT
    assert wrong(await DiscordAdapter.examine(asks)) == []
    discord.wants_shards, discord.starts, discord.guild_count = 3, 2, 0
    found = await DiscordAdapter.examine(settings)
    shards, starts = wrong(found)
    assert "wants 3 connections" in shards
    assert "2 more connections in the next 2 hours" in starts
    assert any("invite it at https://discord.com/oauth2/authorize" in words for _, words in found)


async def test_feishu_permissions_and_a_clock_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lawful(FeishuServer(messages_per_second=1000)) as server:
        settings = feishu_bot.settings_for(server)
        server.scopes |= {"cardkit:card:write": 2, "im:message.p2p_msg:readonly": 2}
        (cards,) = wrong(await FeishuAdapter.examine(settings))
        assert "cardkit:card:write is missing (for answers that grow)" in cards
        server.scopes |= {"im:message": 2}
        assert len(wrong(await FeishuAdapter.examine(settings))) == 2
        server.scopes = {}
        assert wrong(await FeishuAdapter.examine(settings)) == [], "Feishu says nothing of them"
        long_ago = SimpleNamespace(time=lambda: 1e9)
        monkeypatch.setattr("glmbot_feishu.examination.time", long_ago)
        assert wrong(await FeishuAdapter.examine(settings)) == [], "nothing is signed on a long connection"
        posted = feishu_bot.settings_for(server, encrypt_key=SecretStr("a-key"))
        assert "clock is" in wrong(await FeishuAdapter.examine(posted))[0]


async def test_dingtalk_the_permission_to_write_cards() -> None:
    async with lawful(DingTalkServer(requests_per_second=1000)) as server:
        settings = dingtalk_bot.settings_for(server)
        assert wrong(await DingTalkAdapter.examine(settings)) == []
        refusal: list[Any] = ["Forbidden.AccessDenied.AccessTokenPermissionDenied", 1]
        server.refusals["/v1.0/card/streaming"] = refusal
        (words,) = wrong(await DingTalkAdapter.examine(settings))
        assert "Card.Streaming.Write is missing" in words
        assert server.cards == {}, "nothing is written to find out"


async def test_slack_a_token_of_another_kind_and_a_clock_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lawful(SlackServer()) as server:
        settings = slack_bot.settings_for(server)
        server.refusals["apps.connections.open"] = ["not_allowed_token_type", 1]
        (words,) = wrong(await SlackAdapter.examine(settings))
        assert "[slack] app_token" in words
        monkeypatch.setattr("glmbot_slack.client.time", SimpleNamespace(time=lambda: 1e9))
        assert wrong(await SlackAdapter.examine(settings)) == [], "nothing is signed in Socket Mode"
        posted = slack_bot.settings_for(server, app_token=None, signing_secret=SecretStr("a-secret"))
        assert "clock is" in wrong(await SlackAdapter.examine(posted))[0]
        assert "/slack/events of [web]" in posted.advice()[0][1]


async def test_onebot_an_account_that_is_logged_out() -> None:
    async with lawful(OneBotServer()) as server:
        assert wrong(await OneBotAdapter.examine(onebot_bot.settings_for(server))) == []
        server.online = False
        assert "logged out of QQ" in wrong(await OneBotAdapter.examine(onebot_bot.settings_for(server)))[0]
        server.refusals["get_status"] = (1404, "unknown")
        assert wrong(await OneBotAdapter.examine(onebot_bot.settings_for(server))) == []


async def test_a_platform_that_is_away_is_said_with_where_a_proxy_goes(telegram: TelegramServer) -> None:
    away = telegram_bot.settings_for(telegram).model_copy(update={"api_base_url": "http://127.0.0.1:9"})
    with pytest.raises(AdapterError, match=r"a proxy goes into \[telegram\] proxy"):
        await TelegramAdapter.examine(away)


@pytest.mark.parametrize(
    ("date", "off"),
    [
        (formatdate(1_000_000, usegmt=True), 60),
        (formatdate(1_000_100, usegmt=True), -40),
        ("", 0),
        ("yesterday", 0),
        ("Mon, 99 Foo 1970", 0),
    ],
)
def test_how_far_a_clock_is_off_is_known_where_the_answer_has_a_time(date: str, off: float) -> None:
    assert clock_ahead(date, 1_000_060) == off
