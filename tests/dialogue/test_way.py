"""The way of a message from the adapter to the engine, as its calls go from file to file."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import FrameType
from typing import Any

from adapters.scripted import ScriptedEngine
from conftest import make_dialogue
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.base import Store

MOST_RETURNS = 4
# Values, words, traces and the store: everybody calls those, and they call nobody back.
SHARED = (
    "store/",
    "i18n/",
    "content.py",
    "messages.py",
    "keys.py",
    "tracing.py",
    "tools.py",
    "notes.py",
    "locks.py",
    "engine/",
    "models/",
)

Call = tuple[str, str, str]
"""From which file, into which file, which function."""


class WatchedEngine(ScriptedEngine):
    async def generate(self, *given: Any, **named: Any) -> AsyncGenerator[Any, None]:
        sys.setprofile(None)
        async with aclosing(super().generate(*given, **named)) as steps:
            async for step in steps:
                yield step


def file_of(frame: FrameType | None) -> str:
    name = "" if frame is None else frame.f_code.co_filename
    return name.rpartition("/glmbot/")[2] if "/glmbot/" in name else ""


async def way_of(store: Store) -> list[Call]:
    """Every first call of a function of ours, in order, until the engine is asked."""
    dialogue = make_dialogue(WatchedEngine("hello"), store)
    message = Message("1", ConversationKey("telegram", "5"), UserKey("telegram", "5"), "hi", ref="1")
    calls: list[Call] = []
    # A generator's frame is called again each time that it goes on.
    known: set[FrameType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame not in known and (file := file_of(frame)):
            known.add(frame)
            if not file.startswith(SHARED):
                calls.append((file_of(frame.f_back), file, frame.f_code.co_qualname))

    assert await dialogue.accept(message)
    sys.setprofile(note)
    try:
        async with aclosing(dialogue.respond(message)) as replies:
            replied = [reply async for reply in replies]
    finally:
        sys.setprofile(None)
    assert replied[-1].text == "hello"
    return calls


def returns(calls: Sequence[Call]) -> list[Call]:
    """Calls into a file that was entered before, from another one."""
    entered: set[str] = set()
    found: list[Call] = []
    for call in calls:
        if call[1] in entered and call[0] != call[1]:
            found.append(call)
        entered.add(call[1])
    return found


def test_a_return_is_a_call_into_a_file_that_was_left() -> None:
    assert returns([("", "a", "f"), ("a", "a", "g"), ("a", "b", "h"), ("b", "a", "i"), ("a", "b", "j")]) == [
        ("b", "a", "i"),
        ("a", "b", "j"),
    ]


async def test_the_way_of_a_message_hardly_ever_returns(sqlite_store: Store) -> None:
    way = await way_of(sqlite_store)
    back = returns(way)
    told = "\n".join(f"{'↩' if call in back else ' '} {call[0]} → {call[1]}: {call[2]}" for call in way)
    sys.stdout.write(f"{told}\n")
    steps = [file for caller, file, _ in way if file.startswith("dialogue/steps/") and caller != file]
    assert list(dict.fromkeys(steps)) == steps, "each step is entered once"
    assert steps[0] == "dialogue/steps/arrive.py"
    assert steps[-1] == "dialogue/steps/answer.py"
    assert len(returns(way)) <= MOST_RETURNS, told
