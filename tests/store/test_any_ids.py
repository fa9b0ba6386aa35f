"""Any text is an id of a person, a chat and a thread: through each store, the backup, and the page."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yarl
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adapters.web_site import ScriptedDialogue, browser, scripted_site
from glmbot.backup import back_up, restore
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import ChatKind, ConversationSummary, Message
from glmbot.store.base import Store
from glmbot.store.records import StoredAnswer
from glmbot.store.sqlite import SqliteStore
from glmbot_web.normalize import page_id
from test_keys import ids

FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_optional = ids | st.just("")
_updates = count()


@asynccontextmanager
async def another(path: Path) -> AsyncGenerator[Store]:
    path.unlink(missing_ok=True)
    store = SqliteStore(path)
    await store.open()
    yield store
    await store.close()


async def ask(store: Store, asked: Message, number: int) -> None:
    assert await store.accept(asked, 10.0 + number)
    assert [entry.message for entry in (await store.claim(asked.conversation, 20)).open] == [asked]
    answer = StoredAnswer("blue", "final", "")
    assert await store.finish(asked, answer, question=asked.text, at=10.0 + number, ref=asked.ref)
    await store.delivered(asked, [f"answer {number}"])


@FEW
@given(chat=ids, other=ids, user=ids, thread=_optional, group=st.booleans())
@example(chat="0", other="%30", user="0", thread="0", group=True)
@example(chat="chat", other="a:b", user="chat", thread=":chat:", group=False)
@example(chat="*", other="[x]?", user="*", thread="%", group=True)
@example(chat="\U0010ffff" * 32, other="é" * 64, user="\U0001f600" * 32, thread="\n" * 128, group=True)
async def test_in_a_store_and_its_backup(
    store: Store, tmp_path: Path, chat: str, other: str, user: str, thread: str, group: bool
) -> None:
    person, neighbour = UserKey("slack", str(user)), UserKey("slack", f"{user[:20]} too")
    where = ConversationKey("slack", str(chat), user if group else "", str(thread))
    near = ConversationKey("slack", f"{chat[:20]} too", neighbour.id, str(thread))
    # A number that a chat has given up is never another's: no example may move a chat to where an earlier one was.
    other = f"{other[:20]} {next(_updates)}"
    kind = ChatKind.GROUP if group else ChatKind.PRIVATE
    asked = Message(f"1 {next(_updates)}", where, person, "why?", chat_kind=kind, ref="q1")
    try:
        await ask(store, asked, 1)
        await ask(store, Message(f"2 {next(_updates)}", near, neighbour, "how?", chat_kind=kind, ref="q2"), 2)
        assert [turn.user for turn in await store.last_turns(where, 9)] == [person]
        assert list(await store.conversations(person)) == [where]
        assert [found.conversation for found in await store.conversation_summaries(person, 9)] == [where]
        assert await store.asked_in(ChatKey("slack", str(chat)), "q1", 0.0) == where
        assert await store.asked_in(ChatKey("slack", str(chat)), "q2", 0.0) is None
        await store.set_setting(asked.chat, "prompt", "short")
        await store.set_setting(person, "language", "zh")
        await store.set_setting(neighbour, "language", "en")
        assert {str(person), str(neighbour)} <= (await store.people(1000)).keys()
        await back_up(store, tmp_path / "all.backup")
        async with another(tmp_path / "again.sqlite3") as again:
            await restore(again, tmp_path / "all.backup")
            assert [turn.user for turn in await again.last_turns(where, 9)] == [person]
            assert await again.settings(asked.chat) == {"prompt": "short"}
            assert await again.settings(person) == {"language": "zh"}
        await store.move(ChatKey("slack", str(chat)), ChatKey("slack", other), 20.0)
        where = ConversationKey("slack", other, where.user, str(thread))
        assert [turn.question for turn in await store.last_turns(where, 9)] == ["why?"]
        assert await store.forget(person) == 1
        assert await store.last_turns(where, 9) == []
        assert await store.settings(person) == {}
        assert [turn.user for turn in await store.last_turns(near, 9)] == [neighbour]
        assert await store.settings(neighbour) == {"language": "en"}
    finally:
        for each in (person, neighbour):
            await store.forget(each)
        await store.set_setting(asked.chat, "prompt", "")


@settings(FEW, max_examples=25)
@given(chat=ids)
@example(chat="..")
@example(chat="5")
@example(chat="a/b?c#d%2F")
async def test_on_the_page(chat: str) -> None:
    dialogue = ScriptedDialogue()
    async with scripted_site(dialogue) as site, browser() as session:
        await session.get(site.url)
        ask: dict[str, Any] = {"id": "question-1", "conversation": chat, "text": "hello"}
        async with session.post(f"{site.url}/api/messages", json=ask) as answer:
            assert answer.status == 202, await answer.text()
        (message,) = dialogue.accepted
        assert (message.conversation.chat, message.conversation.user) == (chat, message.user.id)
        dialogue.kept[message.conversation] = [("question-1", "hello", "hi")]
        dialogue.summaries = [ConversationSummary(message.conversation, "hello", 1, 9.0)]
        async with session.get(f"{site.url}/api/conversations") as listed:
            assert page_id(chat) in [entry["id"] for entry in await listed.json()]
        written = quote(chat, safe="")
        for ending in ("", "/outline"):
            # A browser's address would drop the segments "." and "..".
            url = yarl.URL(f"{site.url}/api/conversations/{written}{ending}", encoded=True)
            async with session.get(url) as kept:
                assert [turn["ref"] for turn in (await kept.json())["turns"]] == ["question-1"]
        later = yarl.URL(f"{site.url}/api/conversations?before=10&id={written}", encoded=True)
        async with session.get(later) as page:
            assert page.status == 200


@pytest.mark.parametrize("wrong", ["", "é" * 65, "a\0", 0, -1, 2**53, 1.5, True, None, ["x"], {}])
async def test_what_is_no_id_is_refused_on_the_page(wrong: object) -> None:
    async with scripted_site(ScriptedDialogue()) as site, browser() as session:
        await session.get(site.url)
        for path, more in (("messages", {"id": "question-1", "text": "hi"}), ("branch", {"turn": 1})):
            async with session.post(f"{site.url}/api/{path}", json={"conversation": wrong, **more}) as answer:
                assert answer.status == 400
                assert (await answer.json())["error"]["param"] == "conversation"
