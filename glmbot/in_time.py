"""Code of others, such as plug-ins: as long as it may take, and no longer."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["begun", "in_time", "result_of"]


def begun(work: Awaitable[Any]) -> asyncio.Task[Any]:
    """In a task of its own, which may be left behind."""
    task = asyncio.create_task(_worked(work))
    # Whatever becomes of one that nobody waits for any more is nobody's affair.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def result_of(task: asyncio.Task[Any]) -> Any:
    """Of one that is done. Raises any Exception of its work; RuntimeError where that wanted to end the process or
    cancelled itself."""
    if task.cancelled():
        raise RuntimeError("it was cancelled, by itself")
    return task.result()


async def in_time(work: Callable[[], Any], seconds: float) -> Any:
    """What `work` returns, awaited where that can be.

    What does not end when it is cancelled is left behind. Raises TimeoutError, and what `result_of` raises.
    """

    async def made() -> Any:
        found = work()
        return await found if inspect.isawaitable(found) else found

    task = begun(made())
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise TimeoutError
        return result_of(task)
    finally:
        task.cancel()


async def _worked(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except SystemExit as error:
        # In a task it would end the process.
        raise RuntimeError("it wanted to end the process") from error
