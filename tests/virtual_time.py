"""An event loop whose clock jumps to the next timer instead of waiting: minutes pass in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
_ON_ITS_WAY_S, _LONGEST_WAY_S = 0.0005, 5.0


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and len(self.get_map()) > 1:
            # Beside the loop's own there are sockets: what was sent may still be on its way.
            ready = super().select(_ON_ITS_WAY_S if timeout is not None else _LONGEST_WAY_S)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits and no timer is set: a deadlock")
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """At once: the clock would not wait for a thread."""
        done = self.create_future()
        done.set_result(func(*args))
        return done


def run_in_virtual_time(main: Coroutine[Any, Any, _T]) -> _T:
    """Run `main` on a loop of its own whose time() starts at 0."""
    selector = _Selector()
    loop = _Loop(selector)
    loop.time = lambda: selector.now
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
