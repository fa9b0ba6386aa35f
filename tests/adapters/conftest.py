"""Platforms, and a browser, that several tests talk through."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator

import pytest
from playwright.async_api import Page, ViewportSize, async_playwright

from platforms.discord_server import DiscordServer
from platforms.telegram_server import TelegramServer

DESKTOP = ViewportSize(width=1100, height=720)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


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


@pytest.fixture
async def page(request: pytest.FixtureRequest) -> AsyncGenerator[Page]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed (Debian package chromium), so the page is not tested")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        context = await browser.new_context(viewport=DESKTOP, locale="en-GB")
        made = await context.new_page()
        errors: list[str] = []
        made.on("pageerror", lambda error: errors.append(str(error)))
        made.on("console", lambda line: errors.append(line.text) if "Content Security" in line.text else None)
        yield made
        await browser.close()
        assert errors == []
