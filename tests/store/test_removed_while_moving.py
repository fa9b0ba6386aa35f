"""What is removed while its chat, or its person, is moved stays removed, wherever the move had come to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store import redis_moves, sqlite_moves
from glmbot.store.blobs import keep
from glmbot.store.records import StoredConversation, Turn
from glmbot.store.redis import RedisStore
from glmbot.store.redis_connection import RedisConnection
from glmbot.store.sqlite import SqliteStore
from glmbot.store.sqlite_connection import SqliteConnection
from glmbot.store.ways import Ways

ANN, ANN_LATER, BOB = UserKey("telegram", "11"), UserKey("telegram", "12"), UserKey("telegram", "13")
MANY = 60
_A_PAGE = 16
SHARES = [0.2, 0.4, 0.6, 0.8]


@dataclass
class Steps:
    """Counts what is asked of a store, and has something happen after the `at`th."""

    count: int = 0
    at: int = -1
    happens: Callable[[], Awaitable[Any]] | None = None
    waits: bool = False
    begun: asyncio.Task[Any] | None = None

    async def one(self) -> None:
        self.count += 1
        if self.count >= self.at and (happens := self.happens) is not None:
            self.happens = None
            self.begun = asyncio.ensure_future(happens())
            if self.waits:
                await self.begun


@pytest_asyncio.fixture(params=["sqlite", "redis"])
async def parts(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[tuple[Any, Any, Steps]]:
    """A store whose steps are counted, another process on the same one, and the steps."""
    # Of several processes on one Redis, one may stand still between any two steps of its own.
    steps = Steps(waits=request.param == "redis")
    kind, name = (RedisConnection, "ask") if request.param == "redis" else (SqliteConnection, "write")
    real = getattr(kind, name)

    async def counted(self: Any, *given: Any, **named: Any) -> Any:
        done = await real(self, *given, **named)
        await steps.one()
        return done

    for module in (redis_moves, sqlite_moves):
        monkeypatch.setattr(module, "_AT_ONCE", _A_PAGE)
    made: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(kind, name, counted)
        if request.param == "redis":
            url, prefix = request.getfixturevalue("redis_url"), f"test-{time.time_ns()}"
            made.append(RedisStore(url, prefix=prefix))
            # The other process is not counted.
            patch.undo()
            made.append(RedisStore(url, prefix=prefix))
        else:
            made.append(SqliteStore(tmp_path / "moving.sqlite3"))
        for each in made:
            await each.open()
        yield made[0], made[-1], steps
    for each in made:
        await each.close()


def place(number: int, chat: int, *, shared: bool) -> ConversationKey:
    return ConversationKey("telegram", str(-1000 * number - chat), str("" if shared else ANN.id))


async def fill(store: Any, conversation: ConversationKey, *people: UserKey) -> None:
    turns = [
        Turn(number, people[number % len(people)], f"question {number}", "a", float(number), number - 1)
        for number in range(1, MANY + 1)
    ]
    await store.put(StoredConversation(conversation, turns, MANY))
    for number, user in enumerate(people):
        await store.accept(Message(f"u{conversation}{number}", conversation, user, "waits"), 1.0)
        await store.set_setting(user, "language", "zh")
        for content in (b"everybody's", str(conversation).encode()):
            await keep(store, conversation, user, content, media_type="text/plain", name="x", at=1e9)


async def interrupted(parts: Any, prepare: Any, move: Any, removal: Any, share: float) -> None:
    """The move number 1, with a removal inside; how long it takes is known from number 0, which is like it."""
    store, _, steps = parts
    for number in (0, 1):
        await prepare(store, number)
    steps.count = 0
    await move(store, 0)
    steps.at, steps.count = int(steps.count * share), 0
    steps.happens = removal
    await move(store, 1)
    assert steps.begun is not None
    await steps.begun
    await store.tidy(1e9)


async def left_of(store: Any, *people: UserKey) -> list[Any]:
    left: list[Any] = [each.conversation for user in people for each in await store.export(user)]
    waiting = [entry.message for entry in await store.unfinished("telegram")]
    left += [message.update_id for message in waiting if message.user in people]
    for user in people:
        left += [each async for each in store.blobs(user)]
    return left + [user for user in people if await store.settings(user)]


def of_a_chat(*people: UserKey) -> tuple[Any, Any]:
    """How it is prepared, and moved."""

    async def prepare(store: Any, number: int) -> None:
        await fill(store, place(1, number, shared=len(people) > 1), *people)

    async def move(store: Any, number: int) -> None:
        here = place(1, number, shared=False)
        await store.move(
            ChatKey("telegram", here.chat), ChatKey("telegram", str(int(here.chat) - 1000)), 10.0
        )

    return prepare, move


@pytest.mark.parametrize("share", SHARES)
async def test_who_is_forgotten_while_their_chat_moves_does_not_come_back(parts: Any, share: float) -> None:
    _, other, _ = parts
    await interrupted(parts, *of_a_chat(ANN), lambda: other.forget(ANN), share)
    assert await left_of(other, ANN) == []


@pytest.mark.parametrize("share", SHARES)
async def test_others_of_a_moving_chat_keep_their_words_together(parts: Any, share: float) -> None:
    _, other, _ = parts
    await interrupted(parts, *of_a_chat(ANN, BOB), lambda: other.forget(ANN), share)
    assert await left_of(other, ANN) == []
    there = await other.last_turns(place(2, 1, shared=True), MANY)
    assert [turn.question for turn in there] == [f"question {number}" for number in range(1, MANY + 1, 2)]


@pytest.mark.parametrize("where", [1, 2])
@pytest.mark.parametrize("share", SHARES)
async def test_a_history_that_is_deleted_while_it_moves_stays_deleted(
    parts: Any, share: float, where: int
) -> None:
    _, other, _ = parts
    await interrupted(parts, *of_a_chat(ANN), lambda: other.reset(place(where, 1, shared=False)), share)
    for number in (1, 2):
        assert await other.last_turns(place(number, 1, shared=False), 5) == []
    exported = {each.conversation for each in await other.export(ANN)}
    assert exported == {place(2, 0, shared=False)}
    assert {each.conversation async for each in other.blobs(ANN)} == exported


@pytest.mark.parametrize("who", [ANN, ANN_LATER])
@pytest.mark.parametrize("share", SHARES)
async def test_who_has_another_number_is_forgotten_under_both(parts: Any, share: float, who: UserKey) -> None:
    _, other, _ = parts

    numbers = [(UserKey("telegram", "21"), UserKey("telegram", "22")), (ANN, ANN_LATER)]

    async def prepare(store: Any, number: int) -> None:
        user, _ = numbers[number]
        await fill(store, ConversationKey("telegram", user.id), user)
        await fill(store, ConversationKey("telegram", f"-{user.id}"), user, BOB)

    async def move(store: Any, number: int) -> None:
        await store.move(*numbers[number], 10.0)

    await interrupted(parts, prepare, move, lambda: other.forget(who), share)
    assert await left_of(other, ANN, ANN_LATER) == []
    assert await left_of(other, UserKey("telegram", "22")) != []


def test_each_way_begins_with_the_oldest_name_and_has_an_end() -> None:
    chats = [ChatKey("telegram", str(-number)) for number in range(1, 5)]
    ways = Ways([(chats[1], chats[2]), (chats[0], chats[1]), (chats[2], chats[0]), (ANN, ANN_LATER)])
    for chat in chats[:3]:
        names = [each.chat for each in ways.of_conversation(ConversationKey("telegram", chat.id, "7"))]
        assert sorted(names) == ["-1", "-2", "-3"]
    assert ways.of_conversation(ConversationKey("discord", "-1")) == [ConversationKey("discord", "-1")]
    assert ways.of_person(ANN_LATER) == ways.of_person(ANN) == [ANN, ANN_LATER]
    assert ways.of_person(BOB) == [BOB]
    private = [ConversationKey("telegram", ANN.id), ConversationKey("telegram", ANN_LATER.id)]
    assert ways.of_conversation(private[1]) == ways.of_conversation(private[0]) == private
