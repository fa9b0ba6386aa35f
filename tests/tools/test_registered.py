"""The plug-in comes in by the door like any other; what can't be used is left out, and is said."""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

import glmbot.plugins
import glmbot_tools
from conftest import REPOSITORY
from glmbot.host import Nature
from glmbot.plugins import Plugin, Plugins, load_plugins

ALL = {
    "current_time": Nature.PURE,
    "date_difference": Nature.PURE,
    "calculate": Nature.PURE,
    "convert_units": Nature.PURE,
    "python": Nature.PURE,
    "web_read": Nature.READS,
    "web_search": Nature.READS,
    "remind_me": Nature.READS,
    "start_poll": Nature.READS,
    "list_reminders": Nature.READS,
    "cancel_reminder": Nature.READS,
}


def loaded(monkeypatch: pytest.MonkeyPatch, **table: Any) -> tuple[Plugins, Plugin]:
    entry = EntryPoint("tools", "glmbot_tools:register", "glmbot.plugins")

    def entries() -> Iterator[tuple[str, EntryPoint]]:
        yield "tools", entry

    monkeypatch.setattr(glmbot.plugins, "_entries", entries)
    plugins = load_plugins({"tools": table} if table else {}, quiet=True)
    return plugins, next(each for each in plugins.found if each.name == "tools")


def test_it_is_found_where_the_project_says() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["glmbot.plugins"]["tools"] == "glmbot_tools:register"
    assert "plugins/glmbot_tools" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_all_tools_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins, plugin = loaded(monkeypatch)
    assert plugin.trouble == ""
    assert {name: each.tool.nature for name, each in plugins.tools.items()} == ALL
    for each in plugins.tools.values():
        assert each.tool.title.keys() == {"en", "zh"}
        assert each.tool.parameters["additionalProperties"] is False
    assert plugin.notes == []
    assert plugins.commands.keys() == {"reminders", "poll"}
    assert plugins.backgrounds.keys() == {"reminders"}


@pytest.mark.parametrize(
    ("library", "tool"),
    [
        ("pint", "convert_units"),
        ("trafilatura", "web_read"),
        ("ddgs", "web_search"),
        ("pydantic_monty", "python"),
    ],
)
def test_a_tool_whose_library_is_missing_is_left_out_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, library: str, tool: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(glmbot_tools, "find_spec", lambda name: None if name == library else found(name))
    plugins, plugin = loaded(monkeypatch)
    assert plugins.tools.keys() == ALL.keys() - {tool}
    assert plugin.notes == [f"without {tool}: {library} is not installed (pip install 'glmbot[tools]')"]


def test_what_the_operator_leaves_out_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins, _ = loaded(monkeypatch, leave_out=["web_search", "date_difference"])
    assert plugins.tools.keys() == ALL.keys() - {"web_search", "date_difference"}
    plugins, _ = loaded(monkeypatch, leave_out=["remind_me"])
    assert plugins.tools.keys() == ALL.keys() - {"remind_me", "list_reminders", "cancel_reminder"}
    assert not plugins.backgrounds


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"leave_out": ["web_serach"]}, "'web_serach', and there are these"),
        ({"ports": [0]}, "greater than or equal to 1"),
        ({"allowed_networks": ["192.168.0.1/24"]}, "write networks like"),
        ({"searxng": "localhost:8888"}, "write the address of a SearXNG server"),
        ({"page_bites": 5}, "has no key 'page_bites'"),
    ],
)
def test_wrong_settings_leave_it_out_and_say_why(
    monkeypatch: pytest.MonkeyPatch, table: dict[str, Any], words: str
) -> None:
    plugins, plugin = loaded(monkeypatch, **table)
    assert words in plugin.trouble
    assert not plugins.tools
