"""What is said unasked goes where it can be sent, once."""

from __future__ import annotations

from glmbot.dialogue.outbox import broadcast
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.base import Store
from glmbot.store.records import StoredAnswer


async def test_a_broadcast_goes_to_each_chat_once_and_nowhere_where_people_come_by_themselves(
    sqlite_store: Store,
) -> None:
    for number, (platform, chat, user) in enumerate(
        [("telegram", "1", ""), ("telegram", "-5", "1"), ("telegram", "-5", "2"), ("door", "1", "")]
    ):
        key = ConversationKey(platform, chat, user)
        message = Message(str(number), key, UserKey(platform, user or chat), "hello", ref=str(number))
        await sqlite_store.accept(message, 10.0)
        await sqlite_store.finish(message, StoredAnswer("hi", "final", ""), question="hello", at=10.0)
        await sqlite_store.delivered(message)
    for _ in range(2):
        said = await broadcast(
            sqlite_store, "soon", name="b", since=0.0, clock=lambda: 20.0, unreachable={"door"}
        )
        assert said == 2
    waiting = [
        entry.message
        for platform in ("telegram", "door")
        for entry in await sqlite_store.unfinished(platform)
    ]
    assert [(each.text, each.conversation.chat) for each in waiting] == [("soon", "-5"), ("soon", "1")]
