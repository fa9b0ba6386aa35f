"""The routes that are open: those of all adapters, found by their paths."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from glmbot.errors import AdapterError
from glmbot.http.door import Door
from glmbot.http.routes import Route

__all__ = ["Routes"]


class Routes:
    """Of all adapters. Each opens its own before it starts."""

    def __init__(self) -> None:
        self._by_path: dict[str, tuple[str, Route]] = {}
        self._doors: dict[str, list[Door]] = {}

    def find(self, path: str) -> Route | None:
        found = self._by_path.get(path)
        return None if found is None else found[1]

    async def open(self, owner: str, routes: Sequence[Route]) -> None:
        """Raises AdapterError when another has that path, or a door can't be opened; then none is open."""
        for route in routes:
            other, _ = self._by_path.get(route.path, (owner, route))
            if other != owner:
                raise AdapterError(
                    f"[{owner}] and [{other}] both want the path of one route: change one of them"
                )
        doors = self._doors[owner] = []
        try:
            for route in routes:
                if route.door is not None:
                    door = Door(route)
                    await door.open(owner, route.door)
                    doors.append(door)
        except AdapterError:
            await self.close(owner)
            raise
        self._by_path |= {route.path: (owner, route) for route in routes}

    async def close(self, owner: str) -> None:
        """What is being stored may end; nothing more is taken."""
        self._by_path = {path: each for path, each in self._by_path.items() if each[0] != owner}
        await asyncio.gather(*(door.close() for door in self._doors.pop(owner, ())))
