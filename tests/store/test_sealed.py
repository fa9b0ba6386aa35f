"""Encryption at rest: nothing readable is kept, keys can be changed, and no key is never mistaken for no history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from glmbot.errors import StoreError
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.base import Store
from glmbot.store.journal import JournaledRedisStore
from glmbot.store.records import StoredAnswer, StoredConversation, Turn
from glmbot.store.sealed import new_key, sealed
from glmbot.store.sqlite import SqliteStore
from redis_server import Server

ANN = UserKey("telegram", "11")
HOME = ConversationKey("telegram", "11")
SECRET = "a word that nobody else may read"


def asked(number: int) -> Message:
    return Message(
        str(number), HOME, ANN, f"{SECRET} {number}", user_name=SECRET, quoted=SECRET, quoted_from=SECRET
    )


async def talk(store: Store) -> None:
    """A turn that was shown, one that was not, a question that waits, a dead letter, settings."""
    await store.open()
    for number in (1, 2, 3, 4):
        await store.accept(asked(number), float(number))
    for number in (1, 2):
        await store.finish(
            asked(number),
            StoredAnswer(SECRET, "final", SECRET),
            question=asked(number).text,
            at=float(number),
            parts=SECRET,
        )
    await store.delivered(asked(1), ["m1"])
    await store.mark(asked(3), {"sent": "[1]"})
    await store.set_aside(asked(4), "refused", 9.0)
    await store.set_setting(ANN, "prompt", SECRET)


async def all_there(store: Store) -> None:
    turns = await store.last_turns(HOME, 9)
    assert [(turn.question, turn.parts) for turn in turns] == [(asked(n).text, SECRET) for n in (1, 2)]
    assert [entry.message for entry in await store.unfinished("telegram")] == [asked(2), asked(3)]
    assert await store.answer(asked(2)) == StoredAnswer(SECRET, "final", SECRET)
    assert [letter.message for letter in await store.dead_letters()] == [asked(4)]
    assert await store.all_settings() == {str(ANN): {"prompt": SECRET}}


def content(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


async def test_no_word_of_anybodys_is_in_a_sealed_store(tmp_path: Path) -> None:
    key = new_key()
    store = sealed(SqliteStore(tmp_path / "store.sqlite3"), [key])
    await talk(store)
    await all_there(store)
    assert b"telegram" in content(tmp_path)
    assert SECRET.encode() not in content(tmp_path)
    await store.close()
    again = sealed(SqliteStore(tmp_path / "store.sqlite3"), [key])
    await again.open()
    await all_there(again)
    await again.close()


async def test_no_word_of_anybodys_is_in_a_sealed_redis_or_its_journal(
    tmp_path: Path, server: Server
) -> None:
    inner = JournaledRedisStore(server.url, tmp_path / "journal.sqlite3", timeout_s=1.0)
    store = sealed(inner, [new_key()])
    await talk(store)
    await all_there(store)
    await server.kill()
    assert await store.accept(asked(5), 5.0)
    await store.finish(asked(3), StoredAnswer(SECRET, "final", SECRET), question=asked(3).text, at=6.0)
    assert inner.journaled == 2
    assert b"prompt" in content(tmp_path)
    assert SECRET.encode() not in content(tmp_path)
    await store.close()


@pytest.mark.parametrize(("keys", "words"), [([], "encrypted; set"), ([new_key()], "another key")])
async def test_a_sealed_store_is_refused_without_its_key(tmp_path: Path, keys: list[str], words: str) -> None:
    store = sealed(SqliteStore(tmp_path / "store.sqlite3"), [new_key()])
    await store.open()
    await store.close()
    with pytest.raises(StoreError, match=words):
        await sealed(SqliteStore(tmp_path / "store.sqlite3"), keys).open()


async def test_a_key_can_be_changed_and_what_was_plain_stays_readable(tmp_path: Path) -> None:
    old, new = new_key(), new_key()
    for number, keys in enumerate(([], [old], [new, old]), 1):
        store = sealed(SqliteStore(tmp_path / "store.sqlite3"), keys)
        await store.open()
        await store.accept(asked(number), float(number))
        assert [entry.message for entry in await store.unfinished("telegram")] == [
            asked(each) for each in range(1, number + 1)
        ]
        await store.close()
    alone = sealed(SqliteStore(tmp_path / "store.sqlite3"), [new])
    await alone.open()
    with pytest.raises(StoreError, match="another key"):
        await alone.unfinished("telegram")
    await alone.close()


@pytest.mark.parametrize(
    "text",
    [
        "sealed:hello",
        "sealed:",
        "sealed:plain:hello",
        "sealed:" + Fernet(Fernet.generate_key()).encrypt(b"x").decode(),
    ],
)
async def test_a_persons_own_text_is_never_taken_for_a_sealed_one(tmp_path: Path, text: str) -> None:
    """Neither in a store without a key, nor when it is given one, nor afterwards."""
    for number, keys in enumerate(([], [], [key := new_key()], [key]), 1):
        store = sealed(SqliteStore(tmp_path / "store.sqlite3"), keys)
        await store.open()
        message = Message(str(number), HOME, ANN, text, user_name=text, quoted=text)
        await store.accept(message, 1.0)
        await store.finish(message, StoredAnswer(text, "final", text), question=text, at=1.0)
        await store.set_setting(UserKey("telegram", str(number)), "name", text)
        assert [entry.message for entry in await store.unfinished("telegram")] == [
            replace(message, update_id=str(each)) for each in range(1, number + 1)
        ]
        assert [(turn.question, turn.answer) for turn in await store.last_turns(HOME, 9)] == [
            (text, text)
        ] * number
        assert {each["name"] for each in (await store.all_settings()).values()} == {text}
        assert [each.title for each in await store.conversation_summaries(ANN, 9)] == [text]
        await store.close()


async def test_what_an_earlier_release_kept_of_such_a_text_is_readable(tmp_path: Path) -> None:
    """It wrote a person's "sealed:" as it was. And nobody can end the list of all people by a name of that kind."""
    inner = SqliteStore(tmp_path / "store.sqlite3")
    await inner.open()
    strange = "sealed:" + Fernet(Fernet.generate_key()).encrypt(b"x").decode()
    await inner.set_setting(UserKey("telegram", "666"), "name", strange)
    await inner.set_setting(UserKey("telegram", "667"), "name", "sealed:me")
    await inner.set_setting(ANN, "language", "zh")
    await inner.put(StoredConversation(HOME, [Turn(1, ANN, "sealed:hello", "ok", 1.0)], 1))
    await inner.close()
    store = sealed(SqliteStore(tmp_path / "store.sqlite3"), [new_key()])
    await store.open()
    assert [turn.question for turn in await store.last_turns(HOME, 9)] == ["sealed:hello"]
    assert await store.all_settings() == {
        str(ANN): {"language": "zh"},
        "telegram:666": {},
        "telegram:667": {"name": "sealed:me"},
    }
    assert len(await store.people(9)) == 3
    await store.close()


async def test_the_longest_texts_that_are_kept_come_back_whole() -> None:
    """Encrypted they are longer than what a message may have."""
    store = sealed(SqliteStore(Path(":memory:")), [new_key()])
    await store.open()
    message = Message("1", HOME, ANN, "长" * 1_000_000, user_name="名" * 256, quoted="引" * 10_000)
    await store.accept(message, 1.0)
    assert [entry.message for entry in await store.unfinished("telegram")] == [message]
    await store.close()


def test_what_is_no_key_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="glmbot key"):
        sealed(SqliteStore(tmp_path / "store.sqlite3"), ["let me in"])


@given(st.text(), st.text())
async def test_any_text_comes_back_as_it_went_in(text: str, name: str) -> None:
    store = sealed(SqliteStore(Path(":memory:")), [new_key()])
    await store.open()
    message = Message("1", HOME, ANN, text, user_name=name)
    await store.accept(message, 1.0)
    assert [entry.message for entry in await store.unfinished("telegram")] == [message]
    await store.close()
