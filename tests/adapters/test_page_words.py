"""How the page shows an answer's words while they come, in a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from playwright.async_api import Page, ViewportSize, expect

from adapters.web_site import ScriptedDialogue, scripted_site
from glmbot.messages import Completion, Message, Reply, ReplyState

ANSWER = r"""This **first** paragraph stays.

هذا نص باللغة العربية.

- أول
- ثاني

| 名称 | price | 说明 |
|:--|--:|---|
| 苹果 | 1234567890.25 | 这是一个很长的说明文字，需要换行显示才可以，再长一些也无妨 |

$$
\sqrt{\frac{a^2+b^2}{\frac{c}{d}}}
$$

The last one grows"""


async def test_what_is_selected_stays_selected_while_the_answer_grows(page: Page) -> None:
    more = asyncio.Event()

    async def grows(_: Message | Completion) -> AsyncGenerator[Reply, None]:
        yield Reply(ANSWER, ReplyState.STREAMING)
        await more.wait()
        yield Reply(ANSWER + " and grows", ReplyState.STREAMING)
        yield Reply(ANSWER + " and grows.\n\nThe end", ReplyState.FINAL)

    async with scripted_site(ScriptedDialogue(grows)) as site:
        await page.goto(site.url)
        await page.locator("#question").fill("hello")
        await page.keyboard.press("Enter")
        answer = page.locator(".answer")
        await expect(answer).to_contain_text("The last one grows")
        await page.evaluate(
            """() => { const [first, last] = [document.querySelector('.answer p'), [...document.querySelectorAll('.answer p')].at(-1)];
            getSelection().setBaseAndExtent(first.firstChild, 0, last.firstChild, last.firstChild.length); }"""
        )
        more.set()
        await expect(answer).to_contain_text("The end")
        selected = await page.evaluate("getSelection().toString()")
        assert selected.startswith("This first paragraph")
        assert selected.endswith("The last one grows")

        directions = "[...document.querySelectorAll('.answer :is(p, ul)')].map(each => getComputedStyle(each).direction)"
        assert (await page.evaluate(directions))[:3] == ["ltr", "rtl", "rtl"]

        await page.set_viewport_size(ViewportSize(width=390, height=740))
        number = page.get_by_role("cell", name="1234567890.25")
        assert (
            await number.evaluate(
                "each => { const range = document.createRange(); range.selectNodeContents(each); return range.getClientRects().length }"
            )
            == 1
        )
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")

        # Drawn by our own font, which is what makes a root as high as what is under it.
        await page.evaluate("document.fonts.ready")
        assert await page.evaluate("[...document.fonts].filter(each => each.status === 'loaded').length") == 1

        await page.emulate_media(media="print")
        assert await page.evaluate("getComputedStyle(document.getElementById('log')).overflowY") == "visible"
        await expect(page.locator("#ask")).to_be_hidden()
        await expect(page.locator("nav")).to_be_hidden()


async def test_the_page_is_named_after_its_question_and_shows_what_another_page_asked(page: Page) -> None:
    async def says(message: Message | Completion) -> AsyncGenerator[Reply, None]:
        yield Reply("\n\n".join(["an answer"] * 60), ReplyState.FINAL)

    dialogue = ScriptedDialogue(says)
    async with scripted_site(dialogue) as site:
        await page.goto(site.url)
        await page.locator("#question").fill("why blue?")
        await page.keyboard.press("Enter")
        await expect(page.locator(".answer")).to_contain_text("an answer")
        await expect(page).to_have_title("why blue? · glmbot")
        await expect(page.get_by_role("log", name="Messages")).to_be_visible()
        await expect(page.locator("#end")).to_be_hidden()
        await page.locator("#log").evaluate("each => { each.scrollTop = 0 }")
        await page.get_by_role("button", name="To the end").click()
        await expect(page.locator("#end")).to_be_hidden()

        conversation = dialogue.accepted[0].conversation
        dialogue.kept[conversation] = [
            (dialogue.accepted[0].ref, "why blue?", "an answer"),
            ("another", "and from the other page?", "seen"),
        ]
        await page.evaluate("dispatchEvent(new Event('focus'))")
        await expect(page.locator(".question")).to_have_text(["why blue?", "and from the other page?"])

        await page.get_by_role("button", name="Edit", exact=True).last.click()
        await page.get_by_role("button", name="Ask again").click()
        await expect(page.locator(".turn[aria-busy=true]")).to_have_count(0)
        assert [message.text for message in dialogue.accepted] == ["why blue?", "and from the other page?"]
