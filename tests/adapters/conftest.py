"""Platforms that several tests talk through."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from platforms.discord_server import DiscordServer
from platforms.telegram_server import TelegramServer


@pytest.fixture
async def telegram() -> AsyncGenerator[TelegramServer]:
    server = TelegramServer(seconds_per_message=0.02)
    await server.start()
    yield server
    await server.stop()
    assert server.violations == []


@pytest.fixture
async def discord() -> AsyncGenerator[DiscordServer]:
    server = DiscordServer(window_s=0.25)
    await server.start()
    yield server
    await server.stop()
    assert server.violations == []
