"""Code of others, such as plug-ins: as long as it may take, and no longer."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["in_time"]


async def in_time(work: Callable[[], Any], seconds: float) -> Any:
    """What `work` returns, awaited where that can be.

    What does not end when it is cancelled is left behind. Raises TimeoutError, and any Exception of `work`;
    RuntimeError where it wanted to end the process or cancelled itself.
    """

    async def worked() -> Any:
        try:
            made = work()
            return await made if inspect.isawaitable(made) else made
        except SystemExit as error:
            # In a task it would end the process.
            raise RuntimeError("it wanted to end the process") from error

    task = asyncio.create_task(worked())
    # Whatever becomes of one that nobody waits for any more is nobody's affair.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise TimeoutError
        if task.cancelled():
            raise RuntimeError("it was cancelled, by itself")
        return task.result()
    finally:
        task.cancel()
