"""/queue: who is waiting for the model."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply, ReplyState, Role

__all__ = ["COMMAND"]


async def _queue(call: Call) -> Reply:
    load = call.bot.load()
    if not load.waiting:
        return call.say("queue.empty")
    lines = [call.text("queue.title", waiting=load.waiting, limit=load.queue_limit, running=load.running)]
    lines += [call.text("queue.line", user=user, count=count) for user, count in load.waiting_people]
    return Reply("", ReplyState.FINAL, "\n".join(lines))


COMMAND = Command("queue", _queue, Role.ADMIN, rank=210)
