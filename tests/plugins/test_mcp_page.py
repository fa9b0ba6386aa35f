"""Servers that are added on the operator's page: real ones, and what may not be added."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest

from dialogue.test_door import in_a_new_store, with_plugins
from glmbot import plugins as door
from glmbot.dialogue.manager import DialogueManager
from glmbot.http.address_guard import AddressGuard
from glmbot.logs import RECENT_ERRORS, set_up_logging
from glmbot.plugins import load_plugins
from glmbot.store.base import Store
from glmbot.store.notes import book_in
from glmbot_mcp.kept import checked
from glmbot_mcp.panel import _where
from glmbot_mcp.servers import Servers
from glmbot_mcp.settings import FromPage, Sandbox, ServerSettings, Settings
from glmbot_mcp.streamable import _pinned
from plugins.mcp_world import SERVER, Use
from plugins.test_mcp_http import TOKEN, guarded, sdk_server, serving
from plugins.test_mcp_plugin import WORKS, table

COMMAND = [sys.executable, "-E", "-S", str(SERVER)]
SECRET = "never-shown-again"


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [EntryPoint(name, f"{package}:register", door.GROUP) for name, package in WORKS.items()]
    monkeypatch.setattr(door, "entry_points", lambda group: entries)


@asynccontextmanager
async def process(
    store: Store, folder: Path, **changes: Any
) -> AsyncGenerator[tuple[DialogueManager, Servers]]:
    given = {"folder": str(folder), "from_page": "programs", "allowed_networks": ["127.0.0.0/8"], **changes}
    plugins = load_plugins({"mcp": given})
    assert not plugins.troubles
    dialogue = with_plugins(store, plugins)
    servers = cast(Servers, plugins.toolboxes["mcp"].toolbox)
    run = asyncio.create_task(plugins.backgrounds["servers"].work(dialogue._powers))
    try:
        yield dialogue, servers
    finally:
        run.cancel()
        await asyncio.wait([run])


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 — other processes
            await asyncio.sleep(0.01)


async def row(dialogue: DialogueManager, name: str = "added") -> dict[str, Any]:
    panel = await dialogue.panel("mcp")
    assert panel is not None
    return next(each for each in panel["servers"] if each["name"] == name)


async def pid(servers: Servers) -> int:
    tool = next(each for each in servers.tools() if each.name == "added_env")
    return json.loads(await tool.function(Use()))["pid"]


async def test_a_server_is_added_switched_begun_anew_and_removed_while_the_bot_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wish = {"command": COMMAND, "env": {"KEY": SECRET}, "sandbox": "off"}
    async with in_a_new_store(tmp_path) as (_, store), process(store, tmp_path) as (dialogue, servers):
        with caplog.at_level(logging.DEBUG):
            done = await dialogue.panel_does("mcp", {"do": "add", "name": "added", "server": wish}, "en")
            assert done == "added was added."
            await until(lambda: bool(servers.tools()))
            shown = await row(dialogue)
            assert (shown["state"], shown["tools"], shown["secrets"]) == ("ready", 11, ["KEY"])
            assert SECRET not in json.dumps(await dialogue.panel("mcp"))
            # Another process of the same bot has it, too, and the next start.
            async with process(store, tmp_path / "other") as (_, others):
                await until(lambda: bool(others.tools()))
            first = await pid(servers)
            await dialogue.panel_does("mcp", {"do": "restart", "name": "added"}, "en")
            await until(lambda: not servers.tools())
            await until(lambda: bool(servers.tools()))
            assert await pid(servers) != first
            await dialogue.panel_does("mcp", {"do": "off", "name": "added"}, "en")
            await until(lambda: not servers.tools())
            assert (await row(dialogue))["on"] is False
            await dialogue.panel_does("mcp", {"do": "on", "name": "added"}, "en")
            await until(lambda: bool(servers.tools()))
            with pytest.raises(ValueError, match="there is a server added"):
                await dialogue.panel_does("mcp", {"do": "add", "name": "added", "server": wish}, "en")
            await dialogue.panel_does("mcp", {"do": "remove", "name": "added"}, "en")
            await until(lambda: not servers.tools())
            with pytest.raises(ValueError, match="没有服务器 added"):
                await dialogue.panel_does("mcp", {"do": "on", "name": "added"}, "zh")
        assert SECRET not in caplog.text


async def test_two_who_add_at_once_leave_no_more_than_there_may_be(tmp_path: Path) -> None:
    wish = {"command": COMMAND, "sandbox": "off"}
    async with in_a_new_store(tmp_path) as (_, store):
        dialogue = with_plugins(
            store, load_plugins({"mcp": {"folder": str(tmp_path), "from_page": "programs"}})
        )
        adding = [
            dialogue.panel_does("mcp", {"do": "add", "name": f"added-{number:02}", "server": wish}, "en")
            for number in range(20)
        ]
        done = await asyncio.gather(*adding, return_exceptions=True)
        refused = [each for each in done if isinstance(each, ValueError)]
        kept = [note.name for note in await book_in(store, "mcp_servers").page()]
        assert len(kept) == 20 - len(refused) <= 16
        assert all("there are 16 servers already" in str(each) for each in refused)


async def test_one_that_was_replaced_between_two_looks_is_not_the_one_before(tmp_path: Path) -> None:
    async with in_a_new_store(tmp_path) as (_, store), process(store, tmp_path) as (dialogue, servers):
        settings = {"command": COMMAND, "sandbox": "off"}
        await dialogue.panel_does("mcp", {"do": "add", "name": "added", "server": settings}, "en")
        await until(lambda: bool(servers.tools()))
        first = await pid(servers)
        # As another process does it: this one looks when both is done.
        book = book_in(store, "mcp_servers")
        note = await book.get("added")
        assert note is not None
        await book.remove(note)
        other = {"on": True, "settings": {**settings, "env": {"KEY": SECRET}}}
        await book.put(type(note)("added", json.dumps(other)))
        servers.look()
        await until(lambda: not servers.tools())
        await until(lambda: bool(servers.tools()))
        assert await pid(servers) != first


async def test_a_server_at_an_address_is_added(tmp_path: Path) -> None:
    seen: list[str] = []
    async with (
        serving(guarded(sdk_server().streamable_http_app(), seen)) as port,
        in_a_new_store(tmp_path) as (_, store),
        process(store, tmp_path, from_page="addresses") as (dialogue, servers),
    ):
        url = f"http://127.0.0.1:{port}/mcp?key={SECRET}"
        in_path = ServerSettings(url="https://example.org/s/1f0b9c7e5d3a8642/mcp")
        assert _where(in_path) == "https://example.org/s/…/mcp"
        assert in_path.hidden == ["1f0b9c7e5d3a8642"]
        given = {"url": url, "token": TOKEN, "headers": {"X-Team": SECRET}, "nature": "pure"}
        await dialogue.panel_does("mcp", {"do": "add", "name": "far", "server": given}, "en")
        await until(lambda: any(tool.name == "far_count" for tool in servers.tools()))
        shown = await row(dialogue, "far")
        assert shown["where"] == f"http://127.0.0.1:{port}/mcp?…"
        assert SECRET not in json.dumps(shown)
        assert set(seen) == {SECRET}


async def test_those_of_the_configuration_are_shown_and_stay_as_they_are(tmp_path: Path) -> None:
    configured = table(tmp_path)["mcp"]["servers"]
    async with (
        in_a_new_store(tmp_path) as (_, store),
        process(store, tmp_path, servers=configured, from_page="nothing") as (dialogue, servers),
    ):
        await until(lambda: bool(servers.tools()))
        shown = await row(dialogue, "tiny")
        assert (shown["kept"], shown["where"]) == (False, f"{sys.executable} (+3)")
        assert "hidden-in-env" not in json.dumps(shown)
        for verb in ("remove", "off", "add"):
            wish = {"do": verb, "name": "tiny", "server": {"command": ["true"]}}
            with pytest.raises(ValueError, match=r"in the configuration|nothing may be added"):
                await dialogue.panel_does("mcp", wish, "en")
        assert servers.tools()


@pytest.mark.parametrize(
    ("may", "server", "why"),
    [
        ("nothing", {"url": "https://example.org/mcp"}, "nothing may be added"),
        ("addresses", {"command": ["sh"]}, "only addresses"),
        ("addresses", {"url": "http://127.0.0.1/mcp"}, "not public"),
        ("addresses", {"url": "http://169.254.169.254/mcp"}, "not public"),
        ("addresses", {"url": "http://0x7f.1/mcp"}, "in numbers|not public|no name"),
        ("addresses", {"url": "file:///etc/passwd"}, "url is an address"),
        ("addresses", {"url": "https://example.org/mcp", "token_file": "/etc/passwd"}, "token_file"),
        ("programs", {"command": ["sh"], "read": ["/"]}, "read can be set"),
        ("programs", {"command": ["sh"], "env": {"BAD NAME": SECRET}}, "no name of a variable"),
        ("programs", {"command": ["sh"], "env": {"A": 5}, "secret": SECRET}, "secret|env"),
        ("programs", {}, "one of them"),
        (
            "sandboxed",
            {"command": ["sh"], "env": {"LD_PRELOAD": SECRET}},
            "LD_PRELOAD is read by the sandbox",
        ),
        ("sandboxed", {"command": ["sh"], "env": {"GLIBC_TUNABLES": SECRET}}, "GLIBC_TUNABLES is read"),
        ("sandboxed", {"command": ["sh"], "network": True}, "network"),
    ],
)
def test_what_may_not_be_added_is_refused_and_says_no_secret(
    may: str, server: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        checked(Settings(from_page=FromPage(may)), server)
    assert SECRET not in str(refused.value)


def test_programs_of_the_page_are_walled_in_unless_the_operator_said_otherwise() -> None:
    given = {"command": ["sh"], "sandbox": "off"}
    walled_in = checked(Settings(from_page=FromPage.SANDBOXED), given)
    # What listens on this machine alone trusts whoever is on it.
    assert (walled_in.sandbox, walled_in.network) == (Sandbox.REQUIRED, False)
    free = checked(Settings(from_page=FromPage.PROGRAMS), given)
    assert (free.sandbox, free.network) == (Sandbox.OFF, True)


async def test_a_name_that_leads_elsewhere_the_second_time_gains_nothing() -> None:
    answers = iter((["93.184.216.34"], ["127.0.0.1"]))

    async def lookup(host: str, port: int) -> list[str]:
        return next(answers)

    guard = AddressGuard(lookup=lookup)
    request = httpx2.Request("POST", "https://tools.example.org/mcp", content=b"{}")
    pinned = await _pinned(request, guard)
    assert str(pinned.url) == "https://93.184.216.34/mcp"
    assert pinned.headers["Host"] == "tools.example.org"
    assert pinned.extensions["sni_hostname"] == "tools.example.org"
    with pytest.raises(httpx2.ConnectError, match="not public"):
        await _pinned(request, guard)


async def test_what_is_kept_and_damaged_or_no_longer_allowed_is_shown_and_not_run(tmp_path: Path) -> None:
    async with in_a_new_store(tmp_path) as (_, store):
        async with process(store, tmp_path) as (dialogue, _):
            wish = {"do": "add", "name": "added", "server": {"command": COMMAND, "sandbox": "off"}}
            await dialogue.panel_does("mcp", wish, "en")
        book = book_in(store, "mcp_servers")
        note = await book.get("added")
        assert note is not None
        async with process(store, tmp_path, from_page="addresses") as (dialogue, servers):
            assert "only addresses" in (await row(dialogue))["trouble"]
            await book.remove(note)
            await store.put_note("mcp_servers", type(note)("added", "{"), 1)
            assert (await row(dialogue))["trouble"]
            assert not servers.tools()


def test_what_is_hidden_while_it_runs_is_masked_and_stays_so(capsys: pytest.CaptureFixture[str]) -> None:
    from glmbot.logs import hide

    root = logging.getLogger()
    before = root.handlers[:]
    try:
        set_up_logging("INFO", [])
        assert hide([SECRET, "abc"]) == [SECRET]
        assert hide([SECRET]) == []
        logging.getLogger("x").warning("it is %s", SECRET)
        assert RECENT_ERRORS[-1].text == "it is [secret]"
    finally:
        root.handlers[:] = before
