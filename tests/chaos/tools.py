"""kill -9 before, in and after a call of a tool that acts: it is done once at most, and what nobody knows is said."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from chaos.kills import HERE, Counts
from redis_server import Server

__all__ = ["tool_kills", "wrong_with"]


async def tool_kills(only: str) -> Counts:
    """`only`: a part of "tools"."""
    counts = Counts()
    if only not in "kill -9 around calls of tools":
        return counts
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        await server.start()
        for kind in ("sqlite", "redis"):
            for found in await _lives(kind, server.url, Path(folder)):
                counts.add(f"{kind}: tools: kill {' '.join(map(str, found['point']))}", wrong_with(found))
        await server.stop()
    return counts


async def _lives(kind: str, url: str, folder: Path) -> list[dict[str, Any]]:
    root = HERE.parent.parent
    paths = os.pathsep.join(map(str, (root, root / "tests", root / "adapters", root / "plugins")))
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "tool_lives.py"), kind, url, str(folder),
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    said, _ = await process.communicate()
    return [json.loads(line) for line in said.decode().splitlines()]


def wrong_with(found: dict[str, Any]) -> list[str]:
    """What is wrong after the second life."""
    when, what, _ = found["point"]
    wrong: list[str] = []
    if found["codes"] != [0 if when == "never" else -signal.SIGKILL, 0]:
        wrong.append(f"the two lives ended with {found['codes']}")
    if found["done"] > 1:
        wrong.append(f"it was done {found['done']} times")
    if found.get("answers") != ["Done."]:
        wrong.append(f"the answers are {found.get('answers')}")
    if not found["done"] and not found.get("unknown"):
        wrong.append("it was not done, and nobody is told")
    if what == "act" and when != "never" and not found.get("unknown"):
        wrong.append("nobody is told that it is unknown whether it was done")
    return wrong
