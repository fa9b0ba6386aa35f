"""Where a platform for tests listens: a port of this machine that the system chooses."""

from __future__ import annotations

from aiohttp import web

__all__ = ["Listener"]


class Listener:
    def __init__(self) -> None:
        self._runner: web.AppRunner | None = None

    async def open(self, app: web.Application, *, port: int = 0, cancels: bool = False) -> str:
        """Returns the host and the port. port: one that was had before; cancels: whether an answer ends with its
        connection."""
        self._runner = web.AppRunner(app, handler_cancellation=cancels, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()
        return f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
