"""A call of a tool, as the dialogue hands it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glmbot.host import Tool
from glmbot.messages import ChatKind

__all__ = ["FakeUse", "told"]


@dataclass
class FakeUse:
    arguments: Mapping[str, Any]
    id: str = "call-1"
    user: str = "telegram:5"
    conversation: str = "telegram:5"
    chat_kind: ChatKind = ChatKind.PRIVATE
    language: str = "en"
    bot: Any = None
    timezone: str = "Asia/Shanghai"
    presses: str | None = None
    user_name: str = ""
    said: list[str] = field(default_factory=list)

    def progress(self, words: str) -> None:
        self.said.append(words)

    async def ask(self, question: str, choices: Sequence[str], *, typed: bool = False) -> str | None:
        self.said.append(question)
        return self.presses

    async def sample(self, turns: Sequence[tuple[str, str]], **wishes: Any) -> str:
        return ""


async def told(tool: Tool, **arguments: Any) -> str:
    return await tool.function(FakeUse(arguments))
