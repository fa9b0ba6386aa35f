"""A whole Matrix bot for tests: the adapter with matrix-nio's client, a real dialogue, a real store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from adapters.waiting import running
from conftest import make_dialogue
from glmbot.dialogue.access import Access
from glmbot.engine.base import Engine, TokenEngine
from glmbot.store.base import Store
from glmbot_matrix.adapter import MatrixAdapter, MatrixSettings
from platforms.matrix_server import TOKEN, MatrixServer

__all__ = ["bot", "settings_for"]


def settings_for(server: MatrixServer, **changes: Any) -> MatrixSettings:
    given: dict[str, Any] = {
        "token": SecretStr(TOKEN),
        "homeserver": server.url,
        "encryption": False,
        "edit_interval_s": 0.03,
        "requests_per_minute": 60_000,
    }
    return MatrixSettings(**given | changes)


@asynccontextmanager
async def bot(
    server: MatrixServer, engine: Engine | TokenEngine, store: Store, **changes: Any
) -> AsyncGenerator[MatrixAdapter]:
    settings = settings_for(server, **changes.pop("settings", {}))
    access = changes.pop("access", Access(open_platforms={"matrix"}))
    adapter = MatrixAdapter(settings, make_dialogue(engine, store, access=access, **changes))
    async with running(adapter):
        yield adapter
