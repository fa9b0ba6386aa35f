"""A whole official QQ bot for tests: the adapter, a real dialogue, a real store."""

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
from glmbot_qq.adapter import QQAdapter, QQSettings
from platforms.qq_server import APP_ID, SECRET, QQServer


def settings_for(server: QQServer, **changes: Any) -> QQSettings:
    given: dict[str, Any] = {
        "app_id": APP_ID,
        "token": SecretStr(SECRET),
        "api_base_url": server.url,
        "token_base_url": server.url,
        "language": "en",
        "interval_s": 0.01,
        "requests_per_second": 1000,
        "active_messages": False,
    }
    return QQSettings(**given | changes)


@asynccontextmanager
async def bot(
    server: QQServer,
    engine: Engine | TokenEngine,
    store: Store,
    routes: Routes | None = None,
    **changes: Any,
) -> AsyncGenerator[QQAdapter]:
    settings = settings_for(server, **changes.pop("settings", {}))
    access = changes.pop("access", Access(open_platforms={"qq"}))
    adapter = QQAdapter(settings, make_dialogue(engine, store, access=access, **changes))
    async with running(adapter, routes):
        yield adapter
