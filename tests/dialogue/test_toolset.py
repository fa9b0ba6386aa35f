"""Arguments are held to a schema of anybody's, and where that can't be done nothing is called."""

from __future__ import annotations

from dialogue.tool_world import tool
from glmbot.dialogue.toolset import unfit
from glmbot.host import ToolUse


async def _nothing(_: ToolUse) -> str:
    return ""


def test_what_breaks_the_check_does_not_fit() -> None:
    schema = {"type": "object", "properties": {"q": {"multipleOf": 0.1}}}
    assert unfit(tool("count", _nothing, parameters=schema), {"q": 10**400}).endswith("OverflowError")
    assert not unfit(tool("count", _nothing, parameters=schema), {"q": 1})
