"""A whole DingTalk bot for tests: the adapter, a real dialogue, a real store."""

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
from glmbot_dingtalk.adapter import DingTalkAdapter, DingTalkSettings
from platforms.dingtalk_server import CLIENT_ID, SECRET, DingTalkServer


def settings_for(server: DingTalkServer, **changes: Any) -> DingTalkSettings:
    given: dict[str, Any] = {
        "client_id": CLIENT_ID,
        "token": SecretStr(SECRET),
        "api_base_url": server.url,
        "edit_interval_s": 0.03,
        "requests_per_second": 1000,
    }
    return DingTalkSettings(**given | changes)


@asynccontextmanager
async def bot(
    server: DingTalkServer,
    engine: Engine | TokenEngine,
    store: Store,
    routes: Routes | None = None,
    **changes: Any,
) -> AsyncGenerator[DingTalkAdapter]:
    settings = settings_for(server, **changes.pop("settings", {}))
    access = changes.pop("access", Access(open_platforms={"dingtalk"}))
    adapter = DingTalkAdapter(settings, make_dialogue(engine, store, access=access, **changes))
    async with running(adapter, routes):
        yield adapter
