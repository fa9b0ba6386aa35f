"""/precision: show or switch the model's precision, while others are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from glmbot.errors import PrecisionError
from glmbot.host import Call, Command
from glmbot.messages import Reply, ReplyState, Role
from glmbot_commands.arguments import echo

__all__ = ["COMMAND"]


async def _precision(call: Call) -> AsyncGenerator[Reply, None]:
    load = call.bot.load()
    available = ", ".join(load.precisions)
    if not available:
        yield call.say("precision.served")
        return
    if not call.argument:
        yield call.say("precision.now", precision=load.precision, available=available)
        return
    wanted = call.argument.lower()
    if wanted not in load.precisions:
        yield call.say("precision.unknown", given=echo(call.argument), available=available)
        return
    shares: asyncio.Queue[float | None] = asyncio.Queue()
    switch = asyncio.ensure_future(call.bot.switch_precision(wanted, shares.put_nowait))
    switch.add_done_callback(lambda _: shares.put_nowait(None))
    while (share := await shares.get()) is not None:
        while not shares.empty() and (newer := shares.get_nowait()) is not None:
            share = newer
        yield Reply("", ReplyState.STREAMING, call.text("precision.progress", precision=wanted, share=share))
        if switch.done():
            break
    try:
        done = await switch
    except PrecisionError as error:
        yield call.fail("precision.failed", reason=error)
        return
    yield call.say("precision.done", **done)


COMMAND = Command("precision", _precision, Role.ADMIN, "fp32|fp16|bf16|int8|int4", rank=200)
