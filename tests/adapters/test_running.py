"""What an adapter does between `run` and `stop`: all of it or nothing."""

from __future__ import annotations

import asyncio

import pytest

from glmbot.background import Running
from glmbot.errors import AdapterError


async def test_with_the_first_that_fails_all_end_and_its_reason_is_told() -> None:
    ended = asyncio.Event()

    async def hear() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fail() -> None:
        raise AdapterError("the connection is gone")

    with pytest.raises(AdapterError, match="the connection is gone"):
        await Running().run(hear(), fail())
    assert ended.is_set()


async def test_what_is_ended_on_purpose_is_not_begun_again() -> None:
    running, begun, ended = Running(), asyncio.Event(), asyncio.Event()

    async def hear() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(running.run(hear()))
    await begun.wait()
    running.end()
    await ended.wait()
    await asyncio.sleep(0)
    # Who runs it would run again what returns, or fails.
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
