"""A whole QQ bot for tests: the adapter with real WebSockets, an engine, a store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from adapters.waiting import running
from conftest import make_dialogue
from glmbot.dialogue.access import Access
from glmbot.store.base import Store
from glmbot_onebot.adapter import OneBotAdapter, OneBotSettings
from platforms.onebot_server import TOKEN, OneBotServer

USER, GROUP = 7, 5


def settings_for(server: OneBotServer, **changes: Any) -> OneBotSettings:
    given: dict[str, Any] = {
        "token": SecretStr(TOKEN),
        "url": server.url,
        "listen_port": 0,
        "language": "en",
        "interval_s": 0.01,
        "group_interval_s": 0.01,
        "flood_pause_s": 0.3,
    }
    return OneBotSettings(**given | changes)


@asynccontextmanager
async def bot(
    server: OneBotServer, engine: Any, store: Store, **changes: Any
) -> AsyncGenerator[OneBotAdapter]:
    settings = settings_for(server, **changes.pop("settings", {}))
    access = changes.pop("access", Access(open_platforms={"onebot"}))
    adapter = OneBotAdapter(settings, make_dialogue(engine, store, access=access, **changes))
    async with running(adapter):
        yield adapter
