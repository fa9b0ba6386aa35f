"""A whole Slack bot for tests: the adapter with Slack's own client, a real dialogue, a real store."""

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
from glmbot_slack.adapter import SlackAdapter, SlackSettings
from platforms.slack_server import APP_TOKEN, TOKEN, SlackServer


def settings_for(server: SlackServer, **changes: Any) -> SlackSettings:
    given: dict[str, Any] = {
        "token": SecretStr(TOKEN),
        "app_token": SecretStr(APP_TOKEN),
        "api_base_url": f"{server.url}/api/",
        "edit_interval_s": 0.03,
        "requests_per_minute": 60_000,
    }
    return SlackSettings(**given | changes)


@asynccontextmanager
async def bot(
    server: SlackServer,
    engine: Engine | TokenEngine,
    store: Store,
    routes: Routes | None = None,
    **changes: Any,
) -> AsyncGenerator[SlackAdapter]:
    settings = settings_for(server, **changes.pop("settings", {}))
    access = changes.pop("access", Access(open_platforms={"slack"}))
    adapter = SlackAdapter(settings, make_dialogue(engine, store, access=access, **changes))
    async with running(adapter, routes):
        yield adapter
