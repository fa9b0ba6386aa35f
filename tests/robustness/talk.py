"""A whole dialogue on a platform that is nothing but questions and answers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from conftest import make_dialogue
from glmbot.dialogue.access import Access
from glmbot.dialogue.manager import DialogueManager
from glmbot.errors import StoreError
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message, Reply
from glmbot.store.base import Store
from robustness.scripted import QUESTION, SAID, ScriptedEngine

__all__ = ["PLATFORM", "Talk", "said_by", "talking"]

PLATFORM = "telegram"
SOMEBODY_ELSE = 4711


def said_by(user: int, number: str, text: str, **fields: Any) -> Message:
    return Message(
        number,
        ConversationKey(PLATFORM, str(user)),
        UserKey(PLATFORM, str(user)),
        text,
        ref=number,
        **fields,
    )


class Talk:
    def __init__(self, dialogue: DialogueManager) -> None:
        self.dialogue = dialogue
        self._numbers = itertools.count(1)
        self._ended: dict[str, asyncio.Future[Reply]] = {}

    async def ask(self, user: int, text: str) -> Reply:
        number = f"asked {next(self._numbers)}"
        ended = self._ended[number] = asyncio.get_running_loop().create_future()
        await self.dialogue.accept(said_by(user, number, text))
        return await ended

    async def somebody_else(self) -> None:
        """Asks, and is answered whole."""
        reply = await self.ask(SOMEBODY_ELSE, QUESTION)
        assert reply.text == SAID, reply

    async def run(self) -> None:
        async with asyncio.TaskGroup() as answers, aclosing(self.dialogue.assigned(PLATFORM)) as assigned:
            async for entry in assigned:
                answers.create_task(self._answer(entry.message))

    async def _answer(self, message: Message) -> None:
        last: Reply | None = None
        try:
            async with aclosing(self.dialogue.respond(message)) as replies:
                async for reply in replies:
                    last = reply
            await self.dialogue.delivered(message)
        except StoreError as error:
            await self.dialogue.again(message, str(error))
        if (
            last is not None
            and (ended := self._ended.get(message.update_id)) is not None
            and not ended.done()
        ):
            ended.set_result(last)


@asynccontextmanager
async def talking(store: Store) -> AsyncGenerator[Talk]:
    """The store is open, and stays so."""
    engine: Any = ScriptedEngine()
    dialogue = make_dialogue(engine, store, access=Access(open_platforms={PLATFORM}), pending_per_user=1000)
    talk = Talk(dialogue)
    tasks = [asyncio.create_task(dialogue.run()), asyncio.create_task(talk.run())]
    try:
        yield talk
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
        await dialogue.close()
