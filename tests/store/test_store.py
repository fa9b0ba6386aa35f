"""What both stores promise. Every test here runs on SQLite, on a real Redis and on a real Redis cluster."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import free_port
from glmbot.backup_lines import conversation_line, parsed_line
from glmbot.content import Text, ToolCall, ToolResult
from glmbot.errors import StoreError
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import Addressed, ChatKind, Edit, Message, Role
from glmbot.store.base import Store
from glmbot.store.content_json import parts_to_json
from glmbot.store.records import Backlog, StoredAnswer
from glmbot.store.redis import RedisStore
from glmbot.store.sqlite import SqliteStore
from glmbot.store.sqlite_schema import _STEPS

ANN, BOB = UserKey("telegram", "11"), UserKey("telegram", "22")
PRIVATE = ConversationKey("telegram", "11")
GROUP = ConversationKey("telegram", "-5", "", "3")
DONE = StoredAnswer("the answer", "final", "")


def message(
    update: str, user: UserKey = ANN, conversation: ConversationKey = PRIVATE, text: str = "hi"
) -> Message:
    return Message(update, conversation, user, text, origin={"chat": "11"})


async def turn(
    store: Store, update: str, question: str, answer: str = "a", user: UserKey = ANN,
    conversation: ConversationKey = PRIVATE,
) -> bool:  # fmt: skip
    asked = message(update, user, conversation, question)
    assert await store.accept(asked, float(update))
    epoch = await store.epoch(conversation)
    done = await store.finish(
        asked, StoredAnswer(answer, "final", ""), question=question, epoch=epoch, at=float(update)
    )
    await store.delivered(asked)
    return done


async def questions(store: Store, conversation: ConversationKey = PRIVATE) -> list[str]:
    return [each.question for each in await store.last_turns(conversation, 100)]


async def test_an_update_is_accepted_once(store: Store) -> None:
    assert await store.accept(message("1"), 1.0)
    assert not await store.accept(message("1"), 2.0)
    await store.delivered(message("1"))
    assert not await store.accept(message("1"), 3.0)


async def test_fifty_at_once_are_accepted_once(store: Store) -> None:
    results = await asyncio.gather(*(store.accept(message("1"), 1.0) for _ in range(50)))
    assert sum(results) == 1


async def test_what_is_unfinished_comes_back_whole_and_in_order(store: Store) -> None:
    first = Message(
        "9", GROUP, BOB, "héllo 你好 🙂 \u200f", ChatKind.GROUP, "Bob", "zh-hans", Role.ADMIN, {"chat": "-5"},
        ref="17", intent=Edit(), replies_to="16", quoted="so", addressed=Addressed.BY_REPLY,
        media="photo", quoted_from="Anna", anonymous=True,
    )  # fmt: skip
    await store.accept(first, 1.0)
    for number in range(8, 2, -1):
        await store.accept(message(str(number)), 10.0 - number)
    await store.mark(first, {"sent": "[1]"})
    await store.mark(first, {"sent": "[1, 2]", "other": "x"})
    await store.delivered(message("5"))
    left = await store.unfinished("telegram")
    assert [each.message.update_id for each in left] == ["9", "8", "7", "6", "4", "3"]
    assert left[0].message == first
    assert left[0].marks == {"sent": "[1, 2]", "other": "x"}
    assert await store.unfinished("discord") == []


async def test_a_turn_is_appended_with_its_answer_in_one_step(store: Store) -> None:
    asked = message("1")
    await store.accept(asked, 1.0)
    assert await store.answer(asked) is None
    assert await store.finish(asked, DONE, question="hi", epoch=0, at=1.0)
    assert await store.answer(asked) == DONE
    assert not await store.finish(asked, StoredAnswer("again", "final", ""), question="hi", epoch=0, at=2.0)
    assert await questions(store) == ["hi"]
    assert await store.answer(asked) == DONE
    await store.delivered(asked)
    assert await store.answer(asked) is None


async def test_a_turn_keeps_what_it_is_made_of_beside_its_words(store: Store) -> None:
    parts = parts_to_json((Text("hi"),), (ToolCall("1", "look"), ToolResult("1", "黑板"), Text("A sum.")))
    asked, moved = message("1"), ConversationKey("telegram", "77")
    await store.accept(asked, 1.0)
    assert await store.finish(asked, DONE, question="hi", at=1.0, ref="m1", parts=parts)
    await turn(store, "2", "two")
    assert [each.parts for each in await store.last_turns(PRIVATE, 9)] == [parts, ""]
    found = await store.turn_of(PRIVATE, "m1")
    assert found is not None
    assert found.parts == parts
    (stored,) = [each async for each in store.everything()]
    line = json.loads(json.dumps(conversation_line(stored)))
    assert ["parts" in each for each in line["turns"]] == [True, False]
    assert parsed_line(line) == stored
    assert await store.put(replace(stored, conversation=moved))
    assert [each.parts for each in await store.last_turns(moved, 9)] == [parts, ""]


async def test_an_answer_begun_before_a_reset_is_not_appended_after_it(store: Store) -> None:
    await turn(store, "1", "one")
    asked = message("2")
    await store.accept(asked, 2.0)
    epoch = await store.epoch(PRIVATE)
    assert await store.reset(PRIVATE) == 1
    assert not await store.finish(asked, DONE, question="two", epoch=epoch, at=2.0)
    assert await questions(store) == []
    assert await turn(store, "3", "three")


async def test_a_turn_that_follows_an_older_one_is_a_branch_and_the_other_branch_stays(store: Store) -> None:
    for number in ("1", "2", "3"):
        await turn(store, number, number)
    first, second, third = await store.last_turns(PRIVATE, 10)
    again = message("4")
    await store.accept(again, 4.0)
    await store.finish(again, DONE, question="2 again", epoch=0, at=4.0, parent=first.id)
    assert await questions(store) == ["1", "2 again"]
    assert [t.question for t in await store.last_turns(PRIVATE, 10, upto=third.id)] == ["1", "2", "3"]
    assert [t.question for t in await store.last_turns(PRIVATE, 1, upto=second.id)] == ["2"]
    assert await store.last_turns(PRIVATE, 10, upto=0) == []
    assert await turn(store, "5", "5")
    assert await questions(store) == ["1", "2 again", "5"]


async def test_a_branch_that_was_left_can_be_gone_back_to(store: Store) -> None:
    async def say(update: str, ref: str, parent: int | None = None) -> None:
        asked = message(update)
        await store.accept(asked, float(update))
        await store.finish(asked, DONE, question=update, epoch=0, at=float(update), parent=parent, ref=ref)
        await store.delivered(asked)

    await say("1", "q1")
    await say("2", "q2")
    await say("3", "q3")
    for number in range(4, 14):
        # The same question in other words; more than nine, so that ids do not stand in the order of their letters.
        await say(str(number), "q2", parent=1)
    assert await store.followers(PRIVATE, [0, 1, 2, 3, 99]) == {0: [1], 1: [2, *range(4, 14)], 2: [3]}
    assert await store.followers(PRIVATE, []) == {}
    found = await store.turn_of(PRIVATE, "q2")
    assert found is not None
    assert found.question == "13"

    assert await store.lead(PRIVATE, 3, {"q2": 2})
    assert await questions(store) == ["1", "2", "3"]
    found = await store.turn_of(PRIVATE, "q2")
    assert found is not None
    assert found.question == "2"
    await say("14", "q14")
    assert await questions(store) == ["1", "2", "3", "14"]
    assert not await store.lead(PRIVATE, 99, {"q2": 13})
    assert await questions(store) == ["1", "2", "3", "14"]
    await store.reset(PRIVATE)
    assert not await store.lead(PRIVATE, 3, {})
    assert await store.followers(PRIVATE, [0, 1]) == {}
    assert await questions(store) == []


async def test_a_turn_is_found_by_the_messages_it_stands_in(store: Store) -> None:
    asked = message("1")
    await store.accept(asked, 1.0)
    await store.finish(asked, DONE, question="hi", epoch=0, at=1.0, ref="q1", turn_answer="more")
    await store.delivered(asked, ["a1", "a2"])
    for ref in ("q1", "a1", "a2"):
        found = await store.turn_of(PRIVATE, ref)
        assert found is not None
        assert (found.question, found.answer, found.ref) == ("hi", "more", "q1")
        assert await store.shown(PRIVATE, found.id) == ["a1", "a2"]
    assert await store.turn_of(PRIVATE, "a3") is None
    assert await store.turn_of(GROUP, "a1") is None
    chat = ChatKey(PRIVATE.platform, PRIVATE.chat)
    assert await store.asked_in(chat, "q1", 0.0) == PRIVATE, "found by its chat alone, whoever asked"
    assert await store.asked_in(chat, "a1", 0.0) is None
    assert await store.asked_in(ChatKey(PRIVATE.platform, f"{PRIVATE.chat}0"), "q1", 0.0) is None
    await store.reset(PRIVATE)
    assert await store.asked_in(chat, "q1", 0.0) is None
    assert await store.turn_of(PRIVATE, "a1") is None


async def test_a_turn_taken_out_leaves_those_around_it_joined(store: Store) -> None:
    for number in ("1", "2", "3"):
        await turn(store, number, number)
    _, second, third = await store.last_turns(PRIVATE, 10)
    await store.remove_turn(PRIVATE, second.id)
    assert await questions(store) == ["1", "3"]
    await store.remove_turn(PRIVATE, third.id)
    assert await questions(store) == ["1"]
    await store.remove_turn(PRIVATE, 99)
    await turn(store, "4", "4")
    assert await questions(store) == ["1", "4"]


async def test_what_is_backed_up_can_be_put_back_with_its_branches(store: Store, tmp_path: Path) -> None:
    for number in ("1", "2"):
        await turn(store, number, number)
    branch = message("3")
    await store.accept(branch, 3.0)
    await store.finish(branch, DONE, question="2 again", epoch=0, at=3.0, parent=1, ref="q3")
    await turn(store, "4", "anns in group", conversation=GROUP)
    stored = [each async for each in store.everything()]
    assert {each.conversation: len(each.turns) for each in stored} == {PRIVATE: 3, GROUP: 1}
    assert not await store.put(stored[0])
    other = SqliteStore(tmp_path / "other.sqlite3")
    await other.open()
    assert [await other.put(each) for each in stored] == [True, True]
    assert await questions(other) == ["1", "2 again"]
    assert [each async for each in other.everything()] == stored
    for each in stored:
        await store.reset(each.conversation)
        assert await store.put(each)
    assert [each async for each in store.everything()] == stored
    assert await turn(store, "5", "goes on")
    assert await questions(store) == ["1", "2 again", "goes on"]
    await other.close()


async def test_recent_conversations_are_those_with_a_turn_since(store: Store) -> None:
    await turn(store, "10", "old")
    await turn(store, "90", "new", conversation=GROUP)
    assert await store.recent(50.0) == [GROUP]
    assert set(await store.recent(0.0)) == {PRIVATE, GROUP}


async def test_the_last_turns_are_the_newest_oldest_first(store: Store) -> None:
    for number in range(1, 8):
        await turn(store, str(number), str(number))
    newest = await store.last_turns(PRIVATE, 3)
    assert [each.question for each in newest] == ["5", "6", "7"]
    assert [each.id for each in newest] == sorted(each.id for each in newest)
    assert await store.last_turns(PRIVATE, 0) == []


async def test_histories_never_mix(store: Store) -> None:
    await turn(store, "1", "private")
    await turn(store, "2", "group", conversation=GROUP)
    await turn(store, "3", "bob", user=BOB, conversation=ConversationKey("telegram", "22"))
    assert await questions(store) == ["private"]
    assert await questions(store, GROUP) == ["group"]
    await store.reset(GROUP)
    assert await questions(store) == ["private"]


async def test_export_has_everything_of_one_person_and_nothing_of_another(store: Store) -> None:
    await turn(store, "1", "private")
    await turn(store, "2", "anns in group", conversation=GROUP)
    await turn(store, "3", "bobs in group", user=BOB, conversation=GROUP)
    exported = {entry.conversation: [t.question for t in entry.turns] for entry in await store.export(ANN)}
    assert exported == {PRIVATE: ["private"], GROUP: ["anns in group"]}
    assert set(await store.conversations(ANN)) == {PRIVATE, GROUP}


async def test_forgetting_leaves_no_trace_and_keeps_other_people(store: Store, tmp_path: Path) -> None:
    person = UserKey("telegram", "987654321")
    home = ConversationKey("telegram", "987654321")
    await turn(store, "1", "SECRET-question", "SECRET-answer", person, home)
    await turn(store, "2", "SECRET-in-group", "SECRET-answer", person, GROUP)
    await turn(store, "3", "bobs", user=BOB, conversation=GROUP)
    await store.set_setting(person, "language", "zh")
    pending = Message("4", home, person, "SECRET-pending")
    await store.accept(pending, 4.0)
    await store.mark(pending, {"sent": "[1]"})
    await store.accept(Message("5", GROUP, person, "SECRET-pending"), 5.0)
    assert await store.forget(person) == 2
    assert await questions(store, GROUP) == ["bobs"]
    assert await store.unfinished("telegram") == []
    assert not await store.finish(pending, DONE, question="late", epoch=0, at=9.0)
    if isinstance(store, RedisStore):
        content = await _scan_redis(store)
    else:
        content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert str(BOB).encode() in content
    assert b"SECRET" not in content
    assert b"987654321" not in content


async def _scan_redis(store: RedisStore) -> bytes:
    """Every key of the store with its whole content."""
    client, found = store._redis, ""
    async for key in client.scan_iter(f"{store._keys.prefix}:*"):
        readers: dict[Any, Any] = {
            "hash": client.hgetall, "list": lambda k: client.lrange(k, 0, -1),
            "stream": client.xrange, "set": client.smembers, "zset": lambda k: client.zrange(k, 0, -1), "string": client.get,
        }  # fmt: skip
        found += key + repr(await readers[await client.type(key)](key))
    return found.encode()


async def test_the_backlog_counts_open_conversations_and_dead_letters(store: Store) -> None:
    assert await store.backlog() == Backlog(0, 0)
    for update in ("1", "2"):
        await store.accept(message(update), 1.0)
    await store.accept(message("3", conversation=GROUP), 1.0)
    assert await store.backlog() == Backlog(2, 0)
    await store.set_aside(message("3", conversation=GROUP), "refused", 2.0)
    await store.claim(GROUP, 5)
    assert await store.backlog() == Backlog(1, 1)
    assert store.journaled == 0


async def test_settings_belong_to_persons_and_chats_and_an_empty_one_is_none(store: Store) -> None:
    chat = ChatKey("telegram", "11")
    await store.set_setting(chat, "mode", "all")
    await store.set_setting(ANN, "limit", "5")
    assert await store.settings(chat) == {"mode": "all"}
    assert await store.all_settings() == {"telegram:11": {"limit": "5"}, "telegram:chat:11": {"mode": "all"}}
    await store.set_setting(chat, "mode", "")
    assert await store.settings(chat) == {}
    assert await store.all_settings() == {"telegram:11": {"limit": "5"}}


async def test_settings_are_kept_by_person(store: Store) -> None:
    await store.set_setting(ANN, "language", "zh")
    await store.set_setting(ANN, "language", "en")
    assert await store.settings(ANN) == {"language": "en"}
    assert await store.settings(BOB) == {}


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_turns_are_deleted_after_their_time(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store: Store = (
        SqliteStore(tmp_path / "s.sqlite3", turns_kept_s=100)
        if kind == "sqlite"
        else RedisStore(
            request.getfixturevalue("redis_url"), prefix=f"expiry{id(tmp_path)}", turns_kept_s=100
        )
    )
    await store.open()
    await turn(store, "10", "old")
    await turn(store, "90", "newer")
    await store.accept(message("150"), 150.0)
    while await store.tidy(150.0):
        pass
    assert await questions(store) == ["newer"]
    await store.close()


async def test_a_database_survives_its_process(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    await turn(store, "1", "one")
    await store.accept(message("2"), 2.0)
    # No close: what is committed must be there for the next process all the same.
    again = SqliteStore(tmp_path / "s.sqlite3")
    await again.open()
    assert await questions(again) == ["one"]
    assert len(await again.unfinished("telegram")) == 1
    await again.close()
    await store.close()


async def test_a_database_of_the_first_version_is_taken_over_with_all_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    with sqlite3.connect(path) as old:
        old.executescript(str(_STEPS[0]))
        for number in (1, 2, 3):
            old.execute(
                "INSERT INTO turns VALUES (?, ?, ?, ?, 'a', 1.0)",
                (str(PRIVATE), number, str(ANN), str(number)),
            )
        old.execute("INSERT INTO epochs VALUES (?, 0, 3)", (str(PRIVATE),))
        old.execute("INSERT INTO settings VALUES (?, 'language', 'zh')", (str(ANN),))
    store = SqliteStore(path)
    await store.open()
    assert await questions(store) == ["1", "2", "3"]
    assert await store.settings(ANN) == {"language": "zh"}
    assert await turn(store, "4", "4")
    assert await questions(store) == ["1", "2", "3", "4"]
    await store.close()


async def test_a_file_that_is_no_database_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my shopping list\n" * 100)
    with pytest.raises(StoreError, match=r"notes\.txt"):
        await SqliteStore(path).open()
    assert path.read_text().startswith("my shopping list")


async def test_an_unreachable_redis_is_named_without_its_password() -> None:
    port = free_port()
    store = RedisStore(f"redis://user:pa55word@127.0.0.1:{port}/0", timeout_s=1)
    with pytest.raises(StoreError, match=f"127.0.0.1:{port}") as caught:
        await store.open()
    assert "pa55word" not in str(caught.value)
    await store.close()


async def test_a_redis_that_may_lose_histories_is_warned_of(redis_url: str) -> None:
    store = RedisStore(redis_url)
    await store.open()
    assert any("nothing is persisted" in warning for warning in await store.warnings())
    await store.close()


async def test_a_failing_statement_is_a_store_error_that_says_which(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    with sqlite3.connect(tmp_path / "s.sqlite3") as other:
        other.execute("DROP TABLE inbox")
    with pytest.raises(StoreError, match="inbox"):
        await store.accept(message("1"), 1.0)
    await store.close()
