"""The chat page in a real browser."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from playwright.async_api import Page, ViewportSize, async_playwright, expect

from conftest import REPOSITORY, make_dialogue
from glmbot.dialogue.access import Access
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.store.base import Store
from glmbot_web.adapter import WebAdapter, WebSettings

DESKTOP, PHONE = ViewportSize(width=1000, height=720), ViewportSize(width=390, height=740)


@pytest.fixture
async def page(request: pytest.FixtureRequest) -> AsyncGenerator[Page]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed (Debian package chromium), so the page is not tested")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=flags)
        context = await browser.new_context(viewport=DESKTOP, locale="en-GB")
        made = await context.new_page()
        errors: list[str] = []
        made.on("pageerror", lambda error: errors.append(str(error)))
        yield made
        await browser.close()
        assert errors == []


@pytest.fixture
async def demo_site(demo_model: Path, sqlite_store: Store) -> AsyncGenerator[WebAdapter]:
    engine = await LocalEngine.start(LocalEngineSettings(demo_model, precision=Precision.FP32))
    sampling = Sampling(max_tokens=200, temperature=0)
    dialogue = make_dialogue(engine, sqlite_store, access=Access(), sampling=sampling, language="auto")
    adapter = WebAdapter(WebSettings(port=0), dialogue)
    await adapter.start()
    yield adapter
    await adapter.stop()
    await engine.close()


async def test_a_person_asks_and_sees_the_answer_stream(page: Page, demo_site: WebAdapter) -> None:
    await page.goto(demo_site.url)
    await expect(page.locator("#model")).to_have_text(re.compile("smollm2.*fp32"))
    question = page.get_by_label("Ask something…")
    await question.fill("What is the capital of France?")
    await question.press("Enter")
    await expect(page.locator(".answer").last).to_contain_text("Paris")
    await expect(page.locator("#send")).to_be_visible()
    await question.fill("Write a Python function that adds two numbers, and explain it.")
    await page.evaluate(
        """() => { window.sizes = new Set(); new MutationObserver(() =>
        window.sizes.add([...document.querySelectorAll('.answer')].at(-1).textContent.length))
        .observe(document.getElementById('log'), {subtree: true, childList: true, characterData: true}); }"""
    )
    await question.press("Enter")
    await expect(page.locator("#stop")).to_be_visible()
    await expect(page.locator("#send")).to_be_visible(timeout=60_000)
    assert await page.evaluate("window.sizes.size") > 5, "the answer was seen growing"
    await expect(page.locator(".answer pre code").first).to_be_visible()
    if os.environ.get("GLMBOT_TEST_PICTURES"):
        await page.screenshot(path=REPOSITORY / "docs" / "images" / "page.png")
    await page.reload()
    await expect(page.locator(".answer").first).to_contain_text("Paris")


async def test_stop_retry_new_and_the_other_language(page: Page, demo_site: WebAdapter) -> None:
    await page.goto(demo_site.url)
    question = page.locator("#question")
    await question.fill("Tell me a very long story about the sea.")
    await question.press("Enter")
    await expect(page.locator(".answer").last).not_to_be_empty()
    await page.locator("#stop").click()
    await expect(page.locator(".notice").last).to_contain_text("Stopped.")
    await page.get_by_role("button", name="Retry").click()
    await expect(page.locator("#stop")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator(".notice").last).to_contain_text("Stopped.")
    await expect(page.locator(".turn")).to_have_count(1)
    await page.get_by_role("button", name="中文").click()
    await expect(page.locator("#send")).to_have_text("发送")
    await question.fill("/whoami")
    await page.locator("#send").click()
    await expect(page.locator(".notice").last).to_contain_text("你是 web:")
    await page.get_by_role("button", name="新对话").click()
    await expect(page.locator(".turn")).to_have_count(0)


async def test_a_telephone_shows_everything_without_sideways_scrolling(
    page: Page, demo_site: WebAdapter
) -> None:
    await page.set_viewport_size(PHONE)
    await page.goto(demo_site.url)
    await page.locator("#question").fill("/help")
    await page.locator("#send").click()
    await expect(page.locator(".notice").last).to_contain_text("/export")
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    if os.environ.get("GLMBOT_TEST_PICTURES"):
        await page.screenshot(path=REPOSITORY / "docs" / "images" / "phone.png")
