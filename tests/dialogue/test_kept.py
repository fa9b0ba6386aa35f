"""What adapters have kept for them, and whom they may let the bot come to."""

from __future__ import annotations

from adapters.scripted import echoing
from conftest import make_dialogue
from glmbot.dialogue.access import Access
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import ChatKind, Message
from glmbot.named_bot import spoken_as
from glmbot.store.base import Store


def invitation(user: str, chat: str = "!room:a") -> Message:
    where = ConversationKey("matrix", chat, user)
    return Message("invite", where, UserKey("matrix", user), "", chat_kind=ChatKind.GROUP)


async def test_what_is_kept_is_there_after_a_restart_and_the_last_one_counts(store: Store) -> None:
    dialogue = make_dialogue(echoing(), store)
    assert await dialogue.kept("matrix sync") == ""
    for text in ("s1", "s2"):
        await dialogue.keep("matrix sync", text)
    await dialogue.keep("matrix told", "yes")
    assert await make_dialogue(echoing(), store).kept("matrix sync") == "s2"
    # Another bot of the platform has its own.
    second = spoken_as("matrix.second", dialogue)
    assert await second.kept("matrix sync") == ""
    await second.keep("matrix sync", "other")
    assert await dialogue.kept("matrix sync") == "s2"


async def test_who_may_speak_may_ask_the_bot_to_come(sqlite_store: Store) -> None:
    access = Access(users={UserKey("matrix", "@ann:a")}, chats={("matrix", "!ours:a")})
    dialogue = make_dialogue(echoing(), sqlite_store, access=access)
    await sqlite_store.set_setting(UserKey("matrix", "@eve:a"), "access", "blocked")
    admitted = [await dialogue.admits(invitation(user)) for user in ("@ann:a", "@bob:a", "@eve:a")]
    assert admitted == [True, None, False]
    assert await dialogue.admits(invitation("@bob:a", "!ours:a"))
    assert await spoken_as("matrix.second", dialogue).admits(invitation("@ann:a")) is None
