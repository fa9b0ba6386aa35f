"""Whole WeCom bots for tests: the adapter, a real dialogue, a real store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from adapters.waiting import running
from conftest import make_dialogue
from glmbot.dialogue.access import Access
from glmbot.engine.base import Engine, TokenEngine
from glmbot.http.registry import Routes
from glmbot.store.base import Store
from glmbot_web.adapter import WebAdapter, WebSettings
from glmbot_wecom.adapter import WeComAdapter, WeComSettings
from platforms.wecom_server import AES_KEY, AGENT_ID, BOT_ID, CALLBACK_TOKEN, CORP_ID, SECRET, WeComServer


def settings_for(server: WeComServer, **changes: Any) -> WeComSettings:
    """Of a smart bot."""
    given: dict[str, Any] = {
        "bot_id": BOT_ID,
        "token": SecretStr(SECRET),
        "ws_url": server.ws_url,
        "language": "en",
        "edit_interval_s": 0.03,
        "requests_per_second": 1000,
    }
    return WeComSettings(**given | changes)


def application_settings(server: WeComServer, **changes: Any) -> WeComSettings:
    given: dict[str, Any] = {
        "bot_id": "",
        "corp_id": CORP_ID,
        "agent_id": AGENT_ID,
        "callback_token": SecretStr(CALLBACK_TOKEN),
        "encoding_aes_key": SecretStr(AES_KEY),
        "api_base_url": server.url,
        "passive_s": 0.0,
    }
    return settings_for(server, **given | changes)


@asynccontextmanager
async def bot(
    server: WeComServer,
    engine: Engine | TokenEngine,
    store: Store,
    routes: Routes | None = None,
    **changes: Any,
) -> AsyncGenerator[WeComAdapter]:
    make = changes.pop("make", settings_for)
    settings = make(server, **changes.pop("settings", {}))
    access = changes.pop("access", Access(open_platforms={"wecom"}))
    adapter = WeComAdapter(settings, make_dialogue(engine, store, access=access, **changes))
    async with running(adapter, routes):
        yield adapter


@asynccontextmanager
async def application(
    server: WeComServer, engine: Engine | TokenEngine, store: Store, **changes: Any
) -> AsyncGenerator[WeComAdapter]:
    """Behind the server of [web], to which WeCom posts."""
    routes = Routes()
    web = WebAdapter(WebSettings(port=0), make_dialogue(engine, store))
    async with (
        running(web, routes),
        bot(server, engine, store, routes, make=application_settings, **changes) as adapter,
    ):
        server.posts_to = f"{web.url}/wecom/callback"
        yield adapter
