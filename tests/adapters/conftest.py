"""Platforms, and a browser, that several tests talk through."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import AsyncGenerator, Generator

import pytest
from playwright.async_api import Page, ViewportSize, async_playwright, expect

from adapters.waiting import lawful
from conftest import DIES_WITH_US
from platforms.discord_server import DiscordServer
from platforms.telegram_server import TelegramServer

# Milliseconds: a machine that is busy with something else is slow, not wrong.
expect.set_options(timeout=90_000)
DESKTOP = ViewportSize(width=1100, height=720)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-component-extensions-with-background-pages", "--disable-extensions", "--disable-default-apps",
    "--disable-sync", "--no-first-run", "--no-default-browser-check", "--password-store=basic", "--mute-audio",
    "--hide-scrollbars", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling", "--disable-dev-shm-usage",
]  # fmt: skip


@pytest.fixture
async def telegram() -> AsyncGenerator[TelegramServer]:
    async with lawful(TelegramServer(seconds_per_message=0.02)) as server:
        yield server


@pytest.fixture
async def discord() -> AsyncGenerator[DiscordServer]:
    async with lawful(DiscordServer(window_s=0.25)) as server:
        yield server


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """One browser for all pages, since each start of one takes seconds: where it is driven from."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed (Debian package chromium), so the page is not tested")
    profile = tmp_path_factory.mktemp("chromium")
    told = profile / "DevToolsActivePort"
    with (profile / "log.txt").open("w") as log:
        wishes = [*FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
        process = subprocess.Popen([*DIES_WITH_US, program, *wishes], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while not told.exists() or len(lines := told.read_text().splitlines()) < 2:
            assert process.poll() is None, (profile / "log.txt").read_text()
            assert time.monotonic() < deadline, (profile / "log.txt").read_text()
            time.sleep(0.05)
        yield f"ws://127.0.0.1:{lines[0]}{lines[1]}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
async def page(chromium: str) -> AsyncGenerator[Page]:
    """In a context of its own, which shares nothing with those of other tests."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium)
        context = await browser.new_context(viewport=DESKTOP, locale="en-GB")
        made = await context.new_page()
        errors: list[str] = []
        made.on("pageerror", lambda error: errors.append(str(error)))
        made.on("console", lambda line: errors.append(line.text) if "Content Security" in line.text else None)
        yield made
        await context.close()
        await browser.close()
        assert errors == []
