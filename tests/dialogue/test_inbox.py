"""Claims, takeover, retries and dead letters, with both stores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest

from conftest import make_dialogue, until
from glmbot.background import Troubles
from glmbot.dialogue.access import Access
from glmbot.dialogue.held import TRIES
from glmbot.dialogue.inbox import Inbox, pause_before
from glmbot.dialogue.lanes import Lanes
from glmbot.engine.local import LocalEngine
from glmbot.errors import ClaimLost, StoreError, StoreUnavailable
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Announce, Message, Unfinished
from glmbot.store.base import Store
from glmbot.store.ownership import is_gone, owner_name
from glmbot.store.records import Claim, StoredAnswer
from glmbot.store.redis import RedisStore

CHAT = ConversationKey("telegram", "7")


def asked(number: int, chat: ConversationKey = CHAT) -> Message:
    return Message(str(number), chat, UserKey("telegram", "7"), f"question {number}")


async def given(inbox: Inbox, count: int) -> list[Unfinished]:
    found: list[Unfinished] = []
    async with asyncio.timeout(90), aclosing(inbox.assigned("telegram")) as assigned:
        while len(found) < count:
            found.append(await anext(assigned))
    return found


async def test_what_is_accepted_is_assigned_once_and_in_order(store: Store) -> None:
    inbox = Inbox(store, time.time)
    for number in (1, 2, 2, 3):
        await inbox.accept(asked(number))
    assert [entry.message.update_id for entry in await given(inbox, 3)] == ["1", "2", "3"]
    for number in (1, 2, 3):
        await inbox.delivered(asked(number), [])
    assert await store.unfinished("telegram") == []
    assert inbox.held.total() == 0


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreError("damaged")])
async def test_what_was_delivered_while_the_store_was_away_is_not_open_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: StoreError
) -> None:
    monkeypatch.setattr("glmbot.dialogue.inbox._FIRST_PAUSE_S", 0.0)
    inbox = Inbox(store, time.time)
    for number in (1, 2):
        await inbox.accept(asked(number))
    await given(inbox, 2)
    real, failures = store.delivered, iter([error] * 3)

    async def delivered(message: Message, shown: Sequence[str] = ()) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure
        await real(message, shown)

    monkeypatch.setattr(store, "delivered", delivered)
    await inbox.delivered(asked(1), ["a1"])
    await inbox.delivered(asked(2), ["a2"])
    await until(lambda: inbox.held.total() == 0)
    assert await store.unfinished("telegram") == []
    await inbox.close()


async def test_what_kills_the_process_again_and_again_is_set_aside_and_can_be_replayed(store: Store) -> None:
    message = asked(1)
    await store.accept(message, 1.0)
    await store.mark(message, {TRIES: "5"})
    await store.accept(asked(2), 2.0)
    inbox = Inbox(store, time.time, tries=5)
    assert [entry.message.update_id for entry in await given(inbox, 1)] == ["2"]
    (letter,) = await store.dead_letters()
    assert letter.message == message
    assert "5 times" in letter.reason
    assert await store.replay(message)
    assert not await store.replay(message)
    assert [entry.message.update_id for entry in await given(inbox, 2)] == ["1", "2"]
    assert await store.dead_letters() == []


async def test_a_message_that_can_not_be_delivered_is_set_aside_with_its_reason_and_can_be_dropped(
    store: Store,
) -> None:
    inbox = Inbox(store, time.time, tries=1)
    await inbox.accept(asked(1))
    (entry,) = await given(inbox, 1)
    await inbox.count_try(entry.message)
    await inbox.again(entry.message, "the platform refused\nthe answer")
    (letter,) = await store.dead_letters()
    assert letter.reason == "the platform refused the answer"
    assert await store.unfinished("telegram") == []
    assert await store.drop(entry.message)
    assert not await store.drop(entry.message)
    assert await store.dead_letters() == []


async def test_a_stop_in_good_order_is_no_failed_try(store: Store) -> None:
    inbox = Inbox(store, time.time)
    await inbox.accept(asked(1))
    (entry,) = await given(inbox, 1)
    await inbox.count_try(entry.message)
    assert (await store.unfinished("telegram"))[0].marks[TRIES] == "1"
    await inbox.close()
    assert (await store.unfinished("telegram"))[0].marks[TRIES] == "0"


async def test_a_try_counts_also_when_its_conversation_is_just_being_looked_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot.dialogue.inbox._FIRST_PAUSE_S", 0.0)
    inbox = Inbox(store, time.time)
    await inbox.accept(asked(1))
    async with asyncio.timeout(90), aclosing(inbox.assigned("telegram")) as assigned:
        first = await anext(assigned)
        read, goes_on, real = asyncio.Event(), asyncio.Event(), store.claim

        async def claim(conversation: ConversationKey, lasts_s: float) -> Claim:
            found = await real(conversation, lasts_s)
            read.set()
            await goes_on.wait()
            return found

        monkeypatch.setattr(store, "claim", claim)
        looking = asyncio.create_task(inbox._look(CHAT))
        await read.wait()
        ending = asyncio.create_task(inbox.again(first.message, "a bug"))
        # Whatever it does without the answer of the store is done by then.
        await asyncio.wait({ending}, timeout=0.5)
        goes_on.set()
        await asyncio.gather(looking, ending)
        second = await anext(assigned)
    assert second.message == first.message
    assert second.marks[TRIES] == "1"
    await inbox.close()


def test_pauses_grow_and_stay_bounded() -> None:
    pauses = [pause_before(attempt) for attempt in range(1, 20)]
    assert pauses[:5] == [0, 0, 1, 2, 4]
    assert pauses == sorted(pauses)
    assert max(pauses) == 60


async def test_two_processes_never_have_one_conversation(redis_url: str) -> None:
    prefix = f"test-{time.time_ns()}"
    first, second = RedisStore(redis_url, prefix=prefix), RedisStore(redis_url, prefix=prefix)
    message = asked(1)
    await first.accept(message, 1.0)
    assert (await first.claim(CHAT, 1.0)).owner == first.owner
    assert (await second.claim(CHAT, 1.0)).owner == first.owner
    with pytest.raises(ClaimLost):
        await second.finish(message, StoredAnswer("late", "final", ""), question="x")
    await first.release(CHAT)
    assert [entry.message for entry in (await second.claim(CHAT, 1.0)).open] == [message]
    with pytest.raises(ClaimLost):
        await first.delivered(message)
    assert await first.lease("poll", 1.0) == first.owner
    assert await second.lease("poll", 1.0) == first.owner
    await first.end_lease("poll")
    assert await second.lease("poll", 1.0) == second.owner
    await first.close()
    await second.close()


async def test_a_silent_process_is_taken_over_when_its_claim_ends(redis_url: str) -> None:
    prefix = f"test-{time.time_ns()}"
    first, second = RedisStore(redis_url, prefix=prefix), RedisStore(redis_url, prefix=prefix)
    for number in (1, 2):
        await first.accept(asked(number), 1.0)
    assert len((await first.claim(CHAT, 0.3)).open) == 2
    inbox = Inbox(second, time.time, claim_s=1.0)
    entries = await given(inbox, 2)
    assert [entry.message.update_id for entry in entries] == ["1", "2"]
    await first.close()
    await second.close()


def test_a_name_tells_whether_its_process_is_gone() -> None:
    mine = owner_name()
    machine, process, run = mine.split("/")
    assert not is_gone(mine)
    assert is_gone(f"{machine}/{process}/of-an-earlier-start")
    assert is_gone(f"{machine}/{2**22 + 1}/{run}")
    assert not is_gone(f"elsewhere/{2**22 + 1}/{run}")
    assert not is_gone("rubbish")


async def test_the_bots_own_words_are_shown_as_they_are(store: Store) -> None:
    notice = replace(asked(1), intent=Announce(), text="Back in ten minutes.")
    await store.accept(notice, 1.0)
    (entry,) = await given(Inbox(store, time.time), 1)
    assert entry.message == notice


async def taken_by(thief: RedisStore) -> None:
    await thief._redis.set(thief._keys.of(CHAT, "claim"), thief.owner, px=60_000)


async def test_after_a_loss_nothing_is_given_out_before_everything_given_has_ended(redis_url: str) -> None:
    prefix = f"test-{time.time_ns()}"
    mine, other = RedisStore(redis_url, prefix=prefix), RedisStore(redis_url, prefix=prefix)
    inbox = Inbox(mine, time.time)
    for number in (1, 2):
        await inbox.accept(asked(number))
    order: list[str] = []
    async with aclosing(inbox.assigned("telegram")) as assigned:
        order += [(await anext(assigned)).message.update_id for _ in range(2)]
        await taken_by(other)
        with pytest.raises(ClaimLost):
            await inbox.delivered(asked(2), [])
        await other.release(CHAT)
        # The first one is still being written, so the second must not overtake it.
        await inbox._look(CHAT)
        assert inbox.held.total() == 0
        await inbox.again(asked(1))
        async with asyncio.timeout(90):
            order += [(await anext(assigned)).message.update_id for _ in range(2)]
    assert order == ["1", "2", "1", "2"]
    await mine.close()
    await other.close()


async def test_what_was_asked_later_does_not_overtake_what_was_left_because_the_claim_was_renewed_late(
    store: Store,
) -> None:
    inbox = Inbox(store, time.time)
    for number in (1, 2):
        await inbox.accept(asked(number))
    order: list[str] = []
    async with asyncio.timeout(90), aclosing(inbox.assigned("telegram")) as assigned:
        order += [(await anext(assigned)).message.update_id for _ in range(2)]
        await inbox.count_try(asked(1))
        inbox._held[CHAT].renewed_at -= 60
        with pytest.raises(ClaimLost):
            inbox.check(asked(1))
        # It was this process's all the time, and is again.
        await inbox._look(CHAT)
        with pytest.raises(ClaimLost):
            inbox.check(asked(2))
        for number in (1, 2):
            await inbox.again(asked(number))
        entries = [await anext(assigned) for _ in range(2)]
        order += [entry.message.update_id for entry in entries]
    assert order == ["1", "2", "1", "2"]
    assert entries[0].marks[TRIES] == "0", "that was nobody's fault"
    await inbox.close()


async def test_what_is_lost_while_it_is_looked_at_is_not_given_out_by_that_look(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(store, time.time)
    await inbox.accept(asked(1))
    async with asyncio.timeout(90), aclosing(inbox.assigned("telegram")) as assigned:
        await anext(assigned)
        real = store.claim

        async def claim(conversation: ConversationKey, lasts_s: float) -> Claim:
            found = await real(conversation, lasts_s)
            inbox.lose(conversation)
            return found

        monkeypatch.setattr(store, "claim", claim)
        await inbox._look(CHAT)
        assert inbox.held.total() == 0
        with pytest.raises(ClaimLost):
            inbox.check(asked(1))
        monkeypatch.setattr(store, "claim", real)
        await inbox.again(asked(1))
        assert (await anext(assigned)).message.update_id == "1"
        assert inbox._queues["telegram"].empty()
    await inbox.close()


async def test_a_claim_lost_in_an_answer_ends_what_waits_behind_it_too(
    engine: LocalEngine, redis_url: str
) -> None:
    prefix = f"test-{time.time_ns()}"
    mine, other = RedisStore(redis_url, prefix=prefix), RedisStore(redis_url, prefix=prefix)
    access = Access(admins=set(), users={UserKey("telegram", "7")})
    dialogue = make_dialogue(engine, mine, access=access)
    async with aclosing(dialogue.assigned("telegram")) as assigned:
        for number in (1, 2):
            await dialogue.accept(asked(number))
        entries = [await anext(assigned) for _ in range(2)]
        first, second = (dialogue.respond(entry.message) for entry in entries)
        await anext(first)
        await anext(second)
        await taken_by(other)
        with pytest.raises(ClaimLost):
            _ = [reply async for reply in first]
        # It is ours again, and still the second one must wait for the first to be given out once more.
        await other.release(CHAT)
        with pytest.raises(ClaimLost):
            _ = [reply async for reply in second]
    assert await mine.last_turns(CHAT, 5) == []
    await mine.close()
    await other.close()


async def test_an_entry_that_cant_be_read_keeps_nobody_else_from_being_answered(sqlite_store: Store) -> None:
    bad = ConversationKey("telegram", "666")
    claim = sqlite_store.claim

    async def claims(conversation: ConversationKey, lasts_s: float) -> Claim:
        if conversation == bad:
            raise KeyError("a row that no version has written")
        return await claim(conversation, lasts_s)

    sqlite_store.claim = claims
    troubles = Troubles()
    inbox = Inbox(sqlite_store, time.time, claim_s=1.0, troubles=troubles)
    for number, chat in enumerate([bad, CHAT, bad, CHAT]):
        await inbox.accept(asked(number, chat))
    async with asyncio.timeout(90), aclosing(inbox.assigned("telegram")) as assigned:
        assert [(await anext(assigned)).message.update_id for _ in range(2)] == ["1", "3"]
        (trouble,) = troubles.now
        assert (trouble.part, trouble.partial) == ("telegram: a conversation", True)
        sqlite_store.claim = claim
        assert [(await anext(assigned)).message.update_id for _ in range(2)] == ["0", "2"]
    assert troubles.now == []


@pytest.mark.parametrize("name", ["open_conversations", "waiting"])
async def test_a_feeder_that_fails_is_told_of_and_begins_again(
    sqlite_store: Store, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    real, failing = getattr(sqlite_store, name), True

    async def fails(*arguments: object) -> object:
        if failing:
            raise TypeError("a message with a field of tomorrow")
        return await real(*arguments)

    setattr(sqlite_store, name, fails)
    troubles = Troubles()
    inbox = Inbox(sqlite_store, time.time, claim_s=1.0, troubles=troubles)
    async with asyncio.timeout(90), aclosing(inbox.assigned("telegram")) as assigned:
        next_one = asyncio.ensure_future(anext(assigned))
        await until(lambda: troubles.now)
        assert "TypeError" in str(troubles.now[0])
        assert not troubles.now[0].partial
        failing = False
        await inbox.accept(asked(1))
        assert (await next_one).message.update_id == "1"
        await until(lambda: not troubles.now)
    assert "what is to be answered ended; beginning again" in caplog.text


@pytest.mark.parametrize(
    "words", ["", "look", "look {owner} x", "look {owner} a:b:c:d", "withdraw x y", "stop 5", "\ud800"]
)
async def test_a_signal_that_cant_be_read_is_left_out(sqlite_store: Store, words: str) -> None:
    heard = asyncio.Event()
    signals = [[words.format(owner=sqlite_store.owner)], ["stop telegram:7"]]

    async def tell(wait_s: float) -> list[str]:
        if not signals:
            await asyncio.sleep(3600)
        return signals.pop(0)

    sqlite_store.signals = tell

    def obey(told: str) -> None:
        Lanes().obey(told)
        if told == "stop telegram:7":
            heard.set()

    inbox = Inbox(sqlite_store, time.time, on_signal=obey)
    running = asyncio.create_task(inbox.run())
    await asyncio.wait_for(heard.wait(), 90)
    assert not running.done()
    running.cancel()


async def test_what_keeps_claims_goes_on_after_any_fault(
    sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    kept = asyncio.Event()
    faults = [RuntimeError("cannot schedule new futures"), KeyError("x")]

    async def keep() -> None:
        if faults:
            raise faults.pop()
        kept.set()

    sqlite_store.keep = keep
    inbox = Inbox(sqlite_store, time.time, claim_s=0.2)
    running = asyncio.create_task(inbox.run())
    await asyncio.wait_for(kept.wait(), 90)
    assert not running.done()
    assert caplog.text.count("claims ended; beginning again") == 2
    running.cancel()
