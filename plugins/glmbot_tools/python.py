"""The tool `python`: a short program, in a sandbox that has nothing to reach."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from glmbot.host import Nature, Tool, ToolFailed, ToolUse
from glmbot_tools.clock import zone_named
from glmbot_tools.worker import WorkerFailed, Workers

__all__ = ["python_tool"]

_LONGEST_CODE = 20_000
_LONGEST_TOLD = 4000
# Beside that of the program: an interpreter of Python, and Monty's.
_OWN_S, _OWN_BYTES = 3, 2 << 30


def python_tool(workers: Workers, seconds: float, memory: int) -> Tool:
    async def python(use: ToolUse) -> str:
        code = str(use.arguments["code"])
        if not code.strip() or len(code) > _LONGEST_CODE:
            raise ToolFailed(f"A program has 1 to {_LONGEST_CODE:,} characters.")
        zone = zone_named(use.timezone)
        wish = {
            "code": code,
            "seconds": seconds,
            "memory": memory,
            "zone": "utc" if zone is None else zone.key,
        }
        try:
            answer = await workers.answer(
                use.user,
                _worker(),
                json.dumps(wish).encode(),
                seconds=math.ceil(seconds) + _OWN_S,
                memory=memory + _OWN_BYTES,
            )
            came: dict[str, Any] = json.loads(answer)
            printed, value, failed = (str(came[key]) for key in ("printed", "value", "failed"))
        except (WorkerFailed, ValueError, KeyError, TypeError) as error:
            raise ToolFailed("The program was ended: it took too much time or memory.") from error
        if failed:
            raise ToolFailed("\n".join(filter(None, (_cut(printed), f"The program failed: {_end(failed)}"))))
        if not printed and not value:
            return "The program ended, and printed nothing."
        return _cut("\n".join(filter(None, (printed.rstrip("\n"), value))))

    return Tool(
        "python",
        "Runs a short Python program, and tells what it prints and the value of its last line. It has no files, no"
        " network and few modules (math, re, json, datetime, random and the like).",
        {
            "type": "object",
            "properties": {"code": {"type": "string", "maxLength": _LONGEST_CODE}},
            "required": ["code"],
            "additionalProperties": False,
        },
        python,
        Nature.PURE,
        timeout_s=2 * (seconds + _OWN_S) + 10,
        title={"en": "Python", "zh": "Python"},
    )


def _worker() -> Path:
    """Found without being imported: only the process of its own has the library in it."""
    spec = find_spec("glmbot_tools.python_worker")
    if spec is None or spec.origin is None:
        raise WorkerFailed("its program is not installed")
    return Path(spec.origin)


def _cut(text: str) -> str:
    left = len(text) - _LONGEST_TOLD
    return text if left <= 0 else f"{text[:_LONGEST_TOLD]}\n[{left:,} more characters are left out]"


def _end(text: str) -> str:
    """The end of a traceback says most."""
    return text if len(text) <= 1000 else f"… {text[-1000:]}"
