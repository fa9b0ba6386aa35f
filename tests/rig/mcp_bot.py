"""`glmbot run` with a model that calls what it is asked to: "call NAME {…}". For `mcp_servers.py`."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from importlib.metadata import EntryPoint
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "plugins"), str(ROOT / "adapters"), str(ROOT / "tests")]

from dialogue.tool_world import CallingEngine  # noqa: E402
from glmbot import engines, plugins  # noqa: E402
from glmbot.__main__ import main  # noqa: E402
from glmbot.content import ToolResult, parts_of  # noqa: E402
from glmbot.engine.base import CallSoFar, Conversation, FinishReason, Prepared, Progress, Sampling  # noqa: E402
from glmbot.engine.pool import Engines  # noqa: E402

_PLUGINS = {"commands": "glmbot_commands", "mcp": "glmbot_mcp", "moderation": "glmbot_moderation"}


class ObedientEngine(CallingEngine):
    async def generate(
        self, prepared: Prepared, sampling: Sampling, *, user: str, deadline_s: float | None = None
    ) -> AsyncGenerator[Progress, None]:
        conversation: Conversation = getattr(prepared, "conversation")  # noqa: B009
        came = parts_of(conversation.said, ToolResult)
        words = conversation.question
        if came:
            yield Progress(f"Result: {came[-1].text}", FinishReason.STOP, completion_tokens=1)
        elif words.startswith("call ") and conversation.offer.tools:
            _, name, arguments = words.split(" ", 2)
            calls = (CallSoFar("1", name, arguments),)
            yield Progress("", FinishReason.TOOL_CALLS, calls=calls, completion_tokens=1)
        else:
            yield Progress(f"Asked: {words}", FinishReason.STOP, completion_tokens=1)


if __name__ == "__main__":
    # Whether or not this environment was installed since there is such a plug-in.
    entries = [EntryPoint(name, f"{package}:register", plugins.GROUP) for name, package in _PLUGINS.items()]
    plugins.entry_points = lambda group: entries  # type: ignore[assignment]
    engines.engines_for = lambda *_: Engines.of(ObedientEngine(context_length=64_000))  # type: ignore[assignment]
    main()
