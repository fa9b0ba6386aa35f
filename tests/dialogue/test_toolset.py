"""Arguments are held to a schema of anybody's, and where that can't be done nothing is called."""

from __future__ import annotations

import time

import pytest

from dialogue.tool_world import tool
from glmbot.content import ToolCall
from glmbot.dialogue import schema_check
from glmbot.dialogue.completion_turns import check_calls
from glmbot.dialogue.toolset import unfit
from glmbot.host import ToolUse
from glmbot.tools import Offer, ToolDescription


async def _nothing(_: ToolUse) -> str:
    return ""


def test_what_breaks_the_check_does_not_fit() -> None:
    schema = {"type": "object", "properties": {"q": {"multipleOf": 0.1}}}
    assert unfit(tool("count", _nothing, parameters=schema), {"q": 10**400}).endswith("OverflowError")
    assert not unfit(tool("count", _nothing, parameters=schema), {"q": 1})


def test_a_schema_that_can_be_looked_at_for_ever_is_looked_at_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schema_check, "_LONGEST_CHECK_S", 0.1)
    twice = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(60)}
    schema = {"type": "object", "$defs": {**twice, "a60": False}, "properties": {"q": {"$ref": "#/$defs/a0"}}}
    began = time.monotonic()
    assert unfit(tool("ask", _nothing, parameters=schema), {"q": 1}).endswith("TimeoutError")
    # Nor is it where a program offers it, and has the call held to it.
    described = ToolDescription("ask", "", schema, strict=True)
    check_calls([ToolCall("c1", "ask", '{"q": 1}')], Offer([described]))
    assert time.monotonic() - began < 5
    assert not unfit(tool("ask", _nothing), {"q": "1"})
