"""What the chat page keeps of a question that went wrong, and what an answer can't make of the page, in a browser."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import cast

from playwright.async_api import Page, expect

from adapters.waiting import running
from adapters.web_site import ScriptedDialogue, scripted_site
from conftest import free_port
from glmbot.completions import Completion
from glmbot.messages import Action, ConversationSummary, Message, Reply, ReplyState
from glmbot.ports import Dialogue
from glmbot_web.adapter import WebAdapter, WebSettings

MORE = (Action("retry", "Retry"), Action("continue", "Continue"))


async def ask(page: Page, text: str) -> None:
    await page.locator("#question").fill(text)
    await page.keyboard.press("Enter")


async def test_a_question_whose_answer_failed_stays_with_a_way_to_ask_again(page: Page) -> None:
    dialogue = ScriptedDialogue()

    async def fails_twice(message: Message | Completion) -> AsyncGenerator[Reply, None]:
        if len(dialogue.answered) < 3:
            yield Reply("", ReplyState.FAILED, "The queue is full.")
            return
        assert isinstance(message, Message)
        dialogue.kept[message.conversation] = [(message.ref, message.text, "here you are")]
        yield Reply("here you are", ReplyState.FINAL, finish_reason="stop", actions=MORE[:1])

    dialogue.script = fails_twice
    async with scripted_site(dialogue) as site:
        await page.goto(site.url)
        await ask(page, "what is lost?")
        await expect(page.locator(".failed .notice")).to_contain_text("The queue is full.")
        await page.reload()
        await expect(page.locator(".question")).to_have_text("what is lost?")
        await expect(page.locator(".failed .notice")).to_contain_text("The queue is full.")
        await page.get_by_role("button", name="Retry", exact=True).click()
        await expect(page.locator(".failed .notice")).to_contain_text("The queue is full.")
        await page.get_by_role("button", name="Retry", exact=True).click()
        await expect(page.locator(".answer")).to_contain_text("here you are")
        await page.reload()
        await expect(page.locator(".answer")).to_contain_text("here you are")
        await expect(page.locator(".turn")).to_have_count(1)
        await expect(page.locator(".failed")).to_have_count(0)
    assert [message.text for message in dialogue.answered] == ["what is lost?"] * 3


async def test_a_question_to_a_server_that_is_away_is_asked_once_when_it_is_back(page: Page) -> None:
    dialogue = ScriptedDialogue()
    settings = WebSettings(port=free_port())
    async with running(WebAdapter(settings, cast(Dialogue, dialogue))):
        await page.goto(f"http://127.0.0.1:{settings.port}")
        await expect(page.locator("#model")).to_contain_text("scripted")
    await ask(page, "are you there?")
    await expect(page.locator(".failed .notice")).to_contain_text("I try again by myself")
    assert dialogue.accepted == []
    async with running(WebAdapter(settings, cast(Dialogue, dialogue))):
        await expect(page.locator(".answer")).to_contain_text("are you there?")
        await expect(page.locator(".failed")).to_have_count(0)
    assert [message.text for message in dialogue.accepted] == ["are you there?"]


async def test_a_conversation_that_is_opened_while_the_server_is_away_comes_when_it_is_back(
    page: Page,
) -> None:
    settings = WebSettings(port=free_port())
    dialogue = ScriptedDialogue()
    address = f"http://127.0.0.1:{settings.port}"
    async with running(WebAdapter(settings, cast(Dialogue, dialogue))):
        await page.goto(address)
        await ask(page, "one")
        await expect(page.locator(".answer")).to_contain_text("one")
        here = dialogue.accepted[0].conversation
        dialogue.summaries = [ConversationSummary(replace(here, chat=7), "the other one", 1, 1e9)]
        dialogue.kept[replace(here, chat=7)] = [("r", "the other one", "its answer")]
        await page.evaluate("dispatchEvent(new Event('focus'))")
        await expect(page.get_by_role("button", name="the other one", exact=True)).to_be_visible()
    await page.get_by_role("button", name="the other one", exact=True).click()
    await expect(page.locator("#log")).to_contain_text("Connection lost; trying again")
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Delete conversation: the other one").click()
    await expect(page.get_by_role("alert")).to_contain_text("The server could not be reached")
    async with running(WebAdapter(settings, cast(Dialogue, dialogue))):
        await expect(page.locator(".answer")).to_contain_text("its answer")


async def test_how_an_answer_ended_is_there_after_a_reload(page: Page) -> None:
    dialogue = ScriptedDialogue()

    async def stops(message: Message | Completion) -> AsyncGenerator[Reply, None]:
        assert isinstance(message, Message)
        dialogue.kept[message.conversation] = [(message.ref, message.text, "half of")]
        yield Reply("half of", ReplyState.STOPPED, "Stopped.", actions=MORE)

    dialogue.script = stops
    async with scripted_site(dialogue) as site:
        await page.goto(site.url)
        await ask(page, "tell me all")
        await expect(page.locator(".notice")).to_contain_text("Stopped.")
        await page.reload()
        await expect(page.locator(".notice")).to_contain_text("Stopped.")
        await expect(page.get_by_role("button", name="Continue", exact=True)).to_be_visible()


async def test_no_answer_becomes_a_part_of_the_page_or_leads_away_from_it(page: Page) -> None:
    says = [
        r"$\text{<meta/http-equiv=refresh/content=0;url=/static/icon.svg>}$",
        r"$\text{</mtext></math><h1/id=hack>Session expired</h1><form/action=/x><input/type=password></form>}$",
        r"$\text{<svg/onload=document.title='OWNED'><script>document.title='OWNED'</script></svg>}$",
        r"$\text{<style>body{display:none}</style><iframe/srcdoc=x></iframe><img/src=/static/icon.svg>}$",
        r"$\href{javascript:document.title='OWNED'}{x}$ [x](javascript:a) <base href=//evil.example>",
    ]

    async def say(_: Message | Completion) -> AsyncGenerator[Reply, None]:
        yield Reply("\n\n".join(["It begins.", *says, "The end."]), ReplyState.FINAL)

    async with scripted_site(ScriptedDialogue(say)) as site:
        await page.goto(site.url)
        await ask(page, "go")
        await expect(page.locator(".answer")).to_contain_text("The end.")
        await expect(page.locator(".answer")).to_contain_text("Session expired")
        names = (
            "meta, h1, form, input, svg, script, style, iframe, img, base, a, [href], [onload], [src], [id]"
        )
        assert await page.locator(f".answer :is({names})").count() == 0
        assert await page.title() == "go · glmbot"
        assert page.url.startswith(site.url)
        assert "static" not in page.url
