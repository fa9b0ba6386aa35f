"""How the page shows an answer's words while they come, in a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

from playwright.async_api import Browser, Page, ViewportSize, expect

from adapters.web_site import ScriptedDialogue, scripted_site
from glmbot.completions import Completion
from glmbot.keys import ConversationKey
from glmbot.messages import ConversationSummary, Message, Press, Reply, ReplyState
from glmbot.overview import LoggedCall, Sample

PHONE = ViewportSize(width=390, height=740)

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
    dialogue = ScriptedDialogue()

    async def says(message: Message | Completion) -> AsyncGenerator[Reply, None]:
        assert isinstance(message, Message)
        answer = "\n\n".join(["an answer"] * 60)
        if message.text == "what else?":
            dialogue.kept[message.conversation].append((message.ref, message.text, answer))
        yield Reply(answer, ReplyState.FINAL)

    dialogue.script = says
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

        # Asked again in the same words, it is given another answer.
        await page.get_by_role("button", name="Edit", exact=True).last.click()
        await page.get_by_role("button", name="Ask again").click()
        await expect(page.locator(".turn[aria-busy=true]")).to_have_count(0)
        assert [message.text for message in dialogue.accepted] == ["why blue?", "/retry"]
        assert dialogue.accepted[1].intent == Press("another", "retry")

        # What one page asks another one of the same browser shows at once, and lists.
        other = await page.context.new_page()
        await other.goto(page.url)
        await expect(other.locator(".question")).to_have_count(2)
        await page.locator("#question").fill("what else?")
        await page.keyboard.press("Enter")
        await expect(other.locator(".question").last).to_have_text("what else?")


async def test_the_operators_charts_have_axes_and_say_that_they_gather(page: Page) -> None:
    def samples(count: int) -> list[Sample]:
        return [Sample(1e9 + 5 * n, 900_000_000, 30.0 * (n % 2), 0, 0, 0.0) for n in range(count)]

    lists: dict[str, Any] = dict.fromkeys(("streams", "users", "errors", "waiting_users"), ())
    dialogue = ScriptedDialogue()
    dialogue.seen = {
        **lists, "precisions": ("fp32", "int8"), "precision": "fp32", "switching": 1.0, "next_users": "",
        "samples": samples(3),
    }  # fmt: skip
    async with scripted_site(dialogue, admin=True) as site:
        await page.goto(f"{site.url}/admin")
        await expect(page.locator("#memory")).to_contain_text("Gathering the first minute")
        await expect(page.locator("#switching")).to_have_text("Trying the new weights…")
        assert await page.locator("#share").get_attribute("value") is None
        await expect(page.locator("#streams")).to_have_text("No answer is being written.")
        dialogue.seen = {**dialogue.seen, "switching": None, "samples": samples(100)}
        await expect(page.locator("#memory .scale span")).to_have_text(["1000 MB", "500 MB", "0 MB"])
        await expect(page.locator("#speed .scale span")).to_have_text(
            ["50 tokens/s", "25 tokens/s", "0 tokens/s"]
        )
        await expect(page.locator("#speed time")).to_have_count(2)
        await expect(page.locator("#switching")).to_be_hidden()


async def test_the_operator_adds_a_tool_server_and_reads_what_tools_did(page: Page) -> None:
    server = {
        "name": "files", "kept": True, "on": True, "state": "away", "trouble": "it took too long", "where": "uvx (+2)",
        "secrets": ["KEY"], "tools": 3, "resources": 0, "prompts": 0, "left_out": [],
    }  # fmt: skip
    call = LoggedCall(1e9, "telegram:5", "telegram:5", "files_read", "abc", "<b>done</b>")
    lists: dict[str, Any] = dict.fromkeys(("streams", "users", "errors", "samples", "precisions"), ())
    panel = {"servers": [server], "adds": ["url", "command"]}
    dialogue = ScriptedDialogue(seen=lists, panels={"mcp": panel}, called=[call])
    async with scripted_site(dialogue, admin=True) as site:
        await page.goto(f"{site.url}/admin")
        await expect(page.locator("#server-rows")).to_contain_text("away: it took too long")
        await expect(page.locator("#log-rows")).to_contain_text("<b>done</b>")
        await page.locator("#log-matching").fill("nothing")
        await page.get_by_role("button", name="Look up").click()
        await expect(page.locator("#log-rows")).to_contain_text("Nothing was called.")
        await page.locator("#server-name").fill("new")
        await page.locator("#server-where").fill('uvx "some tool" --fast')
        await page.locator("#server-secrets").fill("KEY=a=b")
        await page.get_by_role("button", name="Add", exact=True).click()
        await expect(page.locator("#server-secrets")).to_have_value("")
        await page.get_by_role("button", name="Switch off").click()
        await expect(page.get_by_role("status")).to_contain_text("done")
    assert dialogue.wishes == [
        {
            "do": "add",
            "name": "new",
            "server": {"command": ["uvx", "some tool", "--fast"], "env": {"KEY": "a=b"}},
        },
        {"do": "off", "name": "files"},
    ]


async def test_enter_belongs_to_an_input_method_first_and_makes_a_line_on_a_telephone(page: Page) -> None:
    """Safari tells of the Enter that ends a composition after its end, by the number 229 alone."""
    press = """(each, init) => each.dispatchEvent(
        new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, cancelable: true, ...init}))"""
    dialogue = ScriptedDialogue()
    async with scripted_site(dialogue) as site:
        await page.goto(site.url)
        question = page.locator("#question")
        await question.fill("nihao")
        for keys in ({"isComposing": True}, {"keyCode": 229}, {"shiftKey": True}):
            assert await question.evaluate(press, keys), "nothing of the page's took the key"
        await expect(question).to_have_value("nihao")
        await question.press("Enter")
        await expect(page.locator(".answer")).to_contain_text("nihao")
        await page.get_by_role("button", name="Edit", exact=True).click()
        words = page.locator(".edit textarea")
        await words.evaluate(press, {"keyCode": 229})
        await words.evaluate(press, {"key": "Escape", "keyCode": 229})
        await expect(words).to_be_visible()

        context = await cast(Browser, page.context.browser).new_context(
            viewport=PHONE, has_touch=True, is_mobile=True
        )
        phone = await context.new_page()
        await phone.goto(site.url)
        await phone.locator("#question").fill("one")
        await phone.keyboard.press("Enter")
        await phone.keyboard.type("two")
        await expect(phone.locator("#question")).to_have_value("one\ntwo")
        await phone.locator("#send").tap()
        await expect(phone.locator(".question")).to_have_text("one\ntwo")
        await phone.locator("#menu").tap()
        small = await phone.evaluate(
            """() => [...document.querySelectorAll('button, textarea, a')].filter(each => each.checkVisibility()
            && !each.matches('.skip') && (each.offsetHeight < 44 || each.offsetWidth < 44)).map(each => each.outerHTML)"""
        )
        assert small == []
        await context.close()
    assert [message.text for message in dialogue.accepted] == ["nihao", "one\ntwo"]


async def test_a_long_list_of_conversations_shows_the_current_one_and_brings_more(page: Page) -> None:
    summaries = [
        ConversationSummary(
            ConversationKey("web", str(2 + number), "1"),
            f"question {number} " + "x" * 70,
            1,
            1e9 - number,
        )
        for number in range(130)
    ]
    async with scripted_site(ScriptedDialogue(summaries=summaries)) as site:
        await page.goto(f"{site.url}/#{2 + 90}")
        chats = page.locator(".chat-title")
        await expect(chats).to_have_count(101)
        await expect(page.locator(".chat-title[aria-current]")).to_be_in_viewport()
        await expect(page.locator("#new")).to_be_in_viewport()
        await expect(chats.first).to_have_attribute("title", summaries[0].title)
        await page.get_by_role("button", name="Older conversations").click()
        await expect(chats).to_have_count(130)
        await expect(chats.last).to_contain_text("question 129 ")
