"""Platforms behind a proxy, and whose token it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr, ValidationError

from conftest import free_port
from dialogue.scripted_engine import ScriptedEngine
from glmbot.errors import AdapterError, PlatformRefused, StoreError
from glmbot.setup_checks import Network
from glmbot.tokens import TokenSettings
from glmbot_discord.adapter import DiscordAdapter, DiscordSettings
from glmbot_telegram.adapter import TelegramAdapter, TelegramSettings
from platforms import discord_server, telegram_server
from platforms.discord_server import DiscordServer
from platforms.openai_server import OpenAIServer
from platforms.telegram_server import TelegramServer

PASSWORD = "hunter2-of-the-proxy"


class Proxy:
    """Passes on what comes, to wherever the first request's address says (RFC 9112, absolute-form)."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readline()
        target = urlsplit(first.split()[1].decode())
        self.asked.append(target.geturl())
        there, back = await asyncio.open_connection(target.hostname, target.port)
        back.write(first)

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while part := await source.read(65536):
                sink.write(part)
            sink.close()

        await asyncio.gather(pass_on(reader, back), pass_on(there, writer), return_exceptions=True)


@pytest.fixture
async def proxy() -> AsyncGenerator[Proxy]:
    made = Proxy()
    server = await asyncio.start_server(made.take, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()


async def test_telegram_is_reached_through_a_proxy(telegram: TelegramServer, proxy: Proxy) -> None:
    settings = TelegramSettings(
        token=SecretStr(telegram_server.TOKEN), api_base_url=telegram.url, proxy=SecretStr(proxy.url)
    )
    assert (await TelegramAdapter.identify(settings)).startswith("@")
    assert proxy.asked
    assert proxy.asked[0].startswith(telegram.url)


async def test_discord_is_reached_through_a_proxy(discord: DiscordServer, proxy: Proxy) -> None:
    settings = DiscordSettings(
        token=SecretStr(discord_server.TOKEN),
        api_base_url=discord.url,
        gateway_url=discord.gateway_url,
        proxy=SecretStr(proxy.url),
    )
    assert await DiscordAdapter.identify(settings)
    assert proxy.asked
    assert proxy.asked[0].startswith(discord.url)


async def test_a_wrong_token_and_a_platform_that_is_away_are_told_apart(telegram: TelegramServer) -> None:
    wrong = TelegramSettings(token=SecretStr("123456789:" + "x" * 35), api_base_url=telegram.url)
    with pytest.raises(PlatformRefused, match="does not know it"):
        await TelegramAdapter.identify(wrong)
    away = TelegramSettings(
        token=SecretStr(telegram_server.TOKEN), api_base_url=f"http://127.0.0.1:{free_port()}"
    )
    with pytest.raises(AdapterError, match=r"\[telegram\] proxy") as told:
        await TelegramAdapter.identify(away)
    assert not isinstance(told.value, PlatformRefused)
    assert telegram_server.TOKEN not in str(told.value)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://api.telegram.org", "http://10.0.0.1:7890"),
        ("https://discord.com/api/v10", "http://10.0.0.1:7890"),
        ("http://127.0.0.1:8081", None),
        ("http://localhost:8081", None),
        ("https://bots.example.org", None),
    ],
)
def test_the_environments_proxy_is_for_what_is_far_away(
    monkeypatch: pytest.MonkeyPatch, url: str, wanted: str | None
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://10.0.0.1:7890")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "bots.example.org")
    assert TokenSettings().proxy_for(url) == wanted
    assert TokenSettings(proxy=SecretStr("http://10.0.0.2:1")).proxy_for(url) == "http://10.0.0.2:1"


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.9:7890",
        "ftp://10.0.0.1",
        "http://",
        "nonsense",
        "http://a:b:c",
        "http://10.0.0.1:99999",
        "http://[::1",
    ],
)
def test_what_is_no_proxy_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="a proxy is an address"):
        TokenSettings(proxy=SecretStr(address))


FAR = "https://platform.example.org"


def test_the_environments_proxy_may_be_a_host_alone_as_for_curl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "10.0.0.1:7890")
    assert TokenSettings().proxy_for(FAR) == "http://10.0.0.1:7890"


@pytest.mark.parametrize(
    "address", ["socks5://ann:{}@10.0.0.1:7890", "http://ann:{}@10.0.0.1:b:c", "ann:{}@:1"]
)
def test_an_environments_proxy_that_can_not_be_used_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("https_proxy", address.format(PASSWORD))
    with pytest.raises(AdapterError, match="HTTPS_PROXY") as told:
        TokenSettings().proxy_for(FAR)
    assert PASSWORD not in str(told.value)


@pytest.fixture
async def refusing() -> AsyncGenerator[str]:
    """The address, with a password, of a proxy that lets nobody through."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    yield f"http://ann:{PASSWORD}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@pytest.mark.parametrize("where", ["setting", "environment"])
async def test_what_a_proxy_refuses_is_told_without_its_password(
    refusing: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", refusing)
    proxy = SecretStr(refusing) if where == "setting" else None
    # Route.BASE is of the process, and other tests may have set it.
    away = DiscordSettings(token=SecretStr(discord_server.TOKEN), proxy=proxy, api_base_url=FAR)
    with pytest.raises(AdapterError, match="407") as told:
        await DiscordAdapter.identify(away)
    assert PASSWORD not in str(told.value)
    far = TelegramSettings(token=SecretStr(telegram_server.TOKEN), proxy=proxy, api_base_url=FAR)
    with pytest.raises(AdapterError, match="407") as told:
        await TelegramAdapter.identify(far)
    assert PASSWORD not in str(told.value)


async def test_other_settings_of_the_environment_do_not_stop_the_questions(
    telegram: TelegramServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLMBOT_TELEGRAM__API_BASE_URL", telegram.url)
    monkeypatch.setenv("GLMBOT_WEB__PORT", "8081")
    monkeypatch.setenv("GLMBOT_TELEGRAM__TOKEN", "123456789:" + "x" * 35)
    name = await asyncio.to_thread(Network().bot, "telegram", {"token": telegram_server.TOKEN})
    assert name.startswith("@")


async def test_a_list_of_models_that_comes_in_pieces_is_read_to_its_end() -> None:
    # More than a socket gives at once.
    models = [{"id": f"model-{number}", "description": "x" * 40_000} for number in range(20)]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"data": models}).encode()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    assert len(await asyncio.to_thread(Network().served, url, "")) == len(models)
    server.close()


async def test_a_model_server_that_runs_here_is_found(telegram: TelegramServer) -> None:
    server = OpenAIServer(ScriptedEngine())
    await server.start()
    try:
        ports = [free_port(), int(urlsplit(telegram.url).port or 0), int(urlsplit(server.url).port or 0)]
        assert await asyncio.to_thread(Network(ports).servers) == [server.url]
        assert await asyncio.to_thread(Network().served, server.url, "any key") == ["scripted"]
    finally:
        await server.stop()


async def test_a_redis_that_is_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"127\.0\.0\.1"):
        await asyncio.to_thread(Network().store, f"redis://127.0.0.1:{free_port()}/0")
    assert list(tmp_path.iterdir()) == []


async def test_a_redis_that_answers_leaves_nothing_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    await asyncio.to_thread(Network().store, redis_url)
    assert list(tmp_path.iterdir()) == []
