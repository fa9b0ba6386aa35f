"""The web adapter with a dialogue that says what a test has it say: no model, no store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp

from adapters.waiting import running
from glmbot.completions import Completion
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import ConversationSummary, Health, Message, PastTurn, Reply, ReplyState, Unfinished
from glmbot.overview import LoggedCall, LoggedCalls, Overview
from glmbot.ports import Dialogue
from glmbot_web.adapter import WebAdapter, WebSettings

__all__ = ["ScriptedDialogue", "browser", "scripted_site"]

Script = Callable[[Any], AsyncGenerator[Reply, None]]


async def _echo(message: Message | Completion) -> AsyncGenerator[Reply, None]:
    text = message.text if isinstance(message, Message) else str(message.prompt or message.turns[-1][1])
    yield Reply(text, ReplyState.FINAL, finish_reason="stop")


@dataclass
class ScriptedDialogue:
    """`accepted` and `answered`: the messages, in order. `script` makes the replies of each."""

    script: Script = _echo
    accepted: list[Message] = field(default_factory=list[Message])
    answered: list[Message] = field(default_factory=list[Message])
    completions: list[Completion] = field(default_factory=list[Completion])
    kept: dict[ConversationKey, list[tuple[str, str, str]]] = field(
        default_factory=dict[ConversationKey, list[tuple[str, str, str]]]
    )
    summaries: Sequence[ConversationSummary] = ()
    seen: Mapping[str, Any] = field(default_factory=dict[str, Any])
    called: Sequence[LoggedCall] = ()
    panels: dict[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    wishes: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    moves: list[tuple[UserKey, UserKey]] = field(default_factory=list[tuple[UserKey, UserKey]])
    _assigned: asyncio.Queue[Message] = field(default_factory=asyncio.Queue[Message])

    async def accept(self, message: Message, *, here: bool = False) -> bool:
        if message.update_id in [known.update_id for known in self.accepted]:
            return False
        self.accepted.append(message)
        await self._assigned.put(message)
        return True

    async def assigned(self, platform: str) -> AsyncGenerator[Unfinished, None]:
        while True:
            yield Unfinished(await self._assigned.get(), {})

    async def respond(self, message: Message) -> AsyncGenerator[Reply, None]:
        self.answered.append(message)
        async for reply in self.script(message):
            yield reply

    async def complete(self, request: Completion) -> AsyncGenerator[Reply, None]:
        self.completions.append(request)
        async for reply in self.script(request):
            yield reply

    async def delivered(self, message: Message, shown: Sequence[str] = ()) -> None: ...

    async def again(self, message: Message, reason: str = "") -> bool:
        """Nothing is tried a second time."""
        return True

    async def conversations(
        self, user: UserKey, limit: int = 100, before: tuple[float, str] | None = None
    ) -> Sequence[ConversationSummary]:
        at = float("inf") if before is None else before[0]
        return [each for each in self.summaries if each.at < at][:limit]

    async def moved(self, old: UserKey, new: UserKey) -> None:
        self.moves.append((old, new))

    async def history(self, conversation: ConversationKey) -> Sequence[PastTurn]:
        return [PastTurn(*turn) for turn in self.kept.get(conversation, [])]

    async def choose_branch(self, conversation: ConversationKey, turn: int) -> bool:
        return False

    def commands(self, *_: object) -> Sequence[object]:
        return []

    def text(self, language: str, key: str, **values: object) -> str:
        return key

    def health(self) -> Health:
        return Health(True, "scripted", "fp32", 0, 0)

    def models(self) -> Sequence[str]:
        return ["scripted"]

    async def obstacles(self) -> Sequence[str]:
        return []

    async def overview(self, after: str = "") -> Overview:
        empty: Mapping[str, Any] = dict.fromkeys(Overview.__dataclass_fields__, 0)
        return Overview(**{**empty, **self.seen})

    async def tool_calls(self, before: str = "", matching: str = "") -> LoggedCalls:
        return LoggedCalls([each for each in self.called if matching in each.tool], "")

    async def all_tool_calls(self, matching: str = "") -> AsyncGenerator[LoggedCall, None]:
        for each in self.called:
            yield each

    async def panel(self, name: str) -> Mapping[str, Any] | None:
        return self.panels.get(name)

    async def panel_does(self, name: str, wish: Mapping[str, Any], language: str) -> str:
        if name not in self.panels:
            raise ValueError("there is no such part of this page")
        self.wishes.append(wish)
        return "done"

    def metrics(self) -> bytes:
        return b"glmbot_up 1\n"


@asynccontextmanager
async def scripted_site(
    dialogue: ScriptedDialogue | None = None, **settings: Any
) -> AsyncGenerator[WebAdapter]:
    adapter = WebAdapter(WebSettings(port=0, **settings), cast(Dialogue, dialogue or ScriptedDialogue()))
    async with running(adapter):
        yield adapter


@asynccontextmanager
async def browser(**settings: Any) -> AsyncGenerator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, **settings) as session:
        yield session
