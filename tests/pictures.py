"""Make the pictures of the documentation: the chat page, the operator's page and a terminal session, as they are.

    .venv/bin/python tests/pictures.py          writes docs/images/*.png

It needs the demo model (`glmbot pull`) and Debian's chromium. Answers come from the model, greedily, so the same code
makes the same pictures.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import pexpect
import pyte
from playwright.async_api import Browser, Page, async_playwright

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "adapters")]

from adapters.waiting import running  # noqa: E402
from glmbot.dialogue.access import Access  # noqa: E402
from glmbot.dialogue.manager import DialogueManager, DialogueSettings  # noqa: E402
from glmbot.engine.base import Precision, Sampling  # noqa: E402
from glmbot.engine.local import LocalEngine, LocalEngineSettings  # noqa: E402
from glmbot.keys import ConversationKey, UserKey  # noqa: E402
from glmbot.messages import ChatKind, Message  # noqa: E402
from glmbot.models.demo import NAME  # noqa: E402
from glmbot.store.sqlite import SqliteStore  # noqa: E402
from glmbot_web.adapter import WebAdapter, WebSettings  # noqa: E402

IMAGES = ROOT / "docs" / "images"
MODEL = ROOT / ".glmbot" / "models" / NAME
QUESTIONS = (
    "What is the capital of France?",
    "Write a Python function that adds two numbers, and explain it.",
)
TERMINAL_COLUMNS, TERMINAL_LINES = 96, 30


async def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("chromium is not installed (Debian package chromium)")
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "store.sqlite3")
        await store.open()
        settings = LocalEngineSettings(MODEL, precision=Precision.FP32, cache_tokens=16384)
        engine = await LocalEngine.start(settings)
        dialogue = DialogueManager(
            store=store,
            engine=engine,
            access=Access(admins={UserKey("telegram", "123456789")}),
            settings=DialogueSettings(sampling=Sampling(max_tokens=220, temperature=0)),
        )
        site = WebAdapter(WebSettings(port=0, admin=True), dialogue)
        async with running(site), async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=program, args=["--no-sandbox", "--disable-gpu"]
            )
            await chat_page(browser, site.url)
            await operator_page(browser, site.url, dialogue)
            await terminal(browser)
            await browser.close()
        await engine.close()
        await store.close()


async def chat_page(browser: Browser, url: str) -> None:
    context = await browser.new_context(viewport={"width": 1180, "height": 760}, locale="en-GB")
    page = await context.new_page()
    await page.goto(url)
    for text in ("How do rainbows come about?", *QUESTIONS):
        if text != QUESTIONS[1]:
            await page.locator("#new").click()
        await ask(page, text)
    await page.screenshot(path=IMAGES / "page.png")
    await page.emulate_media(color_scheme="dark")
    await page.screenshot(path=IMAGES / "dark.png")
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size({"width": 390, "height": 760})
    await page.locator("#log").evaluate("each => each.scrollTop = each.scrollHeight")
    # The list slides out of sight.
    await asyncio.sleep(0.5)
    await page.screenshot(path=IMAGES / "phone.png")
    await page.get_by_role("button", name="中文").click()
    await page.locator("#new").evaluate("each => each.click()")
    await ask(page, "/help")
    await page.screenshot(path=IMAGES / "phone.zh.png")
    await context.close()


async def ask(page: Page, text: str) -> None:
    await page.locator("#question").fill(text)
    await page.keyboard.press("Enter")
    await page.locator(".turn[aria-busy=true]").wait_for()
    await page.locator(".turn[aria-busy=true]").wait_for(state="detached", timeout=120_000)
    await page.locator("#send").wait_for()


async def operator_page(browser: Browser, url: str, dialogue: DialogueManager) -> None:
    for number, name in ((22334455, "小明"), (66778899, "Ada")):
        stranger = Message(
            f"p{number}", ConversationKey("telegram", str(number)), UserKey("telegram", str(number)), "/start",
            user_name=name,
        )  # fmt: skip
        await dialogue.accept(stranger)
        async for _ in dialogue.respond(stranger):
            pass
    busy: list[asyncio.Task[None]] = []
    for number in range(3):
        user = UserKey("telegram", str(123456789 + number))
        question = Message(
            f"b{number}", ConversationKey("telegram", "-100777", user.id), user, "Tell me a long story about the sea.",
            chat_kind=ChatKind.GROUP,
        )  # fmt: skip
        await dialogue._store.set_setting(user, "access", "user")  # pyright: ignore[reportPrivateUsage]
        await dialogue.accept(question)
        busy.append(asyncio.create_task(drain(dialogue, question)))
    sampler = asyncio.create_task(sample(dialogue))
    context = await browser.new_context(viewport={"width": 1180, "height": 1000}, locale="en-GB")
    page = await context.new_page()
    await page.goto(f"{url}/admin")
    await page.locator("#streams tr").nth(2).wait_for()
    await asyncio.sleep(2.5)
    await page.screenshot(path=IMAGES / "operator.png")
    await asyncio.gather(*busy)
    sampler.cancel()
    await context.close()


async def sample(dialogue: DialogueManager) -> None:
    """An hour within a minute, so that the charts have something to show."""
    began, samples = time.time(), dialogue.monitor._samples  # pyright: ignore[reportPrivateUsage]
    while True:
        dialogue.monitor.sample()
        samples[-1] = replace(samples[-1], at=began + 60 * (samples[-1].at - began))
        await asyncio.sleep(0.1)


async def drain(dialogue: DialogueManager, message: Message) -> None:
    async for _ in dialogue.respond(message):
        pass


async def terminal(browser: Browser) -> None:
    """`glmbot chat` in a real terminal, its screen drawn as a page and photographed."""
    with tempfile.TemporaryDirectory() as home:
        rows = await asyncio.to_thread(_terminal_session, Path(home))
    page = await browser.new_page(viewport={"width": 900, "height": 640}, device_scale_factor=1.5)
    await page.set_content(
        "<style>body{margin:0;background:#14171c;color:#e6e8ec}pre{font:14px/1.45 'DejaVu Sans Mono',"
        "'Noto Sans Mono CJK SC','WenQuanYi Zen Hei Mono',monospace;padding:18px 22px;margin:0}</style>"
        f"<pre>{chr(10).join(rows)}</pre>"
    )
    await page.locator("pre").screenshot(path=IMAGES / "terminal.png")
    await page.close()


def _terminal_session(home: Path) -> Sequence[str]:
    """The lines of the screen as HTML."""
    screen = pyte.Screen(TERMINAL_COLUMNS, TERMINAL_LINES)
    stream = pyte.ByteStream(screen)
    config = home / "config.toml"
    config.write_text(
        f'[model]\npath = "{MODEL}"\nmax_answer_tokens = 120\n[sampling]\ntemperature = 0\n'
        f'[store]\npath = "{home}/s.sqlite3"\n[console]\n[log]\nlevel = "WARNING"\n'
    )
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "COLUMNS": str(TERMINAL_COLUMNS),
    }
    child = pexpect.spawn(
        str(ROOT / ".venv" / "bin" / "glmbot"), ["chat", "--config", str(config)], cwd=home, timeout=90,
        dimensions=(TERMINAL_LINES, TERMINAL_COLUMNS), env=environment,
    )  # fmt: skip

    class Tee:
        def write(self, data: bytes) -> None:
            stream.feed(data)

        def flush(self) -> None: ...

    child.logfile_read = Tee()
    child.expect(">")
    for text, seen in ((QUESTIONS[0], "Paris"), ("/context", "Turns in it"), ("/precision int8", "tokens/s")):
        child.send(f"{text}\r")
        child.expect(seen)
        # The next prompt.
        child.expect(r">")
        time.sleep(0.5)
    child.close(force=True)
    lines: list[str] = []
    for number in range(TERMINAL_LINES):
        row = screen.buffer[number]
        line = ""
        for column in range(TERMINAL_COLUMNS):
            cell = row[column]
            style = "font-weight:600" if cell.bold else ""
            style += f";color:{_COLORS.get(cell.fg, '#e6e8ec')}"
            line += f'<span style="{style}">{escape(cell.data)}</span>' if cell.data.strip() else cell.data
        lines.append(line.rstrip())
    while lines and not lines[-1]:
        lines.pop()
    return lines


_COLORS = {
    "red": "#ff8f85",
    "green": "#8bd49c",
    "blue": "#86a8ff",
    "brightblack": "#98a2b3",
    "cyan": "#7fd4d4",
}

if __name__ == "__main__":
    asyncio.run(main())
