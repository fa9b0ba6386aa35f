"""The chat page in a real browser."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, ViewportSize, expect
from pydantic import SecretStr

from adapters.waiting import running
from conftest import make_dialogue
from glmbot.dialogue.access import Access
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.keys import UserKey
from glmbot.store.base import Store
from glmbot_web.adapter import WebAdapter, WebSettings

PHONE = ViewportSize(width=390, height=740)


@asynccontextmanager
async def site(
    model: Path, store: Store, precision: Precision = Precision.FP32, **settings: Any
) -> AsyncGenerator[WebAdapter]:
    engine = await LocalEngine.start(
        LocalEngineSettings(model, precision=precision, cache_tokens=16384, threads=1)
    )
    sampling = Sampling(max_tokens=settings.pop("max_tokens", 200), temperature=0)
    dialogue = make_dialogue(engine, store, access=Access(), sampling=sampling, language="auto")
    adapter = WebAdapter(WebSettings(port=0, **settings), dialogue)
    async with running(adapter):
        yield adapter
    await engine.close()


@pytest.fixture
async def demo_site(demo_model: Path, sqlite_store: Store) -> AsyncGenerator[WebAdapter]:
    async with site(demo_model, sqlite_store) as adapter:
        yield adapter


@pytest.fixture
async def tiny_site(tiny_model: Path, sqlite_store: Store, unhurried: None) -> AsyncGenerator[WebAdapter]:
    async with site(tiny_model, sqlite_store, max_tokens=60) as adapter:
        yield adapter


async def ask(page: Page, text: str) -> None:
    await page.locator("#question").fill(text)
    await page.keyboard.press("Enter")
    await expect(page.locator(".turn").last).to_have_attribute("aria-busy", "true")


async def ended(page: Page, turns: int) -> None:
    await expect(page.locator(".turn")).to_have_count(turns)
    await expect(page.locator(".turn[aria-busy=true]")).to_have_count(0)


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
    await expect(page.locator("#send")).to_be_visible()
    assert await page.evaluate("window.sizes.size") > 5, "the answer was seen growing"
    await expect(page.locator(".answer pre code").first).to_be_visible()
    await page.get_by_role("button", name="Copy code").first.click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    await page.reload()
    await expect(page.locator(".answer").first).to_contain_text("Paris")


async def test_stop_retry_new_and_the_other_language(
    page: Page, tiny_model: Path, sqlite_store: Store, unhurried: None
) -> None:
    async with site(tiny_model, sqlite_store, max_tokens=1900) as adapter:
        await stops_retries_and_speaks_chinese(page, adapter.url)


async def stops_retries_and_speaks_chinese(page: Page, url: str) -> None:
    await page.goto(url)
    question = page.locator("#question")
    await question.fill("Tell me a very long story about the sea.")
    await question.press("Enter")
    await expect(page.locator(".answer").last).not_to_be_empty()
    await page.locator("#stop").click()
    await expect(page.locator(".notice").last).to_contain_text("Stopped.")
    await page.get_by_role("button", name="Retry", exact=True).click()
    await expect(page.locator("#stop")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator(".notice").last).to_contain_text("Stopped.")
    await expect(page.locator(".turn")).to_have_count(1)
    await page.get_by_role("button", name="中文").click()
    await expect(page.locator("#send")).to_have_text("发送")
    await question.fill("/whoami")
    await page.locator("#send").click()
    await expect(page.locator(".notice").last).to_contain_text("你是 web:")
    await page.locator("#new").click()
    await expect(page.locator(".turn")).to_have_count(0)


async def test_a_telephone_shows_everything_without_sideways_scrolling(
    page: Page, tiny_site: WebAdapter
) -> None:
    await page.set_viewport_size(PHONE)
    await page.goto(tiny_site.url)
    await page.locator("#question").fill("/help")
    await page.locator("#send").click()
    await expect(page.locator(".notice").last).to_contain_text("/export")
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


async def test_conversations_are_listed_come_back_and_go(page: Page, tiny_site: WebAdapter) -> None:
    await page.goto(tiny_site.url)
    await ask(page, "the first conversation")
    await ended(page, 1)
    first = await page.locator(".answer").inner_text()
    await page.keyboard.press("Control+Shift+O")
    await expect(page.locator(".turn")).to_have_count(0)
    await ask(page, "the second conversation")
    await ended(page, 1)
    await expect(page.locator("#chats .chat-title")).to_have_text(
        ["the second conversation", "the first conversation"]
    )
    await page.get_by_role("button", name="the first conversation", exact=True).click()
    await expect(page.locator(".question")).to_have_text("the first conversation")
    assert await page.locator(".answer").inner_text() == first
    await page.go_back()
    await expect(page.locator(".question")).to_have_text("the second conversation")
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Delete conversation: the second").click()
    await expect(page.locator("#chats .chat-title")).to_have_text(["the first conversation"])


async def test_a_question_is_edited_from_the_keyboard_and_asked_again(
    page: Page, tiny_site: WebAdapter
) -> None:
    await page.goto(tiny_site.url)
    for number, text in enumerate(("what is blue?", "and green?"), 1):
        await ask(page, text)
        await ended(page, number)
    await page.locator("#question").focus()
    await page.keyboard.press("ArrowUp")
    await expect(page.locator(".edit textarea")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator(".question")).to_have_text(["what is blue?", "and green?"])
    await page.get_by_role("button", name="Edit", exact=True).first.click()
    await page.locator(".edit textarea").fill("what is red?")
    await page.keyboard.press("Enter")
    await ended(page, 1)
    await expect(page.locator(".question")).to_have_text(["what is red?"])
    await expect(page.locator(".branches .count")).to_have_text("2 / 2")
    await page.reload()
    await expect(page.locator(".question")).to_have_text(["what is red?"])
    await page.get_by_role("button", name="Earlier version").click()
    await expect(page.locator(".question")).to_have_text(["what is blue?", "and green?"])
    await expect(page.get_by_role("button", name="Earlier version")).to_be_disabled()
    await expect(page.get_by_role("button", name="Later version")).to_be_focused()
    await page.get_by_role("button", name="Retry", exact=True).first.click()
    await ended(page, 1)
    await expect(page.locator(".branches .count")).to_have_text("3 / 3")
    await page.get_by_role("button", name="Earlier version").click()
    await expect(page.locator(".question")).to_have_text(["what is red?"])


async def test_how_an_answer_ended_is_known_of_its_branch_alone(page: Page, tiny_site: WebAdapter) -> None:
    await page.goto(tiny_site.url)
    for number, text in enumerate(("first", "second"), 1):
        await ask(page, text)
        await ended(page, number)
    going_on = page.get_by_role("button", name="Continue", exact=True)
    await expect(going_on).to_have_count(2)
    await page.get_by_role("button", name="Edit", exact=True).first.click()
    await page.locator(".edit textarea").fill("first, in other words")
    await page.keyboard.press("Enter")
    await ended(page, 1)
    await page.reload()
    await expect(page.locator(".question")).to_have_text(["first, in other words"])
    await page.get_by_role("button", name="Earlier version").click()
    await expect(page.locator(".question")).to_have_text(["first", "second"])
    await expect(page.locator(".failed")).to_have_count(0)
    await expect(
        page.locator(".turn").last.get_by_role("button", name="Continue", exact=True)
    ).to_be_visible()


async def test_a_cut_answer_goes_on_in_its_place(page: Page, tiny_site: WebAdapter) -> None:
    await page.goto(tiny_site.url)
    await ask(page, "go on and on")
    await ended(page, 1)
    before = await page.locator(".answer").inner_text()
    await page.get_by_role("button", name="Continue", exact=True).click()
    await ended(page, 1)
    after = await page.locator(".answer").inner_text()
    assert after.replace("\n", " ").startswith(before.replace("\n", " ").strip()[:100])
    assert len(after) > len(before)


async def test_an_answer_goes_on_after_a_lost_connection_a_reload_and_another_conversation(
    page: Page, tiny_model: Path, sqlite_store: Store, unhurried: None
) -> None:
    async with site(tiny_model, sqlite_store, max_tokens=500) as adapter:
        await page.goto(adapter.url)
        await ask(page, "a long one")
        await expect(page.locator(".answer")).not_to_be_empty()
        await page.context.set_offline(True)
        await page.context.set_offline(False)
        await page.reload()
        await expect(page.locator("#stop")).to_be_visible()
        await expect(page.locator(".answer")).not_to_be_empty()
        await page.locator("#new").click()
        await page.get_by_role("button", name="a long one", exact=True).click()
        await expect(page.locator(".turn")).to_have_count(1)
        await ended(page, 1)
        (conversation,) = await sqlite_store.recent(0)
        (turn,) = await sqlite_store.last_turns(conversation, 5)
        assert turn.question == "a long one"


async def test_everything_can_be_reached_by_keyboard_and_has_a_name(
    page: Page, tiny_site: WebAdapter
) -> None:
    await page.goto(tiny_site.url)
    await ask(page, "hello")
    await ended(page, 1)
    await expect(page.get_by_role("status")).to_have_text("The answer is complete.")
    nameless = await page.evaluate(
        """() => [...document.querySelectorAll('button, a, textarea, input')].filter(each =>
        each.offsetParent && !(each.textContent.trim() || each.getAttribute('aria-label'))).map(each => each.outerHTML)"""
    )
    assert nameless == []
    await page.evaluate("document.activeElement.blur()")
    reached: set[str] = set()
    for _ in range(25):
        await page.keyboard.press("Tab")
        reached.add(await page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {"question", "send", "new", "theme", "language", "Copy", "Retry", "Edit"} <= reached


async def test_light_and_dark_follow_the_system_until_one_is_chosen(
    page: Page, tiny_site: WebAdapter
) -> None:
    await page.emulate_media(color_scheme="dark")
    await page.goto(tiny_site.url)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = await page.evaluate(background)
    await page.get_by_role("button", name="Light or dark").click()
    light = await page.evaluate(background)
    assert light != dark
    await page.reload()
    assert await page.evaluate(background) == light
    await page.emulate_media(color_scheme="light")
    assert await page.evaluate(background) == light


async def test_on_a_telephone_the_list_is_a_drawer(page: Page, tiny_site: WebAdapter) -> None:
    await page.set_viewport_size(PHONE)
    await page.goto(tiny_site.url)
    await ask(page, "hello there")
    await ended(page, 1)
    await expect(page.get_by_role("button", name="hello there", exact=True)).to_be_hidden()
    await page.get_by_role("button", name="Menu").click()
    await expect(page.get_by_role("button", name="hello there", exact=True)).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="hello there", exact=True)).to_be_hidden()


async def test_with_a_token_the_page_asks_for_it_first(
    page: Page, tiny_model: Path, sqlite_store: Store
) -> None:
    async with site(tiny_model, sqlite_store, token=SecretStr("open-sesame")) as adapter:
        await page.goto(adapter.url)
        await page.get_by_label("Token").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("Wrong token.")
        await page.get_by_label("Token").fill("open-sesame")
        await page.keyboard.press("Enter")
        await expect(page.locator("#model")).to_contain_text("tiny")
        await ask(page, "hello")
        await ended(page, 1)


async def test_the_operators_page_shows_what_runs_and_acts(
    page: Page, tiny_model: Path, sqlite_store: Store, unhurried: None
) -> None:
    async with site(tiny_model, sqlite_store, max_tokens=1500, admin=True) as adapter:
        await page.goto(adapter.url)
        await ask(page, "a long one")
        operator = await page.context.new_page()
        await operator.goto(f"{adapter.url}/admin")
        await expect(operator.locator("#streams tr")).to_contain_text(["web:"])
        await operator.get_by_role("button", name="int8").click()
        await expect(operator.get_by_role("status")).to_contain_text("fp32 → int8")
        await expect(operator.locator("#model")).to_contain_text("int8")
        await operator.locator("#added").fill("telegram:5")
        await operator.get_by_role("button", name="Let in").first.click()
        row = operator.locator("#users tr").filter(has_text="telegram:5")
        await expect(row).to_contain_text("user")
        await row.get_by_role("spinbutton").fill("7")
        await row.get_by_role("button", name="Set").click()
        await expect(operator.get_by_role("status")).to_contain_text("Limit of telegram:5: 7")
        await row.get_by_role("button", name="Block").click()
        await expect(row).to_contain_text("blocked")
        assert (await sqlite_store.settings(UserKey("telegram", "5")))["access"] == "blocked"
        await page.keyboard.press("Escape")


async def test_who_is_no_administrator_sees_nothing_of_the_operators(
    page: Page, tiny_site: WebAdapter
) -> None:
    await page.goto(f"{tiny_site.url}/admin")
    await expect(page.get_by_role("status")).to_contain_text("for administrators")
    await expect(page.locator("#streams tr")).to_have_count(0)
    answer = await page.request.post(f"{tiny_site.url}/api/admin/command", data={"text": "/precision int8"})
    assert answer.status == 403
