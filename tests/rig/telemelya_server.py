"""telemelya's server without its object store, which only media need."""

from __future__ import annotations

import asyncio

from telemelya.server.app import main
from telemelya.server.media import media_manager


async def nothing() -> None:
    await asyncio.sleep(0)


media_manager.connect = nothing
media_manager.close = nothing
main()
