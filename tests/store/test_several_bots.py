"""Rows of two bots of one platform, in each store: what is one's is never found, moved or deleted with the other's."""

from __future__ import annotations

import pytest

from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.base import Store
from glmbot.store.private_chats import person_of

BOTS = ("telegram", "telegram.support")


def said(bot: str, text: str = "hi") -> Message:
    """The platform's own numbers are the same for both."""
    return Message("1", ConversationKey(bot, "7"), UserKey(bot, "7"), text, ref="5")


async def test_two_bots_rows_do_not_mix(store: Store) -> None:
    for at, bot in enumerate(BOTS, 1):
        assert await store.accept(said(bot, f"to {bot}"), float(at)), (
            "the same update of another bot is another"
        )
        await store.set_setting(ChatKey(bot, "7", "7"), "prompt", f"of {bot}")
        await store.set_setting(UserKey(bot, "7"), "access", "user")
    for bot in BOTS:
        (waiting,) = await store.unfinished(bot)
        assert waiting.message.text == f"to {bot}"
        assert [str(each) for each in await store.open_conversations(bot)] == [f"{bot}:7:0:0"]
        assert (await store.settings(ChatKey(bot, "7", "7")))["prompt"] == f"of {bot}"
    await store.forget(UserKey("telegram", "7"))
    assert await store.unfinished("telegram") == []
    (left,) = await store.unfinished("telegram.support")
    assert left.message.text == "to telegram.support"
    assert (await store.settings(ChatKey("telegram.support", "7", "7")))["prompt"] == "of telegram.support"


async def test_a_chat_that_moves_takes_nothing_of_the_other_bots_along(store: Store) -> None:
    for bot in BOTS:
        await store.set_setting(ChatKey(bot, "-5"), "mode", "all")
    await store.move(ChatKey("telegram.support", "-5"), ChatKey("telegram.support", "-1005"), 1.0)
    assert await store.settings(ChatKey("telegram", "-5")) == {"mode": "all"}
    assert (await store.settings(ChatKey("telegram.support", "-1005")))["mode"] == "all"
    assert await store.settings(ChatKey("telegram", "-1005")) == {}


@pytest.mark.parametrize("bot", BOTS)
def test_a_private_chat_of_a_named_bot_has_its_person(bot: str) -> None:
    assert person_of(ConversationKey(bot, "7")) == UserKey(bot, "7")
    assert person_of(ConversationKey(bot, "-7")) is None
