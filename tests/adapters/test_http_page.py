"""The page on the HTTP interfaces: its examples run against a real server, and its tables are what the code takes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import shlex
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from adapters.waiting import running
from conftest import REPOSITORY, make_dialogue
from glmbot.dialogue.access import Access
from glmbot.engine.local import LocalEngine
from glmbot.store.base import Store
from glmbot_web.adapter import WebAdapter, WebSettings
from glmbot_web.bodies import BadRequest, parse
from glmbot_web.normalize import ChatCompletionRequest, ChatGlmRequest

PAGES = ("docs/http.md", "docs/http.zh.md", "README.md", "README.zh.md")
ADDRESS = "http://127.0.0.1:8080"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
KEYS = re.compile(r"`([a-z_]+)`")


def text(page: str) -> str:
    return (REPOSITORY / page).read_text("utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The blocks of code that talk to the server."""
    found = re.findall(rf"^```{language}\n(.*?)^```", text(page), re.M | re.S)
    return [block for block in found if ADDRESS in block and "make " not in block]


def rows(page: str, heading: str) -> list[list[str]]:
    """Of the tables below a heading."""
    below = text(page).partition(f"\n{heading}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    lines = [line for line in below.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


@pytest.fixture
async def site(engine: LocalEngine, sqlite_store: Store) -> AsyncGenerator[WebAdapter]:
    adapter = WebAdapter(WebSettings(port=0), make_dialogue(engine, sqlite_store, access=Access()))
    async with running(adapter):
        yield adapter


def said(answer: dict[str, Any]) -> Any:
    """Words, calls or likelihoods, whatever was asked for."""
    choice = answer["choices"][0]
    message = choice.get("message", choice)
    return message.get("content") or message.get("tool_calls") or message.get("text") or choice["logprobs"]


async def test_every_example_with_curl_is_answered(site: WebAdapter) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed, so its examples are not tried")
    tried = 0
    for page in PAGES:
        for line in "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
            command = shlex.split(line.replace(ADDRESS, site.url))
            assert command[0] == "curl", page
            options = ("--silent", "--show-error", "--fail-with-body", "--max-time", "60")
            process = await asyncio.create_subprocess_exec(
                *command, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            out = (await process.communicate())[0].decode()
            assert process.returncode == 0, (line, out)
            if "metrics" in line:
                assert "glmbot_engine_alive{model=" in out
            else:
                answer = json.loads(out)
                assert answer.get("status") in ("ok", "ready", 200) or said(answer)
            tried += 1
    assert tried >= 9


async def test_every_example_in_python_prints_an_answer(site: WebAdapter) -> None:
    tried = 0
    for page in PAGES:
        for block in blocks(page, "python"):
            printed = io.StringIO()
            program = compile(block.replace(ADDRESS, site.url), page, "exec")
            with contextlib.redirect_stdout(printed):
                await asyncio.to_thread(exec, program, {})
            assert printed.getvalue().strip(), (page, block)
            tried += 1
    assert tried >= 5


@pytest.mark.parametrize(
    ("page", "heading"), [("docs/http.md", "### Fields"), ("docs/http.zh.md", "### 字段")]
)
def test_every_field_of_the_openai_interface_is_on_the_page_as_the_code_takes_it(
    page: str, heading: str
) -> None:
    fields = set(ChatCompletionRequest.model_fields)
    taken: set[str] = set()
    for names, values, *rest in rows(page, heading):
        for name in KEYS.findall(names):
            taken.add(name)
            if rest:
                continue
            # What asks for nothing: each value on the page is taken, and another one is refused by name.
            for value in accepted(values):
                parse(ChatCompletionRequest, json.dumps({**HELLO, name: value}).encode())
            with pytest.raises(BadRequest, match=f"^{name}: not supported here"):
                parse(ChatCompletionRequest, json.dumps({**HELLO, name: "something else"}).encode())
    ignored = set(KEYS.findall(text(page).partition("`metadata`")[2].partition("\n\n")[0])) | {"metadata"}
    assert taken | ignored & fields == fields
    assert not taken & (ignored & fields)
    for name in ignored & fields:
        parse(ChatCompletionRequest, json.dumps({**HELLO, name: "x"}).encode())


def accepted(values: str) -> list[Any]:
    if values in ("none", "没有"):
        return [None]
    found = re.findall(r"`([^`]+)`", values) or [values]
    return [json.loads(value) for value in found]


@pytest.mark.parametrize("page", ["docs/http.md", "docs/http.zh.md"])
def test_every_field_of_chatglms_interface_is_on_the_page(page: str) -> None:
    heading = next(
        line for line in text(page).splitlines() if line.startswith("## ") and "ChatGLM-6B" in line
    )
    assert [KEYS.findall(name)[0] for name, *_ in rows(page, heading)] == list(ChatGlmRequest.model_fields)


@pytest.mark.parametrize("page", ["docs/http.md", "docs/http.zh.md"])
def test_every_route_for_programs_is_on_the_page(page: str) -> None:
    adapter = Path(REPOSITORY) / "adapters/glmbot_web"
    sources = "".join(path.read_text("utf-8") for path in sorted(adapter.glob("*.py")))
    routes = re.findall(r'web\.(get|post)\("(/(?:v1/[a-z/]+|healthz|readyz|metrics|))["{]', sources)
    assert len(routes) >= 6
    for method, path in routes:
        assert f"`{method.upper()} {path}" in text(page), path
