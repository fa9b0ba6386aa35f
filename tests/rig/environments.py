"""Environments of the rig: packages of others, each in a place of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["environment"]


async def environment(folder: Path, packages: Sequence[str]) -> Path | None:
    """Its folder, None where it can't be installed."""
    done = " ".join(packages)
    if (told := folder / "installed").exists() and told.read_text() == done:
        return folder
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", *packages],
    ):
        installed = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
        if await installed.wait() != 0:
            return None
    told.write_text(done)
    return folder
