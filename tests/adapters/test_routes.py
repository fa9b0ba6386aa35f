"""What adapters answer over HTTP, at [web]'s server and at addresses of their own; what is refused, and in which words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from pydantic import SecretStr

from adapters.waiting import running
from adapters.web_site import ScriptedDialogue
from conftest import free_port
from glmbot.app import adapter_settings, adapters
from glmbot.config.load import load_configuration
from glmbot.errors import AdapterError, StoreError
from glmbot.http.quiet import Quiet
from glmbot.http.registry import Routes
from glmbot.http.routes import Address, HttpAnswer, HttpCall, Route
from glmbot.platforms import check_routes, plugin_route_complaints
from glmbot.ports import Dialogue
from glmbot_web.adapter import WebAdapter, WebSettings

HEADERS = {"X-Secret": "right"}


def admits(headers: Mapping[str, str]) -> bool:
    return headers.get("x-secret") == "right"


class Panic(BaseException):
    """What a library in Rust raises."""


async def handle(call: HttpCall) -> HttpAnswer:
    match call.body:
        case b"raise":
            raise TypeError("a bug")
        case b"panic":
            raise Panic
        case b"store":
            raise StoreError("the disk is full")
        case b"slow":
            await asyncio.sleep(60)
        case _:
            pass
    return HttpAnswer(text=f"{call.method} {call.query.get('a', '')} {call.body.decode()}")


def route(path: str = "/hook", **changes: Any) -> Route:
    return Route(path, changes.pop("admits", admits), handle, most_bytes=1000, **changes)


@asynccontextmanager
async def site(*routes: Route) -> AsyncGenerator[tuple[str, aiohttp.ClientSession]]:
    opened = Routes()
    page = WebAdapter(WebSettings(port=0), cast(Dialogue, ScriptedDialogue()))
    async with running(page, opened), aiohttp.ClientSession() as client:
        await opened.open("ours", routes)
        yield page.url, client
        await opened.close("ours")


@pytest.mark.parametrize("way", ["[web]", "a door"])
async def test_a_route_answers_whom_it_admits_within_its_bounds_and_its_faults_are_its_own(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    door = Address("127.0.0.1", port) if way == "a door" else None
    async with site(route(most_s=1.0, door=door)) as (url, client):
        base = url if door is None else f"http://{door}"

        async def status(
            body: bytes = b"hi", method: str = "POST", headers: Mapping[str, str] = HEADERS
        ) -> int:
            given = {**HEADERS, **headers}
            async with client.request(method, f"{base}/hook?a=b", data=body, headers=given) as response:
                return response.status

        async with client.post(f"{base}/hook?a=b", data=b"hi", headers=HEADERS) as response:
            assert (response.status, await response.text()) == (200, "POST b hi")
        assert await status(headers={"X-Secret": "wrong"}) == 401
        assert await status(method="PUT") == 405
        assert await status(b"x" * 1001) == 413
        assert await status(headers={"Content-Encoding": "gzip"}) == 415
        assert await status(b"slow") == 503
        assert await status(b"store") == 503
        for _ in range(3):
            assert await status(b"raise") == 500
            assert await status(b"panic") == 500
        # A proxy passes the public name on, and whom it speaks for.
        assert await status(headers={"Host": "bot.example.org", "X-Forwarded-For": "203.0.113.9"}) == 200

        async def pieces(count: int) -> AsyncGenerator[bytes]:
            for _ in range(count):
                yield b"x" * 500
                await asyncio.sleep(0.7)

        for count, answered in ((3, 413), (2, 408)):
            async with client.post(f"{base}/hook", data=pieces(count), headers=HEADERS) as response:
                assert response.status in {answered, 408}
        assert await status() == 200
        async with client.get(f"{url}/healthz") as response:
            assert response.status == 200
    lines = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert len(lines) == 2, "one line of each kind"
    assert "right" not in caplog.text


async def test_a_route_that_can_not_say_whom_it_admits_admits_nobody() -> None:
    def broken(_: Mapping[str, str]) -> bool:
        raise ValueError("a bug")

    async with site(route(admits=broken)) as (url, client):
        async with client.post(f"{url}/hook", headers=HEADERS) as response:
            assert response.status == 401
        async with client.get(f"{url}/healthz") as response:
            assert response.status == 200


async def test_a_page_of_the_servers_own_is_no_adapters_and_what_is_closed_is_gone() -> None:
    async with (
        site(route("/healthz", methods=frozenset({"GET", "POST"}))) as (url, client),
        client.get(f"{url}/healthz", headers=HEADERS) as response,
    ):
        assert (await response.json())["status"] == "ok"
    routes = Routes()
    await routes.open("one", [route()])
    with pytest.raises(AdapterError, match=r"\[two\] and \[one\]"):
        await routes.open("two", [route(), route("/other")])
    assert routes.find("/other") is None
    await routes.open("one", [route()])
    await routes.close("one")
    assert routes.find("/hook") is None
    await routes.close("one")


def test_all_that_the_server_answers_by_itself_is_its_own() -> None:
    async def paths() -> list[str]:
        page = WebAdapter(WebSettings(port=0), cast(Dialogue, ScriptedDialogue()))
        async with running(page):
            runner: Any = page._runner  # pyright: ignore[reportPrivateUsage]
            return [str(resource.canonical) for resource in runner.app.router.resources()]

    assert [path for path in asyncio.run(paths()) if not WebAdapter.owns(path)] == []


async def test_a_door_that_can_not_be_opened_leaves_nothing_open() -> None:
    routes, port = Routes(), free_port()
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    free = free_port()
    with pytest.raises(AdapterError, match=f"{port} can't be listened on"):
        await routes.open(
            "ours",
            [route("/a", door=Address("127.0.0.1", free)), route("/b", door=Address("127.0.0.1", port))],
        )
    assert routes.find("/a") is None
    again = await asyncio.start_server(lambda *_: None, "127.0.0.1", free)
    for server in (taken, again):
        server.close()


WEBHOOK = '[telegram]\ntoken = "x"\nwebhook_url = "https://bot.example.org{path}"\n'
FILES = [
    # As earlier releases had it, with a port of its own, told or not.
    (WEBHOOK, "", "/telegram", ""),
    (WEBHOOK + "webhook_port = 9000\n", "", "/telegram", ""),
    (WEBHOOK + "webhook_port = 9000\n", "", "", ""),
    (WEBHOOK + "webhook_port = 9000\n", "[web]\n", "/telegram", ""),
    (WEBHOOK + "webhook_port = 0\n", "[web]\n", "/telegram", ""),
    (WEBHOOK + "webhook_port = 0\n", "", "/telegram", r"webhook_url .* write the section \[web\].*or set .*webhook_port"),
    (WEBHOOK + "webhook_port = 0\n", "[web]\n", "", r"one of \[web\]'s own; take another, such as /telegram"),
    (WEBHOOK + "webhook_port = 0\n", "[web]\n", "/v1/hook", r"one of \[web\]'s own"),
    (WEBHOOK + "webhook_port = 8080\n", "[web]\n", "/telegram", r"where \[web\] listens.*to 0"),
]  # fmt: skip


@pytest.mark.parametrize(("telegram", "web", "path", "words"), FILES)
def test_an_operators_file_works_or_is_refused_with_what_to_write(
    tmp_path: Path, telegram: str, web: str, path: str, words: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(telegram.replace("{path}", path) + web)
    configuration = load_configuration(file, adapter_settings(), {})
    if not words:
        check_routes(adapters(), configuration.adapters)
        return
    with pytest.raises(AdapterError, match=words):
        check_routes(adapters(), configuration.adapters)


async def test_what_plug_ins_answer_is_answered_by_web_and_without_it_that_is_said_and_no_more() -> None:
    makers, routes = adapters(), {"/plugins/a/hook": route("/plugins/a/hook")}
    assert plugin_route_complaints(makers, {"web": WebSettings()}, routes) == []
    assert plugin_route_complaints(makers, {}, {}) == []
    (words,) = plugin_route_complaints(makers, {}, routes)
    assert "write the section [web]" in words
    async with site(*routes.values()) as (url, client):
        async with client.post(f"{url}/plugins/a/hook", data=b"hi", headers=HEADERS) as response:
            assert (response.status, await response.text()) == (200, "POST  hi")
        async with client.post(f"{url}/plugins/a/other", headers=HEADERS) as response:
            assert response.status == 404


def test_the_settings_tell_where_the_webhook_is_answered() -> None:
    telegram: Any = adapter_settings()["telegram"]
    here = telegram(token=SecretStr("x"), webhook_url="https://b.example.org/h", webhook_port=9000)
    assert "127.0.0.1:9000" in here.advice()[0][1]
    assert telegram(token=SecretStr("x")).advice() == ()


def test_of_each_kind_of_fault_one_line_in_a_few_seconds_is_let_through() -> None:
    now = 0.0
    quiet = Quiet(lambda: now)
    assert [quiet.lets(kind) for kind in ("a", "a", "b", "x" * 10_000, "x" * 20_000)] == [
        *(True, False, True),
        *(True, False),
    ]
    now = 5.0
    assert [quiet.lets(kind) for kind in ("a", "a")] == [True, False]
    # However many kinds there are, only so many are remembered.
    assert all(quiet.lets(f"{number}") for number in range(10_000))
    assert len(quiet._told) <= 100
