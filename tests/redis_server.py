"""A Redis server of a test's own, which can be killed and started again."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from conftest import free_port

__all__ = ["Server"]


class Server:
    """One redis-server of our own, which survives being killed by its append-only file."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options, self.port = folder, options, free_port()
        self._process: asyncio.subprocess.Process

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            "redis-server", "--port", str(self.port), "--dir", str(self.folder), "--save", "", "--appendonly", "yes",
            "--enable-debug-command", "yes", "--busy-reply-threshold", "100", *self.options,
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(20):
            while True:
                with suppress(RedisError, OSError):
                    await self.ask("PING")
                    return
                await asyncio.sleep(0.05)

    async def ask(self, *command: str) -> Any:
        client = Redis(port=self.port, decode_responses=True)
        try:
            return await client.execute_command(*command)
        finally:
            await client.aclose()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> None:
        await self._process.wait()

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        await self.ended()
