"""A whole bot behind a Satori server for tests: the adapter with real HTTP and WebSocket, an engine, a store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from adapters.waiting import running
from conftest import make_dialogue
from glmbot.dialogue.access import Access
from glmbot.store.base import Store
from glmbot_satori.adapter import SatoriAdapter, SatoriSettings
from platforms.satori_server import TOKEN, SatoriServer

CHANNEL = "channel-1"


def settings_for(server: SatoriServer, **changes: Any) -> SatoriSettings:
    given: dict[str, Any] = {
        "token": SecretStr(TOKEN),
        "url": server.url,
        "language": "en",
        "edit_interval_s": 0.02,
    }
    return SatoriSettings(**given | changes)


@asynccontextmanager
async def bot(
    server: SatoriServer, engine: Any, store: Store, **changes: Any
) -> AsyncGenerator[SatoriAdapter]:
    settings = settings_for(server, **changes.pop("settings", {}))
    access = changes.pop("access", Access(open_platforms={"satori"}))
    adapter = SatoriAdapter(settings, make_dialogue(engine, store, access=access, **changes))
    async with running(adapter):
        yield adapter
