"""How QQ's implementations and the bot find each other, know each other, and notice that the other is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest
from pydantic import SecretStr, ValidationError

from adapters.onebot_bot import settings_for
from adapters.scripted import ScriptedEngine
from adapters.waiting import running
from adapters.web_site import ScriptedDialogue
from conftest import free_port, make_dialogue, until
from glmbot.app import adapters
from glmbot.dialogue.access import Access
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.registry import Routes
from glmbot.platforms import check_routes, keep_running
from glmbot.ports import Dialogue
from glmbot.store.base import Store
from glmbot_onebot.adapter import OneBotAdapter, OneBotSettings
from glmbot_web.adapter import WebAdapter, WebSettings
from platforms.onebot_server import SELF, TOKEN, OneBotServer


@pytest.fixture
async def qq() -> AsyncGenerator[OneBotServer]:
    server = OneBotServer()
    await server.start()
    yield server
    await server.stop()
    assert server.violations == []


def adapter_for(server: OneBotServer, store: Store, **settings: Any) -> OneBotAdapter:
    dialogue = make_dialogue(ScriptedEngine("hello there"), store, access=Access(open_platforms={"onebot"}))
    return OneBotAdapter(settings_for(server, **settings), dialogue)


@asynccontextmanager
async def reverse(server: OneBotServer, store: Store, way: str) -> AsyncGenerator[str]:
    """The bot listens at a port of its own, or [web] does for it: the address."""
    port = free_port() if way == "a door" else 0
    routes = Routes()
    async with running(adapter_for(server, store, url="", listen_port=port), routes):
        if port:
            yield f"ws://127.0.0.1:{port}/onebot"
            return
        page = WebAdapter(WebSettings(port=0), cast(Dialogue, ScriptedDialogue()))
        async with running(page, routes):
            yield page.url.replace("http", "ws") + "/onebot"


@pytest.mark.parametrize("way", ["a door", "[web]"])
async def test_an_implementation_that_knows_the_token_connects_and_is_answered(
    way: str, qq: OneBotServer, sqlite_store: Store
) -> None:
    async with reverse(qq, sqlite_store, way) as url:
        for wrong in ("", "wrong", TOKEN + "x", TOKEN.upper(), "\udcff"):
            with pytest.raises((aiohttp.WSServerHandshakeError, UnicodeError)) as refused:
                await qq.connect_to(url, wrong)
            assert getattr(refused.value, "status", 401) == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.request("GET", url.replace("ws", "http", 1), headers=headers) as response:
            assert response.status == 426
        for_events = qq.connect_to(url, **{"X-Client-Role": "Event"})
        await for_events
        staying = qq.connect_to(url)
        await qq.say("hello")
        await until(lambda: bool(qq.connections))
        await qq.say("hello")
        await until(lambda: "hello there" in qq.texts("7"))
        assert not staying.done()


async def test_one_bot_has_one_account_and_its_newer_connection_counts(
    qq: OneBotServer, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = OneBotServer()
    monkeypatch.setattr(other, "_do_get_login_info", lambda _: {"user_id": SELF + 1, "nickname": "other"})
    async with reverse(qq, sqlite_store, "a door") as url:
        first = qq.connect_to(url)
        await until(lambda: any(action == "get_version_info" for action, _ in qq.calls))
        await other.connect_to(url)
        second = qq.connect_to(url)
        await first
        assert not second.done()
        await qq.say("hello")
        await until(lambda: qq.texts("7") == ["hello there"])
    await other.stop()


async def test_a_connection_that_ends_is_made_again_and_what_was_asked_goes_on(
    qq: OneBotServer, sqlite_store: Store
) -> None:
    adapter = adapter_for(qq, sqlite_store)
    troubles: list[str] = []

    async def trouble(words: str) -> None:
        troubles.append(words)
        await asyncio.sleep(0.01)

    await adapter.start()
    task = asyncio.create_task(keep_running(adapter, trouble))
    try:
        await qq.drop()
        await until(lambda: bool(troubles) and qq.connections == 1)
        await qq.say("hello")
        await until(lambda: qq.texts("7") == ["hello there"])
    finally:
        await adapter.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "the connection ended" in troubles[0]


async def test_who_misses_its_heartbeats_is_gone(qq: OneBotServer, sqlite_store: Store) -> None:
    qq.heartbeat_ms = 100
    adapter = adapter_for(qq, sqlite_store)
    await adapter.start()
    run = asyncio.create_task(adapter.run())
    await asyncio.sleep(0.5)
    assert not run.done()
    qq.heartbeat_ms = 0
    with pytest.raises(AdapterError, match="no heartbeat came"):
        await run
    await adapter.stop()


async def test_what_is_wrong_at_the_start_is_said_without_the_token(
    qq: OneBotServer, sqlite_store: Store
) -> None:
    wrong = adapter_for(qq, sqlite_store, token=SecretStr("some-other-token"))
    with pytest.raises(PlatformRefused, match="refuses it") as refused:
        await wrong.start()
    away = adapter_for(qq, sqlite_store, url=f"ws://127.0.0.1:{free_port()}")
    with pytest.raises(AdapterError, match="can't be reached") as unreachable:
        await away.start()
    qq.refusals["get_login_info"] = (1200, "not logged in")
    with pytest.raises(AdapterError, match="not logged in"):
        await adapter_for(qq, sqlite_store).start()
    qq.refusals.clear()
    assert await OneBotAdapter.identify(settings_for(qq)) == f"glm ({SELF}, NapCat.Onebot)"
    assert await OneBotAdapter.identify(settings_for(qq, url="")) == ""
    assert [well for well, _ in await OneBotAdapter.examine(settings_for(qq))] == [True]
    for error in (refused, unreachable):
        assert "token" not in str(error.value).replace("[onebot] token", "")
    with pytest.raises(PlatformRefused, match="no token"):
        settings_for(qq, token=None).read_token("onebot")


async def test_nobody_who_connects_is_noticed(
    qq: OneBotServer, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot_onebot.adapter._PATIENCE_S", 0.05)
    adapter = adapter_for(qq, sqlite_store, url="", listen_port=free_port())
    await adapter.start()
    with pytest.raises(AdapterError, match="no implementation has connected"):
        await adapter.run()
    await adapter.stop()


def test_settings_are_held_against_what_they_would_do() -> None:
    def advice(**settings: Any) -> list[bool]:
        return [well for well, _ in OneBotSettings(**settings).advice()]

    assert advice() == [True]
    assert advice(listen_host="0.0.0.0") == [True, False]
    assert advice(url="ws://127.0.0.1:3001") == [True]
    assert advice(url="wss://qq.example.org") == [True]
    assert advice(url="ws://qq.example.org") == [False]
    for wrong in ("http://x", "ws://user:password@x", "3001"):
        with pytest.raises(ValidationError):
            OneBotSettings(url=wrong)
    makers = adapters()
    with pytest.raises(AdapterError, match="listen_port"):
        check_routes(makers, {"onebot": OneBotSettings(listen_port=0)})
    check_routes(makers, {"onebot": OneBotSettings(listen_port=0), "web": WebSettings()})
    check_routes(makers, {"onebot": OneBotSettings()})
