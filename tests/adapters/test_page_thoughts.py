"""What a model thinks, on the page: folded, growing, and there again after a reload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from playwright.async_api import Page, expect

from adapters.web_site import ScriptedDialogue, scripted_site
from glmbot.completions import Completion
from glmbot.messages import Message, Reply, ReplyState

THOUGHT = "They want a sum.\nIt is <b>four</b>."


async def test_a_thought_is_folded_and_comes_back(page: Page) -> None:
    dialogue = ScriptedDialogue()
    goes_on = asyncio.Event()

    async def thinks(message: Message | Completion) -> AsyncGenerator[Reply, None]:
        assert isinstance(message, Message)
        yield Reply("", ReplyState.STREAMING, "Thinking…", thought=THOUGHT[:10])
        await goes_on.wait()
        yield Reply("", ReplyState.STREAMING, "Thinking…", thought=THOUGHT)
        dialogue.kept[message.conversation] = [(message.ref, message.text, "Four.", 1, (), THOUGHT)]  # type: ignore[list-item]
        yield Reply("Four.", ReplyState.FINAL, finish_reason="stop", thought=THOUGHT)

    dialogue.script = thinks
    summary, body = page.locator(".thought summary"), page.locator(".thought div")
    async with scripted_site(dialogue) as site:
        await page.goto(site.url)
        await page.locator("#question").fill("2+2?")
        await page.keyboard.press("Enter")
        await expect(summary).to_have_text("Thinking…")
        await expect(body).to_be_hidden()
        await expect(page.locator(".turn .notice")).to_be_hidden()
        await summary.click()
        await expect(body).to_have_text(THOUGHT[:10])
        goes_on.set()
        await expect(summary).to_have_text("Thought for 1 s")
        await expect(body).to_have_text(THOUGHT)
        await expect(body).to_be_visible()
        await expect(page.locator(".answer")).to_have_text("Four.")
        await page.emulate_media(media="print")
        await expect(body).to_be_hidden()
        await page.emulate_media(media="screen")
        await page.reload()
        await expect(summary).to_have_text("Thoughts")
        await expect(body).to_be_hidden()
        await page.locator("#language").click()
        await expect(summary).to_have_text("思考过程")
        await summary.focus()
        await page.keyboard.press("Enter")
        await expect(body).to_have_text(THOUGHT)


async def test_who_thinks_nothing_has_no_block_for_it(page: Page) -> None:
    async with scripted_site() as site:
        await page.goto(site.url)
        await page.locator("#question").fill("hello")
        await page.keyboard.press("Enter")
        await expect(page.locator(".answer")).to_have_text("hello")
        await expect(page.locator(".thought")).to_be_hidden()
