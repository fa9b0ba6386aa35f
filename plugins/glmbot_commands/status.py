"""/status: the model and its load."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply

__all__ = ["COMMAND"]


async def _status(call: Call) -> Reply:
    load = call.bot.load()
    return call.say(
        "status.report",
        model=load.model,
        precision=load.precision,
        running=load.running,
        waiting=load.waiting,
        speed=load.speed,
        cache=load.cache_share,
        weights=load.weight_bytes / 1_000_000,
        wait=load.wait_s,
        batch=load.batch,
        finished=load.finished,
    )


COMMAND = Command("status", _status, rank=100)
