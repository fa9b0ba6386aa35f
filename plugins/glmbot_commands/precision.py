"""/precision: show or switch a model's precision, while others are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from glmbot.errors import ModelUnavailable, PrecisionError
from glmbot.host import Call, Command
from glmbot.messages import Reply, ReplyState, Role
from glmbot_commands.arguments import echo
from glmbot_commands.model import load_of, unavailable, unknown

__all__ = ["COMMAND"]

_PRECISIONS = "fp32|fp16|bf16|int8|int4"


async def _precision(call: Call) -> AsyncGenerator[Reply, None]:
    model, wanted = await _meant(call)
    name = call.bot.model_named(model)
    if name is None:
        yield unknown(call, model)
        return
    load = load_of(call, name)
    if not load.loaded:
        if not wanted:
            yield call.say("model.not_loaded", model=name)
            return
        yield Reply("", ReplyState.STREAMING, call.text("model.loading", model=name))
        try:
            await call.bot.bring_model(name)
        except ModelUnavailable as error:
            yield unavailable(call, error)
            return
        load = load_of(call, name)
    available = ", ".join(load.precisions)
    if not available:
        yield call.say("precision.served")
    elif not wanted:
        yield call.say("precision.now", precision=load.precision, available=available)
    elif wanted.lower() not in load.precisions:
        yield call.say("precision.unknown", given=echo(wanted), available=available)
    else:
        async for reply in _switched(call, name, wanted.lower()):
            yield reply


async def _switched(call: Call, model: str, wanted: str) -> AsyncGenerator[Reply, None]:
    shares: asyncio.Queue[float | None] = asyncio.Queue()
    switch = asyncio.ensure_future(call.bot.switch_precision(model, wanted, shares.put_nowait))
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
    except ModelUnavailable as error:
        yield unavailable(call, error)
    else:
        yield call.say("precision.done", **done)


async def _meant(call: Call) -> tuple[str, str]:
    """The model, which is the one that answers here unless it is named, and the precision, "" for none."""
    first, _, second = call.argument.partition(" ")
    if second.strip():
        return first, second.strip()
    if first and first.lower() not in _PRECISIONS.split("|") and call.bot.model_named(first):
        return first, ""
    return (await call.bot.model_here(call.message, call.role)).name, first


COMMAND = Command("precision", _precision, Role.ADMIN, f"NAME? {_PRECISIONS}", rank=200)
