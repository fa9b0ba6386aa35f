"""What an answer has called so far fits into the store, whatever came of it, and is read there again."""

from __future__ import annotations

import pytest

from dialogue.tool_world import said as message_of
from glmbot.content import Part, Text, Thought, ToolCall, ToolResult
from glmbot.dialogue.tool_journal import Journal, Open, State
from glmbot.store.base import Store

QUESTION = message_of("Read it all")


@pytest.mark.parametrize("letter", ["天", "a", "\ud800", "\n", "😀"])
async def test_results_of_any_length_are_noted(sqlite_store: Store, letter: str) -> None:
    said: list[Part] = [Thought(letter * 30_000), Text("I look.")]
    for number in range(16):
        said += [ToolCall(f"c{number}", "read"), ToolResult(f"c{number}", letter * 64_000)]
    said += [ToolCall("last", "read")]
    await sqlite_store.accept(QUESTION, 1.0)
    journal = await Journal.of(sqlite_store, QUESTION, clock=lambda: 5.0)
    assert await journal.write(tuple(said), {"last": Open(State.RUNNING)}, 3)
    again = await Journal.of(sqlite_store, QUESTION, clock=lambda: 9.0)
    assert again.begun
    assert again.rounds == 3
    assert again.open == {"last": Open(State.RUNNING)}
    calls = [part for part in again.said if isinstance(part, ToolCall)]
    results = [part for part in again.said if isinstance(part, ToolResult)]
    assert calls == [part for part in said if isinstance(part, ToolCall)]
    assert [each.id for each in results] == [f"c{number}" for number in range(16)]
    assert all(each.text for each in results)


async def test_what_fits_is_noted_as_it_is(sqlite_store: Store) -> None:
    said = (ToolCall("a", "read"), ToolResult("a", "天" * 100_000), ToolCall("b", "read"))
    await sqlite_store.accept(QUESTION, 1.0)
    journal = await Journal.of(sqlite_store, QUESTION, clock=lambda: 5.0)
    assert await journal.write(said, {}, 1)
    again = await Journal.of(sqlite_store, QUESTION, clock=lambda: 5.0)
    assert again.said == said
