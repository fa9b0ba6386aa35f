"""Taking what is assigned: one message that can't be answered keeps nobody else from being answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from conftest import make_dialogue
from glmbot.delivery.deliveries import Deliveries
from glmbot.engine.local import LocalEngine
from glmbot.messages import ConversationKey, Message, Reply, UserKey
from glmbot.store.base import Store


def message(number: int, chat: int) -> Message:
    return Message(
        str(number), ConversationKey("telegram", chat), UserKey("telegram", chat), "hello", ref=str(number)
    )


async def test_a_message_that_cant_be_begun_is_set_aside_after_its_tries(
    engine: LocalEngine, store: Store
) -> None:
    dialogue = make_dialogue(engine, store, tries=2)
    deliveries = Deliveries(dialogue)
    begun: list[str] = []
    failed = 0

    def begin(taken: Message, _: Sequence[str]) -> None:
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
    async with asyncio.timeout(20):
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
