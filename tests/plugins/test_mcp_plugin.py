"""The plug-in as the bot has it: what it registers, and prompts as commands in a conversation."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

import pytest

from dialogue.test_door import in_a_new_store, last, with_plugins
from dialogue.test_tools import presses
from dialogue.tool_world import CallingEngine, Scene, called, said
from glmbot import doctor
from glmbot import plugins as door
from glmbot.bot import Bot
from glmbot.content import ToolResult, parts_of
from glmbot.dialogue.manager import DialogueManager
from glmbot.messages import ReplyState, Role
from glmbot.plugins import Plugins, load_plugins
from glmbot_mcp.calls import tools_for
from glmbot_mcp.connection import Connection
from glmbot_mcp.servers import Servers
from plugins.mcp_world import SERVER, becomes, running, tiny

WORKS = {"commands": "glmbot_commands", "moderation": "glmbot_moderation", "mcp": "glmbot_mcp"}


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [EntryPoint(name, f"{package}:register", door.GROUP) for name, package in WORKS.items()]
    monkeypatch.setattr(door, "entry_points", lambda group: entries)


def table(folder: Path, **changes: Any) -> dict[str, Any]:
    command = [sys.executable, "-E", "-S", str(SERVER)]
    server = {"command": command, "sandbox": "off", "env": {"KEY": "hidden-in-env"}, **changes}
    return {"mcp": {"folder": str(folder), "servers": {"tiny": server}}}


@asynccontextmanager
async def talking(folder: Path, **changes: Any) -> AsyncGenerator[tuple[DialogueManager, Plugins]]:
    plugins = load_plugins(table(folder, **changes))
    assert not plugins.troubles
    background = asyncio.create_task(plugins.backgrounds["servers"].work(cast(Bot, None)))
    servers = cast(Servers, plugins.toolboxes["mcp"].toolbox)
    await becomes(servers.connections[0], lambda: bool(servers.tools()))
    async with in_a_new_store(folder) as (_, store):
        yield with_plugins(store, plugins), plugins
    background.cancel()
    await asyncio.wait([background])


def test_without_servers_nothing_is_registered_and_the_sdk_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "glmbot_mcp.servers", raising=False)
    plugins = load_plugins({})
    assert not plugins.troubles
    assert not plugins.toolboxes
    assert "glmbot_mcp.servers" not in sys.modules


def test_without_the_sdk_the_plug_in_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with caplog.at_level(logging.CRITICAL):
        plugins = load_plugins(table(tmp_path))
    assert dict(plugins.troubles)["mcp"] == "its servers need the package mcp: pip install 'glmbot[mcp]'"


def test_secrets_of_servers_are_masked_in_logs(tmp_path: Path) -> None:
    tables = table(tmp_path)
    tables["mcp"]["servers"]["far"] = {
        "url": "https://e.org",
        "token": "hidden-token",
        "headers": {"X": "hidden-x"},
    }
    assert set(load_plugins(tables).secrets) == {"hidden-in-env", "hidden-token", "hidden-x"}


def test_doctor_shows_what_plug_ins_say_of_themselves(tmp_path: Path) -> None:
    plugins = load_plugins(table(tmp_path))
    plugins.advice.append(("broken", lambda: 1 / 0))  # type: ignore[arg-type, return-value]
    said = [(each.ok, each.words) for each in doctor._plugins(plugins)]
    assert (False, "tiny: it runs without a sandbox, and can read what the bot can read") in said
    assert (False, "it can't say: ZeroDivisionError") in said


async def test_tools_are_made_once_while_nothing_changes(tmp_path: Path) -> None:
    async with talking(tmp_path, timeout_s=7) as (_, plugins):
        toolbox = plugins.toolboxes["mcp"].toolbox
        assert all(one is other for one, other in zip(toolbox.tools(), toolbox.tools(), strict=True))
        assert {tool.timeout_s for tool in toolbox.tools()} == {7}


async def test_a_prompt_is_a_command_that_asks(tmp_path: Path) -> None:
    async with talking(tmp_path, prompts="everyone") as (dialogue, _):
        assert (await last(dialogue, "/tiny_greet all of you")).text == "You said: Greet all of you"
        shown = (await last(dialogue, "/mcp")).notice
        assert shown == "/tiny_greet who=… · A greeting\n/tiny_pair one=… [two=…]"
        assert (await last(dialogue, "/tiny_greet")).notice == "This prompt needs: who."
        assert (await last(dialogue, "/ask tiny greet me")).text == "You said: tiny greet me"
        listed = {each.name: each.description for each in dialogue.commands("en")}
        assert (listed["tiny_greet"], listed["tiny_pair"]) == ("A greeting", "ask with pair of tiny")
        assert "/tiny_greet" in (await last(dialogue, "/help")).notice


async def test_who_may_ask_no_more_reaches_no_server_with_a_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[str] = []
    real = Connection.asked

    def counted(self: Connection, *given: Any, **named: Any) -> Any:
        reached.append(self.name)
        return real(self, *given, **named)

    monkeypatch.setattr(Connection, "asked", counted)
    async with talking(tmp_path, prompts="everyone") as (dialogue, _):
        settings = replace(dialogue._in_force.settings, user_per_hour=1)
        dialogue.reconfigure(dialogue._people.access, settings, dialogue._in_force.moderation)
        assert "needs: who" in (await last(dialogue, "/tiny_greet")).notice
        assert reached == []
        assert (await last(dialogue, "/tiny_greet you")).text == "You said: Greet you"
        assert (await last(dialogue, "/tiny_greet you")).state is ReplyState.FAILED
        assert reached == ["tiny"]


async def test_prompts_are_the_administrators_until_they_are_opened(tmp_path: Path) -> None:
    async with talking(tmp_path) as (dialogue, _):
        refused = await last(dialogue, "/tiny_greet me")
        assert refused.notice == "There is no prompt greet that you can use. See /mcp."
        assert (await last(dialogue, "/mcp")).notice == "There is nothing here that you can use."
        assert "tiny_greet" not in {each.name for each in dialogue.commands("en")}
        assert "tiny_greet" in {each.name for each in dialogue.commands("en", Role.ADMIN)}


async def test_a_tool_of_a_server_asks_by_buttons_in_a_conversation(tmp_path: Path) -> None:
    async with running(tmp_path, tiny(nature="pure")) as server, in_a_new_store(tmp_path) as (_, store):
        scene = Scene(store, CallingEngine(called(("tiny_ask", {})), "end"), tools_for(server))
        question = said("go on")
        assert (await scene.ask(question, presses(scene, question, "Yes"))).text == "end"
        result = parts_of(scene.engine.asked[-1].said, ToolResult)[0]
        assert json.loads(result.text) == {"action": "accept", "content": {"sure": True}}
        assert any("tiny asks: Go on? Sure?" in reply.notice for reply in scene.seen)


async def test_what_a_server_says_of_its_tools_opens_none(tmp_path: Path) -> None:
    async with running(tmp_path, tiny()) as server, in_a_new_store(tmp_path) as (_, store):
        scene = Scene(store, CallingEngine(called(("tiny_echo", {"text": "x"})), "end"), tools_for(server))
        await scene.ask(said("go on"))
        assert "tiny_echo" not in [tool.name for tool in scene.engine.asked[0].offer.tools]
        assert "There is no tool tiny_echo here." in parts_of(scene.engine.asked[-1].said, ToolResult)[0].text
