"""Waiting for what a store or a server will say, and comparing texts across renderings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["letters", "until_async"]


async def until_async(ask: Callable[[], Awaitable[Any]], holds: Callable[[Any], bool]) -> None:
    for _ in range(3000):
        if holds(await ask()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("still not true after 30 s")


def letters(text: str) -> str:
    """What of a text survives rendering whatever its Markdown: letters and digits."""
    return "".join(char for char in text if char.isalnum())
