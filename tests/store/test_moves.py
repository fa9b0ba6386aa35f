"""A chat or a person that has another number: nothing is lost, doubled or mixed up, however often and whenever it is
told."""

from __future__ import annotations

import pytest

from glmbot.errors import StoreError
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.base import Store
from glmbot.store.records import StoredAnswer

ANN, BOB = UserKey("telegram", "11"), UserKey("telegram", "22")
OLD, NEW = ChatKey("telegram", "-5"), ChatKey("telegram", "-1005")
DONE = StoredAnswer("the answer", "final", "")


def at(chat: ChatKey, user: UserKey = ANN, thread: int = 0) -> ConversationKey:
    return ConversationKey(chat.platform, chat.id, user.id, str(thread))


def asked(update: str, conversation: ConversationKey, user: UserKey = ANN) -> Message:
    return Message(update, conversation, user, f"question {update}", origin={"chat": str(conversation.chat)})


async def turn(store: Store, update: str, conversation: ConversationKey, user: UserKey = ANN) -> None:
    message = asked(update, conversation, user)
    assert await store.accept(message, float(update))
    epoch = await store.epoch(conversation)
    await store.finish(message, DONE, question=message.text, epoch=epoch, at=float(update), ref=f"q{update}")
    await store.delivered(message, [f"a{update}"])


async def said(store: Store, conversation: ConversationKey) -> list[str]:
    return [each.question.removeprefix("question ") for each in await store.last_turns(conversation, 1000)]


async def test_everything_of_the_old_chat_is_the_new_ones(store: Store) -> None:
    for update in ("1", "2", "3"):
        await turn(store, update, at(OLD))
    await turn(store, "4", at(OLD, BOB, 7), BOB)
    await store.set_setting(OLD, "prompt", "be kind")
    await store.set_setting(OLD, "mode", "all")
    await store.set_setting(NEW, "mode", "mention")
    await store.accept(asked("5", at(OLD)), 5.0)
    await store.accept(asked("6", at(OLD)), 6.0)
    await store.set_aside(asked("6", at(OLD)), "refused", 6.0)
    await store.move(OLD, NEW, 10.0)
    assert await said(store, at(NEW)) == ["1", "2", "3"]
    assert await said(store, at(NEW, BOB, 7)) == ["4"]
    assert await said(store, at(OLD)) == []
    found = await store.turn_of(at(NEW), "a2")
    assert found is not None
    assert found.question == "question 2"
    assert await store.shown(at(NEW), found.id) == ["a2"]
    assert await store.settings(NEW) == {"prompt": "be kind", "mode": "mention"}
    assert await store.settings(OLD) == {}
    assert await store.conversations(ANN) == [at(NEW)]
    claim = await store.claim(at(NEW), 5)
    assert [entry.message.conversation for entry in claim.open] == [at(NEW)]
    (letter,) = await store.dead_letters()
    assert letter.message.conversation == at(NEW)
    await turn(store, "8", at(NEW))
    assert await said(store, at(NEW)) == ["1", "2", "3", "8"]
    assert await store.forget(ANN) == 4


@pytest.mark.parametrize("times", [1, 3])
async def test_what_the_new_chat_has_already_follows_the_old_history(store: Store, times: int) -> None:
    for update in ("1", "2"):
        await turn(store, update, at(OLD))
    for update in ("3", "4"):
        await turn(store, update, at(NEW))
    for _ in range(times):
        await store.move(OLD, NEW, 10.0)
    assert await said(store, at(NEW)) == ["1", "2", "3", "4"]
    await turn(store, "5", at(NEW))
    assert await said(store, at(NEW)) == ["1", "2", "3", "4", "5"]
    ids = [each.id for each in await store.last_turns(at(NEW), 9)]
    assert len(set(ids)) == 5
    (summary,) = await store.conversation_summaries(ANN, 5)
    assert (summary.title, summary.turns, summary.at) == ("question 1", 5, 5.0)


async def test_an_answer_that_ends_after_the_move_keeps_its_place(store: Store) -> None:
    await turn(store, "1", at(OLD))
    late = asked("2", at(OLD))
    await store.accept(late, 2.0)
    assert [entry.message for entry in (await store.claim(at(OLD), 5)).open] == [late]
    await store.move(OLD, NEW, 10.0)
    assert (await store.claim(at(NEW), 5)).open == [], "it is being answered under the old key"
    (last,) = await store.last_turns(at(NEW), 1)
    await store.finish(late, DONE, question=late.text, epoch=0, at=2.0, ref="q2")
    await store.delivered(late, ["a2"])
    await store.claim(at(OLD), 5)
    await store.tidy(100.0)
    assert await said(store, at(NEW)) == ["1", "2"]
    assert await store.turn_of(at(NEW), "a2") == (await store.last_turns(at(NEW), 1))[0]
    assert last.question == "question 1"
    assert await store.unfinished("telegram") == []


async def test_a_person_of_the_page_has_another_number(store: Store) -> None:
    old, new = UserKey("web", "5"), UserKey("web", str(2**60))
    here, there = ConversationKey("web", "9", old.id), ConversationKey("web", "9", new.id)
    await turn(store, "1", here, old)
    await turn(store, "2", ConversationKey("web", "9", "6"), UserKey("web", "6"))
    await store.set_setting(old, "language", "zh")
    await store.set_setting(ChatKey("web", "9", old.id), "prompt", "mine")
    await store.set_setting(ChatKey("web", "9", "6"), "prompt", "another's")
    await store.move(old, new, 3.0)
    assert await said(store, there) == ["1"]
    assert await store.settings(new) == {"language": "zh"}
    assert await store.settings(ChatKey("web", "9", new.id)) == {"prompt": "mine"}
    assert await store.settings(ChatKey("web", "9", "6")) == {"prompt": "another's"}
    assert [each.conversation for each in await store.conversation_summaries(new, 5)] == [there]
    assert await store.conversation_summaries(old, 5) == []
    assert await store.forget(new) == 1


async def test_only_like_becomes_like(store: Store) -> None:
    await store.move(OLD, OLD, 1.0)
    for old, new in ((OLD, ANN), (ANN, NEW), (OLD, ChatKey("discord", "5"))):
        with pytest.raises((ValueError, StoreError)):
            await store.move(old, new, 1.0)
