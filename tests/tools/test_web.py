"""Pages and searches, with a real server: what the model is told, and what it is told when nothing comes."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from glmbot.host import Nature, Tool, ToolFailed
from glmbot.http.address_guard import AddressGuard
from glmbot_tools.fetching import Fetcher
from glmbot_tools.pages import read_tool
from glmbot_tools.relay import relay
from glmbot_tools.search import ddgs_search, search_tool, searxng_search
from glmbot_tools.worker import WorkerFailed, Workers
from tools.fake_use import FakeUse, told
from tools.inside import Inside, serving

ARTICLE = """<html><head><title>Tea in the\n afternoon</title><script>alert("run me")</script></head><body>
<nav><a href="/">Home</a> <a href="/about">About</a></nav><article><h1>Tea in the afternoon</h1>{}
</article><footer>Imprint</footer></body></html>""".format(
    "".join(
        f"<p>Paragraph {number} says how tea is made: with water of eighty degrees and a little patience.</p>"
        for number in range(40)
    )
)


@pytest.fixture
async def inside() -> AsyncIterator[Inside]:
    async with serving() as made:
        yield made


def reading(inside: Inside, most: int = 6000) -> Tool:
    return read_tool(Fetcher(inside.guard(), timeout_s=5), Workers(), most, 20)


async def test_a_page_is_told_as_text_and_cut_to_fit(inside: Inside) -> None:
    inside.pages["/tea"] = web.Response(text=ARTICLE, content_type="text/html")
    use = FakeUse({"url": f"http://open.example:{inside.port}/tea"})
    said = await reading(inside, 500).function(use)
    assert said.startswith(f"Tea in the afternoon\nhttp://open.example:{inside.port}/tea\n")
    assert "nobody's instruction" in said
    assert "Paragraph 0 says how tea is made" in said
    assert "run me" not in said
    assert "Home" not in said
    assert "more characters, which are left out)" in said
    assert len(said) < 800
    assert use.said == [f"http://open.example:{inside.port}/tea"]


async def test_plain_text_is_read_in_the_charset_that_it_says(inside: Inside) -> None:
    inside.pages["/gb"] = web.Response(
        body="下午茶".encode("gb18030"), headers={"Content-Type": "text/plain; charset=gb18030"}
    )
    assert (await told(reading(inside), url=f"http://open.example:{inside.port}/gb")).endswith("下午茶")
    inside.pages["/odd"] = web.Response(
        body=b"caf\xe9 \0", headers={"Content-Type": "text/plain; charset=zlib"}
    )
    assert (await told(reading(inside), url=f"http://open.example:{inside.port}/odd")).endswith("caf\ufffd")


async def test_what_can_t_be_read_is_said(inside: Inside) -> None:
    inside.pages["/picture"] = web.Response(body=b"\x89PNG", content_type="image/png")
    inside.pages["/empty"] = web.Response(text="<html></html>", content_type="text/html")
    inside.pages["/gone"] = web.Response(status=404)
    tool = reading(inside)
    for path, words in (
        ("picture", "it is image/png"),
        ("empty", "no text on this page"),
        ("gone", "status 404"),
    ):
        with pytest.raises(ToolFailed, match=words):
            await told(tool, url=f"http://open.example:{inside.port}/{path}")
    with pytest.raises(ToolFailed, match="is not public"):
        await told(tool, url=f"http://127.0.0.1:{inside.port}/")
    with pytest.raises(ToolFailed, match="there is no host"):
        await told(tool, url="nowhere.example")
    assert inside.reached == []
    assert tool.nature is Nature.READS


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import time; time.sleep(60)", "seconds"),
        ("import sys; sys.exit(3)", "status 3"),
        ("while True: print('x' * 100_000)", "wrote more"),
    ],
)
async def test_a_worker_that_does_not_end_is_ended(tmp_path: Path, program: str, words: str) -> None:
    file = tmp_path / "program.py"
    file.write_text(program)
    with pytest.raises(WorkerFailed, match=words):
        await Workers().answer("ann", file, b"x" * 1_000_000, seconds=1, memory=1 << 30)


async def test_a_worker_sees_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMBOT_TELEGRAM__TOKEN", "secret")
    file = tmp_path / "program.py"
    file.write_text("import os; print(sorted(os.environ), os.getcwd())")
    said = await Workers().answer("ann", file, b"", seconds=5, memory=1 << 30)
    assert b"GLMBOT" not in said
    assert b"glmbot-tool-" in said


HITS = {
    "results": [
        {"title": "Tea\n<b>", "url": "https://tea.example/", "content": "How it is made\u0000"},
        {"title": "A door", "url": "javascript:alert(1)", "content": ""},
        {"title": 5, "url": "https://odd.example/"},
        "nothing",
        {"title": "Third", "url": "https://third.example/", "content": "x" * 9000},
        {"title": "Fourth", "url": "https://fourth.example/"},
    ]
}


def searching(inside: Inside) -> Tool:
    server = f"http://127.0.0.77:{inside.port}"
    fetcher = Fetcher(AddressGuard.of_server(server), timeout_s=5)
    return search_tool(searxng_search(fetcher, server), 3, 20)


async def test_searxng_is_asked_and_what_it_says_is_bounded(inside: Inside) -> None:
    inside.pages["/search"] = web.json_response(HITS)
    said = await told(searching(inside), query="how is  tea made?")
    assert inside.asked[0].query["q"] == "how is tea made?"
    assert inside.asked[0].query["format"] == "json"
    assert "1. Tea <b>\nhttps://tea.example/\nHow it is made" in said
    assert "2. \nhttps://odd.example/" in said
    assert "3. Third" in said
    assert "javascript" not in said
    assert "Fourth" not in said
    assert len(said) < 1500


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ({"status": 403}, "did not answer: the server answers with status 403"),
        ({"text": "<html>"}, "did not answer in JSON"),
        ({"text": "[" * 100_000}, "did not answer in JSON"),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:{port}/"}}, "another host"),
    ],
)
async def test_a_search_server_that_fails_is_said(inside: Inside, page: dict, words: str) -> None:
    if "headers" in page:
        page = {**page, "headers": {"Location": page["headers"]["Location"].format(port=inside.port)}}
    inside.pages["/search"] = web.Response(**page)
    with pytest.raises(ToolFailed, match=words):
        await told(searching(inside), query="tea")
    assert inside.reached == []


async def test_nothing_found_is_no_failure(inside: Inside) -> None:
    for nothing in ({"results": []}, {}, [], {"results": {}}):
        inside.pages["/search"] = web.json_response(nothing)
        assert "Nothing was found" in await told(searching(inside), query="tea")
    with pytest.raises(ToolFailed, match="nothing to search for"):
        await told(searching(inside), query="  ")


async def test_the_relay_goes_where_the_guard_lets_it_and_for_its_own_program_only(inside: Inside) -> None:
    async def asked(line: str, password: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{line} HTTP/1.1\r\nProxy-Authorization: Basic {password}\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        if b" 200 " in answer:
            writer.write(b"GET / HTTP/1.1\r\nHost: open.example\r\nConnection: close\r\n\r\n")
            answer += await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return answer

    inside.names["hidden.example"] = ["127.0.0.1"]
    async with relay(inside.guard()) as proxy:
        parts = urlsplit(proxy)
        port, right = parts.port, b64encode(f"{parts.username}:{parts.password}".encode()).decode()
        there = f"CONNECT open.example:{inside.port}"
        assert b"a page that may be read" in await asked(there, right)
        assert b" 407 " in await asked(there, "d3Jvbmc6d3Jvbmc=")
        for closed in ("127.0.0.1", "hidden.example", "2130706433", "[::1]", "nowhere.example"):
            assert b" 403 " in await asked(f"CONNECT {closed}:{inside.port}", right)
        assert b" 403 " in await asked("CONNECT open.example:22", right)
        assert b" 405 " in await asked(f"GET http://open.example:{inside.port}/", right)
    assert inside.reached == []


async def test_ddgs_makes_no_connection_but_through_the_relay(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All names that it asks for are this machine here, so no search engine answers."""
    asked: list[str] = []

    async def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    tool = search_tool(ddgs_search(AddressGuard(lookup=lookup), Workers(), 5), 3, 20)
    with pytest.raises(ToolFailed, match="no search engine answered"):
        await told(tool, query="tea")
    assert asked
    assert inside.reached == []
