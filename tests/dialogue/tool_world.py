"""A model that calls what a test wants, tools that note who called them, and a bot around both."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from conftest import make_dialogue
from dialogue.scripted_engine import ScriptedEngine
from glmbot.content import ToolResult, all_words_of
from glmbot.dialogue.manager import DialogueManager
from glmbot.dialogue.tool_settings import ToolSettings
from glmbot.dialogue.toolset import Offered, Toolset
from glmbot.engine.base import (
    Ability,
    CallSoFar,
    Conversation,
    EngineStats,
    FinishReason,
    Prepared,
    Progress,
    Sampling,
)
from glmbot.host import Nature, Tool, ToolFunction, ToolUse
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import ChatKind, Message, Press, Reply, ReplyState
from glmbot.plugins import load_plugins
from glmbot.registered import RegisteredTool
from glmbot.store.base import Store
from glmbot.tools import Choice

__all__ = [
    "ANN",
    "BOB",
    "NOT_TAKEN",
    "CallingEngine",
    "Round",
    "Scene",
    "called",
    "offered",
    "press",
    "said",
    "tool",
]

ANN, BOB = UserKey("telegram", "5"), UserKey("telegram", "6")
Round = str | Sequence[tuple[str, Any]]
"""Words, or calls: a name and arguments each."""


def called(*calls: tuple[str, Any]) -> Round:
    return calls


@dataclass(frozen=True, slots=True)
class _Prepared(Prepared):
    conversation: Conversation


class CallingEngine:
    """A token is a character. `plays` says what it does next, by what has come so far."""

    model_name = "calling"
    abilities = frozenset({Ability.TOOLS, Ability.TAUGHT_TOOLS})
    generation_defaults: Mapping[str, object] = {}

    def __init__(self, *rounds: Round, context_length: int = 8000) -> None:
        """rounds: one after the other, from the first again for each question; the last for all that follow."""
        self.rounds = rounds
        self.context_length = context_length
        self.asked: list[Conversation] = []

    def prepare(self, conversation: Conversation, room: int) -> Prepared:
        words = len(conversation.system) + len(conversation.question) + len(all_words_of(conversation.said))
        words += sum(len(tool.description) + len(str(tool.parameters)) for tool in conversation.offer.tools)
        past = len(conversation.past)
        return _Prepared(min(words, room), room, past, 0, words > room, "", conversation)

    async def generate(
        self, prepared: Prepared, sampling: Sampling, *, user: str, deadline_s: float | None = None
    ) -> AsyncGenerator[Progress, None]:
        assert isinstance(prepared, _Prepared)
        conversation = prepared.conversation
        self.asked.append(conversation)
        results = sum(isinstance(part, ToolResult) for part in conversation.said)
        done = 0
        each: Round = "end"
        for each in self.rounds:
            if isinstance(each, str) or done >= results:
                break
            done += len(each)
        await asyncio.sleep(0)
        if isinstance(each, str) or conversation.offer.choice is Choice.NONE:
            yield Progress(str(each)[:2], completion_tokens=1)
            yield Progress(
                each if isinstance(each, str) else "enough", FinishReason.STOP, completion_tokens=2
            )
            return
        calls = tuple(
            CallSoFar(f"same {number}", name, given if isinstance(given, str) else json.dumps(given))
            for number, (name, given) in enumerate(each)
        )
        yield Progress("", FinishReason.TOOL_CALLS, calls=calls, completion_tokens=5)

    async def forget(self, user: str) -> None: ...

    def stats(self) -> EngineStats:
        return ScriptedEngine().stats()

    async def close(self) -> None: ...


def tool(name: str, function: ToolFunction, nature: Nature = Nature.PURE, **changes: Any) -> Tool:
    parameters = changes.pop("parameters", {"type": "object", "properties": {"q": {"type": "string"}}})
    return Tool(name, f"does {name}", parameters, function, nature, **changes)


def said(
    text: str,
    *,
    user: UserKey = ANN,
    chat: str = "",
    thread: str = "0",
    number: int | None = None,
    **changes: Any,
) -> Message:
    """In a private chat, or the group `chat`."""
    number = next(_NUMBERS) if number is None else number
    conversation = ConversationKey("telegram", chat or user.id, user.id if chat else "", thread)
    facts: dict[str, Any] = {
        "chat_kind": ChatKind.GROUP if chat else ChatKind.PRIVATE,
        "ref": str(number),
        **changes,
    }
    return Message(facts.pop("update_id", f"update {number}"), conversation, user, text, **facts)


_NUMBERS = itertools.count(1)


def press(under: Message, command: str, *, user: UserKey | None = None, **changes: Any) -> Message:
    """A button of the answer to that question."""
    number = next(_NUMBERS)
    facts: dict[str, Any] = {"chat_kind": under.chat_kind, "intent": Press(f"answer {under.ref}"), **changes}
    conversation = facts.pop("conversation", under.conversation)
    return Message(f"press {number}", conversation, user or under.user, f"/{command}", **facts)


_plugins = cache(load_plugins)


def offered(one: Tool) -> Offered:
    plugins = replace(_plugins(), tools={one.name: RegisteredTool("test", logging.getLogger("test"), one)})
    return Toolset(plugins).now()[one.name]


NOT_TAKEN = Reply("", ReplyState.FAILED, "it was not taken in")


@dataclass
class Scene:
    """A bot with tools, each of which notes its calls in `calls`."""

    store: Store
    engine: CallingEngine
    tools: Sequence[Tool] = ()
    settings: ToolSettings = field(default_factory=ToolSettings)
    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    dialogue: DialogueManager = field(init=False)
    seen: list[Reply] = field(default_factory=list[Reply])
    calls: list[tuple[str, str, Mapping[str, Any]]] = field(
        default_factory=list[tuple[str, str, Mapping[str, Any]]]
    )

    def __post_init__(self) -> None:
        self.dialogue = self.bot()

    def bot(self) -> DialogueManager:
        """Another process with the same store."""
        tools = {each.name: RegisteredTool("test", logging.getLogger("test"), each) for each in self.tools}
        plugins = replace(_plugins(), tools=tools)
        made: Any = self.engine
        return make_dialogue(made, self.store, plugins=plugins, tools=self.settings, **self.changes)

    def noting(self, name: str, nature: Nature = Nature.PURE, result: str = "done", **changes: Any) -> Tool:
        async def function(use: ToolUse) -> str:
            self.calls.append((name, use.user, use.arguments))
            return result

        return tool(name, function, nature, **changes)

    async def ask(
        self,
        message: Message,
        on_reply: Callable[[Reply], Any] | None = None,
        dialogue: DialogueManager | None = None,
    ) -> Reply:
        """Take it in, and the end of what is answered."""
        dialogue = dialogue or self.dialogue
        if not await dialogue.accept(message):
            return NOT_TAKEN
        return await self.answer(message, on_reply, dialogue)

    async def answer(
        self, message: Message, on_reply: Callable[[Reply], Any] | None, dialogue: DialogueManager
    ) -> Reply:
        # As it was taken in.
        taken = next(
            (
                entry.message
                for entry in await self.store.unfinished("telegram")
                if entry.message.update_id == message.update_id
            ),
            message,
        )
        last = NOT_TAKEN
        async with aclosing(dialogue.respond(taken)) as replies:
            async for last in replies:
                self.seen.append(last)
                if on_reply is not None and (waits := on_reply(last)) is not None:
                    await waits
        await dialogue.delivered(taken)
        return last
