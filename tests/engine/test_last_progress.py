"""The end of an answer is said however slowly its reader reads."""

from __future__ import annotations

import asyncio

from glmbot.engine.base import Sampling
from glmbot.engine.local import LocalEngine


async def test_a_slow_reader_gets_the_end(engine: LocalEngine) -> None:
    prompt = engine.chat_format.encode_chat("", (), "hello")
    last = None
    async for last in engine.generate(prompt, Sampling(max_tokens=20, temperature=0), user="telegram:7"):
        while engine.stats().running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert last is not None
    assert last.finish is not None
