"""/queue: who is waiting for the models."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply, ReplyState, Role

__all__ = ["COMMAND"]


async def _queue(call: Call) -> Reply:
    loads = [load for load in call.bot.loads() if load.loaded]
    waiting = sum(load.waiting for load in loads)
    if not waiting:
        return call.say("queue.empty")
    limit, running = sum(load.queue_limit for load in loads), sum(load.running for load in loads)
    lines = [call.text("queue.title", waiting=waiting, limit=limit, running=running)]
    for load in loads:
        lines += [call.text("queue.line", user=user, count=count) for user, count in load.waiting_people]
    return Reply("", ReplyState.FINAL, "\n".join(lines))


COMMAND = Command("queue", _queue, Role.ADMIN, rank=210)
