"""/status: the model that answers here and its load, and in short the others."""

from __future__ import annotations

from glmbot.bot import Load
from glmbot.host import Call, Command
from glmbot.messages import Reply, ReplyState
from glmbot_commands.model import line

__all__ = ["COMMAND"]


async def _status(call: Call) -> Reply:
    here = await call.bot.model_here(call.message, call.role)
    loads = sorted(call.bot.loads(), key=lambda load: load.model != here.name)
    lines = [
        _report(call, load) if load.loaded and load.model == here.name else line(call, load) for load in loads
    ]
    used, budget = call.bot.models_memory
    if budget is not None:
        lines.append(call.text("status.memory", used=used / 1e9, budget=budget / 1e9))
    return Reply("", ReplyState.FINAL, "\n".join(lines))


def _report(call: Call, load: Load) -> str:
    return call.text(
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
