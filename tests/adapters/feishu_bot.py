"""A whole Feishu bot for tests: the adapter, a real dialogue, a real store."""

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
from glmbot_feishu.adapter import FeishuAdapter, FeishuSettings
from platforms.feishu_server import APP_ID, SECRET, FeishuServer


def settings_for(server: FeishuServer, **changes: Any) -> FeishuSettings:
    given: dict[str, Any] = {
        "app_id": APP_ID,
        "token": SecretStr(SECRET),
        "api_base_url": server.url,
        "edit_interval_s": 0.03,
        "requests_per_second": 1000,
    }
    return FeishuSettings(**given | changes)


@asynccontextmanager
async def bot(
    server: FeishuServer,
    engine: Engine | TokenEngine,
    store: Store,
    routes: Routes | None = None,
    **changes: Any,
) -> AsyncGenerator[FeishuAdapter]:
    settings = settings_for(server, **changes.pop("settings", {}))
    access = changes.pop("access", Access(open_platforms={"feishu"}))
    adapter = FeishuAdapter(settings, make_dialogue(engine, store, access=access, **changes))
    async with running(adapter, routes):
        yield adapter
