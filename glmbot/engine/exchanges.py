"""Exchanges with calls of tools as messages: in order, each call with its result behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from glmbot.content import Content, Text, ToolCall, ToolResult, parts_of, words_of
from glmbot.engine.base import PastExchange
from glmbot.models.base import ChatMessage, Speaker

__all__ = ["dialogue_of", "messages_of", "with_results_cut"]

_NO_RESULT = "(no result)"
"""A template may want one for each call."""


def messages_of(asked: Content, said: Content) -> list[ChatMessage]:
    """A question and what came of it. What was thought stays out."""
    messages = [ChatMessage(Speaker.USER, words_of(asked))]
    results = {part.id: part.text for part in parts_of(said, ToolResult)}
    words: list[str] = []
    calls: list[ToolCall] = []
    answered = False

    def close() -> None:
        if words or calls:
            messages.append(ChatMessage(Speaker.ASSISTANT, "\n\n".join(words), tuple(calls)))
        messages.extend(
            ChatMessage(Speaker.TOOL, results.get(call.id) or _NO_RESULT, of=call) for call in calls
        )
        words.clear()
        calls.clear()

    for part in said:
        match part:
            case Text():
                if calls:
                    close()
                words.append(part.text)
            case ToolCall():
                if answered:
                    close()
                calls.append(part)
            case _:
                pass
        answered = isinstance(part, ToolResult)
    close()
    return messages


def dialogue_of(past: Sequence[PastExchange], question: str, said: Content) -> list[ChatMessage]:
    """All of it, up to where the answer begins: a question, or the results of calls."""
    messages = [message for each in past for message in messages_of(each.asked, each.said)]
    messages += messages_of((Text(question),), said)
    while messages[-1].speaker is Speaker.ASSISTANT:
        messages.pop()
    return messages


def with_results_cut(said: Content, shortened: Callable[[str], str]) -> Content:
    """The same with each result shortened."""
    return tuple(
        ToolResult(part.id, shortened(part.text), part.failed) if isinstance(part, ToolResult) else part
        for part in said
    )
