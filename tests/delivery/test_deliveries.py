"""Taking what is assigned: one message that can't be answered keeps nobody else from being answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from adapters.waiting import until_async
from conftest import make_dialogue, until
from dialogue.scripted_engine import ScriptedEngine
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.outlet import Outlet, Piece
from glmbot.delivery.pace import Pace
from glmbot.engine.local import LocalEngine
from glmbot.errors import StoreError
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Attachment, Message, Reply, ReplyState
from glmbot.store.base import Store


def message(number: int, chat: int) -> Message:
    return Message(
        str(number),
        ConversationKey("telegram", str(chat)),
        UserKey("telegram", str(chat)),
        "hello",
        ref=str(number),
    )


async def test_a_message_that_cant_be_begun_is_set_aside_after_its_tries(
    engine: LocalEngine, store: Store
) -> None:
    dialogue = make_dialogue(engine, store, tries=2)
    deliveries = Deliveries(dialogue)
    begun: list[str] = []
    failed = 0

    def begin(taken: Message, _: Earlier) -> None:
        nonlocal failed
        if taken.update_id == "1":
            failed += 1
            raise RuntimeError("a bug")
        begun.append(taken.update_id)

    async def stopped(_: Message, __: Reply | None) -> None: ...

    running = asyncio.create_task(dialogue.run())
    serving = asyncio.create_task(deliveries.serve("telegram", begin, stopped))
    await dialogue.accept(message(1, 7))
    await dialogue.accept(message(2, 8))
    async with asyncio.timeout(90):
        while not await store.dead_letters():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert failed == 2
    assert begun == ["2"]
    (letter,) = await store.dead_letters()
    assert letter.message.update_id == "1"
    assert letter.reason == "RuntimeError"
    for task in (serving, running):
        task.cancel()
    await dialogue.close()


async def test_what_was_taken_back_before_its_turn_is_not_answered_and_what_stands_of_it_goes(
    sqlite_store: Store,
) -> None:
    dialogue = make_dialogue(cast(Any, ScriptedEngine()), sqlite_store)
    deliveries = Deliveries(dialogue)
    begun: list[str] = []
    removed: list[tuple[str, Sequence[str]]] = []

    async def remove(conversation: ConversationKey, ids: Sequence[str]) -> None:
        removed.append((conversation.chat, ids))

    async def stopped(_: Message, __: Reply | None) -> None: ...

    for number in (1, 2, 3):
        await dialogue.accept(message(number, number + 6))
    await sqlite_store.mark(message(2, 8), {"sent": '["a", "b"]'})
    deliveries.take_back("1")
    # Of the third, only another conversation's message of this number.
    for number in (2, 3):
        deliveries.take_back(str(number), message(2, 8).conversation)
    running = asyncio.create_task(dialogue.run())
    serving = asyncio.create_task(
        deliveries.serve("telegram", lambda taken, _: begun.append(taken.update_id), stopped, remove)
    )
    await until(lambda: begun and removed)
    await until_async(lambda: sqlite_store.unfinished("telegram"), lambda left: len(left) == 1)
    assert begun == ["3"]
    assert removed == [("8", ["a", "b"])]
    for task in (serving, running):
        task.cancel()
    await dialogue.close()


async def test_what_keeps_an_answer_from_being_taken_away_is_logged_and_no_message_goes(
    sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    dialogue = make_dialogue(cast(Any, ScriptedEngine()), sqlite_store)
    deliveries = Deliveries(dialogue)
    removed: list[Sequence[str]] = []

    async def remove(_: ConversationKey, ids: Sequence[str]) -> None:
        removed.append(ids)

    async def unknown() -> ConversationKey | None:
        return None

    async def unreachable() -> ConversationKey | None:
        raise StoreError("the server is away")

    await deliveries.take_away("telegram", dialogue, "1", unknown, remove)
    assert not caplog.records
    await deliveries.take_away("telegram", dialogue, "1", unreachable, remove)
    assert "telegram: a deleted question could not be taken back: the server is away" in caplog.text
    assert not removed
    await deliveries.take_away("telegram", dialogue, "1", message(1, 7).conversation, remove)
    assert removed == [[]], "an answer of which nothing stands"
    await dialogue.close()


@dataclass
class Screen:
    """An outlet that takes everything, as adapters of an earlier release had it: it says nothing of abilities."""

    drafts: bool = False
    sends_once: bool = True
    shown: dict[str, Piece | Attachment] = field(default_factory=dict[str, Piece | Attachment])

    def cut(self, reply: Reply) -> Sequence[Piece]:
        return [Piece(reply.text, reply.notice or ("" if reply.text else "…"))]

    async def send(self, item: Piece | Attachment, place: str) -> str:
        self.shown[place] = item
        return place

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        self.shown[message_id] = item

    async def remove(self, message_id: str) -> None:
        del self.shown[message_id]

    async def draft(self, piece: Piece) -> None: ...

    async def typing(self) -> None: ...


@pytest.mark.parametrize("ends", ["raises at once", "raises later", "ends without an end"])
async def test_an_answer_that_breaks_off_is_tried_again_and_set_aside_and_its_asker_told(
    engine: LocalEngine, sqlite_store: Store, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogue = make_dialogue(engine, sqlite_store, tries=3)
    tried: list[str] = []

    async def broken(taken: Message) -> AsyncGenerator[Reply]:
        tried.append(taken.update_id)
        if ends != "raises at once":
            yield Reply("so far", ReplyState.STREAMING)
        if ends != "ends without an end":
            raise TypeError("a bug")

    real: Any = dialogue.respond
    monkeypatch.setattr(
        dialogue, "respond", lambda taken: broken(taken) if taken.update_id == "1" else real(taken)
    )
    deliveries, screens = Deliveries(dialogue), {"1": Screen(), "2": Screen()}

    def begin(taken: Message, earlier: Earlier) -> None:
        outlet = cast(Outlet, screens[taken.update_id])
        deliveries.begin(taken, outlet, Pace(0.01), earlier)

    async def stopped(_: Message, __: Reply | None) -> None: ...

    running = asyncio.create_task(dialogue.run())
    serving = asyncio.create_task(deliveries.serve("telegram", begin, stopped))
    await dialogue.accept(message(1, 7))
    await dialogue.accept(message(2, 7))
    told = dialogue.text("en", "answer.set_aside")
    await until(lambda: screens["1"].shown == {"0": Piece("", told)})
    await until(lambda: screens["2"].shown and screens["2"].shown["0"] != Piece("", "…"))
    assert tried == ["1"] * 3
    (letter,) = await sqlite_store.dead_letters()
    assert ("TypeError" if ends.startswith("raises") else "BrokenOff") in letter.reason
    for task in (serving, running):
        task.cancel()
    await dialogue.close()


@pytest.mark.parametrize("recorded", ["afterwards", "meanwhile"])
async def test_a_question_deleted_before_where_its_answer_stands_is_recorded_takes_it_along(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch, recorded: str
) -> None:
    dialogue = make_dialogue(cast(Any, ScriptedEngine()), sqlite_store)
    deliveries, screen = Deliveries(dialogue), Screen()
    told, goes_on = asyncio.Event(), asyncio.Event()
    record = dialogue.delivered

    async def slow(taken: Message, shown: Sequence[str] = ()) -> None:
        told.set()
        await goes_on.wait()
        await record(taken, shown)

    monkeypatch.setattr(dialogue, "delivered", slow)
    remove = sqlite_store.remove_turn

    async def meanwhile(conversation: ConversationKey, turn: int) -> None:
        goes_on.set()
        await until(lambda: not deliveries._under_way)
        await remove(conversation, turn)

    if recorded == "meanwhile":
        monkeypatch.setattr(sqlite_store, "remove_turn", meanwhile)

    def begin(taken: Message, earlier: Earlier) -> None:
        deliveries.begin(taken, cast(Outlet, screen), Pace(0.01), earlier)

    async def stopped(_: Message, __: Reply | None) -> None: ...

    running = asyncio.create_task(dialogue.run())
    serving = asyncio.create_task(deliveries.serve("telegram", begin, stopped))
    asked = message(1, 7)
    await dialogue.accept(asked)
    await told.wait()
    assert await deliveries.withdraw(dialogue, asked.conversation, asked.ref) == sorted(screen.shown) == ["0"]
    goes_on.set()
    await until_async(lambda: sqlite_store.unfinished("telegram"), lambda left: not left)
    assert await sqlite_store.last_turns(asked.conversation, 5) == []
    for task in (serving, running):
        task.cancel()
    await dialogue.close()
