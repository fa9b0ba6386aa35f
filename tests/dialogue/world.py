"""A scripted platform, and bots with the same store that die one after the other, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.scripted import ScriptedEngine
from conftest import make_dialogue
from dialogue.told import HERE
from glmbot.delivery.abilities import Ability
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.outlet import Missing, Outlet, Piece
from glmbot.delivery.pace import Pace
from glmbot.keys import ConversationKey
from glmbot.messages import Attachment, Message, Reply
from glmbot.store.base import Store
from glmbot.store.sealed import new_key, sealed
from glmbot.store.sqlite import SqliteStore
from virtual_time import run_in_virtual_time

__all__ = ["World", "echo", "run", "world"]


@dataclass
class Chat:
    """What a platform shows."""

    shown: dict[str, str] = field(default_factory=dict[str, str])
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def texts(self) -> list[str]:
        return [text for text in self.shown.values() if text != "…"]


class ChatOutlet(Outlet):
    @property
    def abilities(self) -> frozenset[Ability]:
        return frozenset(Ability) - {Ability.DRAFT, Ability.ONCE}

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    def cut(self, reply: Reply) -> Sequence[Piece]:
        return [Piece(reply.text, reply.notice)]

    async def send(self, item: Piece | Attachment, place: str) -> str:
        await asyncio.sleep(0.01)
        name = f"answer {next(self._chat.numbers)}"
        self._chat.shown[name] = self._words(item)
        await asyncio.sleep(0.01)
        return name

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        await asyncio.sleep(0.01)
        if message_id not in self._chat.shown:
            raise Missing
        self._chat.shown[message_id] = self._words(item)

    async def remove(self, message_id: str) -> None:
        self._chat.shown.pop(message_id)

    async def draft(self, piece: Piece) -> None: ...

    async def typing(self) -> None: ...

    def _words(self, item: Piece | Attachment) -> str:
        assert isinstance(item, Piece)
        return item.text or item.notice or "…"


class SlowStore:
    """Every step takes its time, so that a process may die before and after each."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name in ("owner", "journaled", "export_pages", "everything", "blobs", "blob_pieces"):
            return method

        async def slowly(*given: Any, **named: Any) -> Any:
            await asyncio.sleep(0.003)
            found = await method(*given, **named)
            await asyncio.sleep(0.003)
            return found

        return slowly


def echo(prompt: str) -> str:
    return "You said: " + prompt.rpartition("Q:")[2].removesuffix("\nA:")


@dataclass
class World:
    """One bot after the other with the same store, and the messages that they are told of."""

    store: Store
    engine: ScriptedEngine = field(default_factory=lambda: ScriptedEngine(echo, steps=4, step_s=0.05))
    chats: dict[int, Chat] = field(default_factory=dict[int, Chat])
    updates: list[Message] = field(default_factory=list[Message])
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, message: Message) -> None:
        self.updates.append(message)
        self.news.set()

    @asynccontextmanager
    async def bot(self) -> AsyncGenerator[None]:
        """Until it is killed."""
        dialogue = make_dialogue(self.engine, SlowStore(self.store), pending_per_user=100)  # type: ignore[arg-type]
        deliveries = Deliveries(dialogue)

        def begin(message: Message, earlier: Earlier) -> None:
            chat = self.chats.setdefault(int(message.user.id), Chat())
            deliveries.begin(message, ChatOutlet(chat), Pace(0.02), earlier)

        async def stopped(message: Message, reply: Reply | None) -> None: ...

        async def receive() -> None:
            while True:
                while self.updates:
                    await dialogue.accept(self.updates[0])
                    self.updates.pop(0)
                self.news.clear()
                await self.news.wait()

        others = asyncio.all_tasks()
        for work in (dialogue.run(), deliveries.serve("telegram", begin, stopped), receive()):
            asyncio.create_task(work)  # noqa: RUF006
        try:
            yield
        finally:
            mine = asyncio.all_tasks() - others
            for task in mine:
                task.cancel()
            await asyncio.gather(*mine, return_exceptions=True)

    async def settled(self) -> None:
        while self.updates or await self.store.unfinished("telegram"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)

    async def asked(self, user: int, conversation: ConversationKey = HERE) -> list[str]:
        turns = await self.store.last_turns(conversation, 1000)
        return [turn.question for turn in turns if turn.user.id == str(user)]


@asynccontextmanager
async def world(*, encrypted: bool = False) -> AsyncGenerator[World]:
    with tempfile.TemporaryDirectory() as folder:
        store: Store = SqliteStore(Path(folder) / "store.sqlite3")
        if encrypted:
            store = sealed(store, [new_key()])
        await store.open()
        yield World(store)
        await store.close()


def run(encrypted: bool = False) -> Any:
    """The body of a test in a world of its own, in virtual time."""

    def with_body(body: Any) -> Any:
        async def main() -> None:
            async with world(encrypted=encrypted) as here:
                await body(here)

        return run_in_virtual_time(main())

    return with_body
