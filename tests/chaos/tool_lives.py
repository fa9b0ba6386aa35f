"""A bot whose model has a tool act, killed at a named point of the call, and the next one: see `chaos.tools`.

It imports everything once; each life is a fork. Prints a line of JSON for each point.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from dialogue.tool_world import CallingEngine, Scene, called, said, tool
from glmbot.content import ToolResult, parts_of
from glmbot.dialogue.tool_rights import Right, ToolRights
from glmbot.dialogue.tool_run import UNKNOWN
from glmbot.dialogue.tool_settings import ToolSettings
from glmbot.engine.base import Prepared, Progress, Sampling
from glmbot.host import Nature, ToolUse
from glmbot.store.base import Store
from glmbot.store.redis import RedisStore
from glmbot.store.sqlite import SqliteStore

POINTS = [
    *((when, what, nth) for what, most in (("put_note", 4), ("finish", 1)) for nth in range(1, most + 1)
      for when in ("before", "after")),
    ("before", "act", 1), ("in", "act", 1), ("after", "act", 1), ("never", "-", 1),
]  # fmt: skip
QUESTION = said("send it", number=1)
_ENDS_S = 20


@dataclass
class Fuse:
    when: str
    what: str
    left: int

    def pass_by(self, when: str, what: str) -> None:
        if (when, what) == (self.when, self.what):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Insisting(CallingEngine):
    """Where it is told that nobody knows whether something was done, it wants that done again."""

    async def generate(
        self, prepared: Prepared, sampling: Sampling, *, user: str, deadline_s: float | None = None
    ) -> AsyncGenerator[Progress, None]:
        results = parts_of(prepared.conversation.said, ToolResult)  # type: ignore[attr-defined]
        again = len(results) == 1 and results[0].text == UNKNOWN
        send = called(("send", {"q": "hi"}))
        self.rounds = (send, send, "Done.") if again or len(results) > 1 else (send, "Done.")
        async for progress in super().generate(prepared, sampling, user=user, deadline_s=deadline_s):
            yield progress


def main(kind: str, url: str, folder: Path) -> None:
    for number, point in enumerate(POINTS):
        place = folder / f"{kind}-{number}"
        place.mkdir()
        first = _lived(lambda where=place, at=point: _life(kind, url, where, Fuse(*at)))
        second = (
            0
            if point[0] == "never"
            else _lived(lambda where=place: _life(kind, url, where, Fuse("never", "-", 1)))
        )
        done = (place / "done.txt").read_text().split() if (place / "done.txt").exists() else []
        seen = json.loads((place / "seen.json").read_text()) if (place / "seen.json").exists() else {}
        print(json.dumps({"point": point, "codes": [first, second], "done": len(done), **seen}), flush=True)


def _lived(life: Callable[[], Any]) -> int:
    """The exit status of a fork; a signal's number below 0."""
    process = os.fork()
    if not process:
        signal.alarm(_ENDS_S)
        try:
            asyncio.run(life())
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


async def _life(kind: str, url: str, place: Path, fuse: Fuse) -> None:
    store: Store = (
        SqliteStore(place / "store.sqlite3") if kind == "sqlite" else RedisStore(url, prefix=place.name)
    )
    await store.open()
    for name in ("put_note", "finish"):
        setattr(store, name, _watched(getattr(store, name), name, fuse))

    async def act(use: ToolUse) -> str:
        fuse.pass_by("before", "act")
        with (place / "done.txt").open("a") as file:
            file.write(f"{use.id}\n")
            file.flush()
            os.fsync(file.fileno())
        fuse.pass_by("in", "act")
        await asyncio.sleep(0)
        fuse.pass_by("after", "act")
        return "sent"

    engine = Insisting()
    settings = ToolSettings(rights=ToolRights({"send": Right.ALLOW}))
    scene = Scene(store, engine, [tool("send", act, Nature.ACTS)], settings)
    await scene.dialogue.accept(QUESTION)
    if await store.unfinished("telegram"):
        await scene.answer(QUESTION, None, scene.dialogue)
    turns = await store.last_turns(QUESTION.conversation, 10)
    told = [part.text for part in parts_of(engine.asked[-1].said, ToolResult)] if engine.asked else []
    seen = {
        "answers": [turn.answer for turn in turns],
        "unknown": UNKNOWN in told,
        "left": len(await store.notes("tool_calls", 10)),
    }
    (place / "seen.json").write_text(json.dumps(seen))
    with suppress(Exception):
        await store.close()


def _watched(method: Callable[..., Any], name: str, fuse: Fuse) -> Callable[..., Any]:
    @wraps(method)
    async def watched(*given: Any, **named: Any) -> Any:
        fuse.pass_by("before", name)
        found = await method(*given, **named)
        fuse.pass_by("after", name)
        return found

    return watched


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
