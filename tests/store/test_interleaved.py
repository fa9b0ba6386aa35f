"""Big works are many steps: what comes between two of them, a crash or somebody's message, leaves nothing wrong."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from glmbot.errors import StoreError, StoreUnavailable
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.base import Store
from glmbot.store.records import StoredAnswer, StoredConversation, Turn
from glmbot.store.redis import RedisStore
from glmbot.store.sealed import new_key, sealed
from glmbot.store.sqlite import SqliteStore
from glmbot.store.sqlite_removal import begin_reset, to_forget

ANN = UserKey("telegram", "11")
OLD, NEW = ChatKey("telegram", "-5"), ChatKey("telegram", "-1005")
HERE, THERE = ConversationKey("telegram", "-5", "11"), ConversationKey("telegram", "-1005", "11")
DONE = StoredAnswer("the answer", "final", "")


def asked(update: str, conversation: ConversationKey = HERE, user: UserKey = ANN) -> Message:
    return Message(update, conversation, user, f"question {update}")


async def turn(
    store: Store, update: str, conversation: ConversationKey = HERE, parent: int | None = None
) -> None:
    message = asked(update, conversation)
    assert await store.accept(message, float(update))
    epoch = await store.epoch(conversation)
    await store.finish(
        message, DONE, question=message.text, epoch=epoch, at=float(update), ref=f"q{update}", parent=parent
    )
    await store.delivered(message, [f"a{update}"])


async def said(store: Store, conversation: ConversationKey) -> list[str]:
    return [each.question.removeprefix("question ") for each in await store.last_turns(conversation, 1000)]


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncGenerator[Any]:
    made = RedisStore(redis_url, prefix=f"test-{time.time_ns()}")
    await made.open()
    yield made
    await made.close()


@pytest.fixture(params=["sqlite", "redis"])
def either(request: pytest.FixtureRequest) -> Any:
    return request.param


async def keys_of(store: Any, words: str) -> list[str]:
    return [key async for key in store._redis.scan_iter(match=f"{store._keys.prefix}*") if words in key]


async def test_however_many_moves_were_interrupted_each_is_finished(redis: Any) -> None:
    for number in range(1, 9):
        await turn(redis, str(number), ConversationKey("telegram", str(-number), "11"))
        await redis._moves.begin(
            ChatKey("telegram", str(-number)), ChatKey("telegram", str(-1000 - number)), 10.0
        )
    for now in (100.0, 200.0, 300.0):
        await redis.tidy(now)
    for number in range(1, 9):
        assert await said(redis, ConversationKey("telegram", str(-1000 - number), "11")) == [str(number)]


async def test_turns_that_are_to_be_kept_for_ever_have_no_end_left_from_before(
    redis: Any, redis_url: str
) -> None:
    short = RedisStore(redis_url, prefix=redis._keys.prefix, turns_kept_s=86400)
    await turn(short, "1")
    await turn(redis, "2")
    keys = await keys_of(redis, str(HERE))
    passing = (":seen", ":inbox")
    ends = {key.rpartition("}")[2]: await redis._redis.ttl(key) for key in keys if not key.endswith(passing)}
    assert set(ends.values()) == {-1}, ends
    await short.close()


async def test_turns_from_before_there_was_a_time_to_keep_them_end_too(redis: Any, redis_url: str) -> None:
    await turn(redis, "1")
    short = RedisStore(redis_url, prefix=redis._keys.prefix, turns_kept_s=86400)
    while await short.tidy(200_000.0):
        pass
    assert await said(redis, HERE) == []
    await short.close()


async def test_an_answer_that_was_recorded_keeps_its_turn_over_an_interrupted_move(redis: Any) -> None:
    await turn(redis, "1", THERE)
    await turn(redis, "2", HERE)
    late = asked("3")
    await redis.accept(late, 3.0)
    await redis.finish(late, DONE, question=late.text, epoch=0, at=3.0, ref="q3")
    # Ended between turns and messages.
    moves = redis._moves
    messages, moves._move_messages = moves._move_messages, _crash
    with pytest.raises(StoreUnavailable):
        await redis.move(OLD, NEW, 10.0)
    moves._move_messages = messages
    await redis.tidy(100.0)
    ((entry),) = (await redis.claim(THERE, 5)).open
    await redis.delivered(entry.message, ["a3"])
    found = await redis.turn_of(THERE, "a3")
    assert found is not None
    assert found.question == "question 3"


async def _crash(*_: object) -> bool:
    raise StoreUnavailable("away")


async def test_a_message_that_was_moved_and_answered_is_not_moved_again(redis: Any) -> None:
    await redis.accept(asked("1"), 1.0)
    real = redis._redis.pipeline
    count = itertools.count()

    def pipeline(*given: Any, **named: Any) -> Any:
        made = real(*given, **named)
        delete = made.hdel

        def hdel(*args: Any) -> Any:
            if next(count) == 0:
                raise StoreUnavailable("away")
            return delete(*args)

        made.hdel = hdel
        return made

    redis._redis.pipeline = pipeline
    with pytest.raises(StoreUnavailable):
        await redis.move(OLD, NEW, 10.0)
    redis._redis.pipeline = real
    for entry in (await redis.claim(THERE, 5)).open:
        await redis.delivered(entry.message)
    await redis.tidy(100.0)
    assert (await redis.claim(THERE, 5)).open == []
    assert (await redis.claim(HERE, 5)).open == []


async def test_nothing_of_the_old_chat_stays_for_ever(redis: Any) -> None:
    await turn(redis, "1")
    await redis.move(OLD, NEW, 10.0)
    left = {key: await redis._redis.ttl(key) for key in await keys_of(redis, str(HERE))}
    assert all(seconds > 0 for seconds in left.values()), left


async def test_what_is_asked_while_its_person_is_forgotten_can_be_forgotten_too(
    redis: Any, redis_url: str
) -> None:
    other = RedisStore(redis_url, prefix=redis._keys.prefix)
    await turn(redis, "1")
    await turn(redis, "2", ConversationKey("telegram", "-5"))
    for number, conversation in enumerate((HERE, ConversationKey("telegram", "-5")), 3):
        begun = redis._claims.open

        async def meanwhile(each: ConversationKey, begun: Any = begun) -> None:
            await begun(each)
            await other.forget(ANN)

        redis._claims.open = meanwhile
        await redis.accept(asked(str(number), conversation), 3.0)
        redis._claims.open = begun
    await redis.forget(ANN)
    assert [await redis._redis.hlen(key) for key in await keys_of(redis, ":inbox")] in ([], [1])
    await other.close()


async def test_a_list_of_dead_letters_loses_none_that_comes_meanwhile(redis: Any) -> None:
    await redis.accept(asked("1"), 1.0)
    change = redis._change

    async def slow(*given: Any) -> Any:
        await redis.dead_letters()
        return await change(*given)

    redis._change = slow
    await redis.set_aside(asked("1"), "refused", 2.0)
    assert len(await redis.dead_letters()) == 1


async def test_a_question_that_was_taken_out_stays_out_when_its_chat_moves(
    either: str, redis: Any, tmp_path: Path
) -> None:
    store: Any = redis
    if either == "sqlite":
        store = SqliteStore(tmp_path / "moved.sqlite3")
        await store.open()
    await turn(store, "1")
    await turn(store, "2")
    await turn(store, "3", parent=1)
    await store.remove_turn(HERE, 3)
    assert await said(store, HERE) == ["1"]
    await store.move(OLD, NEW, 10.0)
    assert await said(store, THERE) == ["1"]
    if either == "sqlite":
        await store.close()


async def test_a_question_counted_under_both_numbers_is_counted(redis: Any) -> None:
    for owner in (str(OLD), str(NEW)):
        await redis.count("q", {owner: 5}, 1e9)
    await redis.move(OLD, NEW, 1e9)
    assert await redis.counted(str(NEW), 1e9 + 1) == 1
    assert await redis.count("p", {str(NEW): 1}, 1e9 + 1) > 3000


async def test_a_page_of_people_of_a_sealed_store_is_full(tmp_path: Path) -> None:
    store = sealed(SqliteStore(tmp_path / "sealed.sqlite3"), [new_key()])
    await store.open()
    for name in ("discord:1", "telegram:2", "telegram:3"):
        await store.set_setting(UserKey.parse(name), "language", "zh")
    assert list(await store.people(2)) == ["discord:1", "telegram:2"]
    assert list(await store.people(2, "telegram:2")) == ["telegram:3"]
    assert list(await store.people(5)) == ["discord:1", "telegram:2", "telegram:3"]
    await store.close()


async def test_a_log_that_has_grown_once_does_not_stay_large(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "grown.sqlite3")
    await store.open()
    for number in range(20):
        await store.set_setting(ANN, "prompt", str(number) * 1_000_000)
    log = 1 << 40
    for number in range(500):
        await store.set_setting(ANN, "language", str(number))
        # The keeper's thread folds it in when it gets to run.
        await asyncio.get_running_loop().run_in_executor(store._connection._keeper, lambda: None)
        if (log := (tmp_path / "grown.sqlite3-wal").stat().st_size) < 16 * 2**20:
            break
    await store.close()
    assert log < 16 * 2**20


async def test_what_is_being_moved_is_not_claimed_under_its_old_name(
    either: str, redis: Any, tmp_path: Path
) -> None:
    store: Any = redis
    if either == "sqlite":
        store = SqliteStore(tmp_path / "claimed.sqlite3")
        await store.open()
    for number in range(1, 30):
        conversation = ConversationKey("telegram", str(-number), "11")
        await store.accept(asked(str(number), conversation), 1.0)
        _, claim = await asyncio.gather(
            store.move(ChatKey("telegram", str(-number)), ChatKey("telegram", str(-1000 - number)), 10.0),
            _soon(store, conversation, number),
        )
        there = await store.claim(ConversationKey("telegram", str(-1000 - number), "11"), 5)
        assert len([*claim.open, *there.open]) == 1, number
    if either == "sqlite":
        await store.close()


async def _soon(store: Any, conversation: ConversationKey, steps: int) -> Any:
    for _ in range(steps):
        await asyncio.sleep(0.0002)
    return await store.claim(conversation, 5)


async def test_what_was_to_be_deleted_does_not_come_along_to_the_new_chat(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "reset.sqlite3")
    await store.open()
    await turn(store, "1")
    # A crash right after a reset had begun.
    await store._run(lambda db: begin_reset(db, str(HERE)))
    await store.move(OLD, NEW, 10.0)
    await store.tidy(20.0)
    assert await store.export(ANN) == []
    await store.close()


async def test_what_is_set_while_its_person_is_forgotten_goes_too(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "set.sqlite3")
    await store.open()
    write = store._connection.write
    private = ChatKey("telegram", "11", "11")

    async def before_the_end(step: Any, **named: Any) -> Any:
        if not named and await store._read(to_forget):
            store._connection.write = write
            await store.set_setting(private, "prompt", "mine")
        return await write(step, **named)

    store._connection.write = before_the_end
    await store.forget(ANN)
    assert await store.all_settings() == {}
    await store.close()


async def test_what_is_delivered_while_the_unfinished_are_listed_is_not_damaged(redis: Any) -> None:
    await redis.accept(asked("1"), 1.0)
    real = redis._redis.zrange

    async def zrange(*given: Any, **named: Any) -> Any:
        found = await real(*given, **named)
        await redis.delivered(asked("1"))
        return found

    redis._redis.zrange = zrange
    assert await redis.unfinished("telegram") == []
    redis._redis.zrange = real
    assert (await redis.backlog()).dead == 0


async def test_who_only_began_anew_is_taken_over_and_can_be_forgotten(redis: Any) -> None:
    alone = ConversationKey("telegram", "11")
    await redis._redis.delete(redis._keys.named("layout"))
    await redis._redis.sadd(redis._keys.named("platforms"), "telegram")
    await redis._redis.sadd(redis._keys.named("open:telegram"), str(alone))
    await redis._redis.sadd(redis._keys.owner(ANN, "conversations"), str(alone))
    await redis._redis.hset(redis._keys.of(alone, "meta"), "epoch", 3)
    await redis._redis.zadd(redis._keys.of(alone, "seen"), {"u": 1})
    await redis.open()
    await redis.forget(ANN)
    assert await keys_of(redis, "telegram:11") == []


async def test_a_damaged_wish_keeps_the_others_from_nothing(either: str, redis: Any, tmp_path: Path) -> None:
    store: Any = redis
    if either == "sqlite":
        store = SqliteStore(tmp_path / "wishes.sqlite3")
        await store.open()
        await store._run(lambda db: db.execute("INSERT INTO forgetting VALUES ('!')"))
        await store._run(lambda db: db.execute("INSERT INTO moves VALUES ('!', '?', 1, 1)"))
        await store._run(
            lambda db: db.execute("INSERT INTO moves VALUES (?, ?, 10, 10)", (str(OLD), str(NEW)))
        )
    else:
        await store._redis.sadd(store._keys.named("forgetting"), "!")
        await store._redis.hset(store._keys.named("moves"), "!", "?")
        await store._redis.hset(store._keys.named("moves"), "?", "? 1 1")
        await store._moves.begin(OLD, NEW, 10.0)
    await turn(store, "1")
    await store.tidy(100.0)
    assert await said(store, THERE) == ["1"]
    if either == "sqlite":
        await store.close()


async def test_a_history_of_any_length_moves_whole(redis: Any) -> None:
    many = [Turn(number, ANN, f"question {number}", "a" * 80, 1.0, number - 1) for number in range(1, 2001)]
    await redis.put(StoredConversation(HERE, many, 2000))
    await redis.move(OLD, NEW, 10.0)
    assert len(await redis.last_turns(THERE, 3000)) == 2000
    assert await redis.last_turns(HERE, 10) == []


async def test_who_only_writes_leaves_nothing_for_ever(redis: Any) -> None:
    stranger = UserKey("telegram", "77")
    alone = ConversationKey("telegram", "77")
    for number, conversation in enumerate((alone, ConversationKey("telegram", "-5", "77"), alone), 1):
        await redis.accept(asked(f"s{number}", conversation, stranger), float(number))
        await redis.delivered(asked(f"s{number}", conversation, stranger))
    await redis.accept(asked("s9", alone, stranger), 9.0)
    open_now = [each for each in await keys_of(redis, ":77") if await redis._redis.ttl(each) == -1]
    assert sorted(key.rpartition(":")[2] for key in open_now) == ["inbox", "queue"]
    await redis.delivered(asked("s9", alone, stranger))
    await redis.reset(alone)
    assert [each for each in await keys_of(redis, ":77") if await redis._redis.ttl(each) == -1] == []
    # And is kept as long as there is a turn.
    await turn(redis, "1", HERE)
    await redis.accept(asked("2"), 2.0)
    kept = {key.rpartition(":")[2]: await redis._redis.ttl(key) for key in await keys_of(redis, ":11")}
    assert kept.pop("seen") > 0
    assert set(kept.values()) == {-1}, kept
    await redis.reset(HERE)
    await redis.delivered(asked("2"))
    assert await redis.forget(ANN) == 0
    assert await keys_of(redis, ":11") == []


async def test_what_was_set_aside_is_forgotten_however_long_ago_it_was_written(redis: Any) -> None:
    group = ConversationKey("telegram", "-7")
    for number, user in (("1", ANN), ("2", UserKey("telegram", "12"))):
        await redis.accept(asked(number, group, user), 1.0)
        await redis.set_aside(asked(number, group, user), "refused", 2.0)
    # As it ends where nothing came of what was written.
    await redis._redis.delete(redis._keys.owner(ANN, "places"))
    await redis.accept(asked("3", HERE), 3.0)
    await redis.forget(ANN)
    assert [letter.message.user.id for letter in await redis.dead_letters()] == ["12"]
    inbox = await redis._redis.hgetall(redis._keys.of(group, "inbox"))
    assert not [value for value in inbox.values() if str(ANN) in value]


async def test_a_common_history_halfway_is_found_behind_one_that_has_arrived(redis: Any) -> None:
    threads = [ConversationKey("telegram", OLD.id, "", str(thread)) for thread in (1, 2)]
    for thread in threads:
        await redis.accept(asked(f"{thread.thread}", thread), 1.0)
    turns = [Turn(1, ANN, "question 1", "a", 1.0)]
    await redis.put(StoredConversation(threads[1], turns, 1))
    await redis._moves.begin(OLD, NEW, 1.0)
    assert await redis._removal.halfway(ANN) == [(OLD, NEW)]


@pytest.mark.parametrize("field", ["removed", "epoch"])
@pytest.mark.parametrize("worst", [b"\xff", b"", b"x", b"1e400", b"9" * 30])
async def test_a_damaged_count_holds_up_no_move_for_ever_and_keeps_nobody_remembered(
    redis: Any, field: str, worst: bytes
) -> None:
    await turn(redis, "1", THERE)
    await turn(redis, "2")
    await redis._redis.hset(redis._keys.of(THERE, "meta"), field, worst)
    async with asyncio.timeout(60):
        with suppress(StoreError):
            await redis.move(OLD, NEW, 10.0)
        await redis.forget(ANN)
    assert await said(redis, HERE) == await said(redis, THERE) == []
    async with asyncio.timeout(60):
        await redis.tidy(1e9)
