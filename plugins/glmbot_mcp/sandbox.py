"""How a server's program is run: with an environment and a folder of its own, and walled in by bubblewrap
(https://github.com/containers/bubblewrap) where that works."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from glmbot_mcp.settings import Sandbox, ServerSettings

__all__ = ["NoSandbox", "bubblewrap_works", "clean_environment", "command_for", "walled"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a program needs to run and to find hosts by name; nothing there is anybody's own.
_SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/ssl",
)
_PROBE_S = 10.0


class NoSandbox(Exception):
    """Its words are for the operator."""


def clean_environment(settings: ServerSettings, home: Path) -> Mapping[str, str]:
    """Nothing of the bot's own but where programs are."""
    own = {name: value.get_secret_value() for name, value in settings.env.items()}
    return {"PATH": os.environ.get("PATH", _PATH), "HOME": str(home), "LANG": "C.UTF-8", **own}


def walled(settings: ServerSettings, home: Path, program: str) -> Sequence[str]:
    """The command with bubblewrap before it: `program` is where that is. The environment is handed on, not
    written here: other people's `ps` shows arguments."""
    wall = [program, "--unshare-all", "--die-with-parent", "--new-session"]
    if settings.network:
        wall.append("--share-net")
    for path in _SYSTEM:
        wall += ["--ro-bind-try", path, path]
    wall += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108
    for folder in settings.read:
        wall += ["--ro-bind", str(folder), str(folder)]
    for folder in settings.write:
        wall += ["--bind", str(folder), str(folder)]
    wall += ["--bind", str(home), str(home), "--chdir", str(home), "--"]
    return [*wall, *settings.command]


async def command_for(settings: ServerSettings, home: Path) -> Sequence[str]:
    """Raises NoSandbox where one is required and there is none."""
    if settings.sandbox is Sandbox.OFF:
        return settings.command
    program = shutil.which("bwrap")
    if program is not None and await bubblewrap_works(program):
        return walled(settings, home, program)
    if settings.sandbox is Sandbox.REQUIRED:
        raise NoSandbox("bubblewrap is not installed, or can't be used here, and sandbox is required")
    return settings.command


async def bubblewrap_works(program: str) -> bool:
    """It does not in many containers, and where people may make no namespaces."""
    process = await asyncio.create_subprocess_exec(
        program, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": _PATH},
    )  # fmt: skip
    try:
        async with asyncio.timeout(_PROBE_S):
            return await process.wait() == 0
    except TimeoutError:
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
