"""A group becomes a supergroup: what belongs to it goes along, in whichever order the news comes."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncGenerator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from pydantic import SecretStr
from telegram import Bot

from glmbot.delivery.pace import Pace
from glmbot.delivery.stream import show
from glmbot.dialogue.access import Access
from glmbot.dialogue.people import People
from glmbot.errors import StoreError
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import ChatKind, Message, Reply, ReplyState, Role
from glmbot.store.base import Store
from glmbot_telegram.adapter import TelegramAdapter, TelegramSettings
from glmbot_telegram.delivery import TelegramOutlet
from glmbot_telegram.request import BotApiRequest
from platforms.telegram_server import BOT, TOKEN, TelegramServer

OLD, NEW = -500, -1000500
MOVE = (ChatKey("telegram", str(OLD)), ChatKey("telegram", str(NEW)))


def update(number: int, chat: int, **fields: Any) -> dict[str, Any]:
    said = {
        "message_id": number,
        "date": 1,
        "from": {"id": 7, "is_bot": False, "first_name": "U"},
        "chat": {"id": chat, "type": "group", "title": "g"},
    }
    return {"update_id": number, "message": said | fields}  # fmt: skip


def adapter_of(dialogue: Any) -> TelegramAdapter:
    adapter = TelegramAdapter(TelegramSettings(token=SecretStr(TOKEN)), dialogue)
    adapter._bot = Bot(TOKEN)
    adapter._bot._bot_user = Mock(id=BOT["id"], username=BOT["username"])
    return adapter


NEWS = [
    update(1, OLD, text="/ask before"),
    update(2, OLD, migrate_to_chat_id=NEW),
    update(3, NEW, migrate_from_chat_id=OLD),
    update(4, NEW, text="/ask after"),
]


async def test_both_news_move_everything_in_any_order_and_repeated() -> None:
    for order in itertools.permutations(NEWS):
        dialogue = AsyncMock()
        adapter = adapter_of(dialogue)
        for each in (*order, *order):
            await adapter._take(each)
        assert {call.args for call in dialogue.moved.await_args_list} == {MOVE}
        accepted = [call.args[0] for call in dialogue.accept.await_args_list]
        assert {message.text for message in accepted} == {"/ask before", "/ask after"}
        # What was said in the old chat and comes after the news is answered where it is now.
        moved_at = min(order.index(NEWS[1]), order.index(NEWS[2]))
        late = order.index(NEWS[0]) > moved_at
        (first, second) = (message.conversation.chat for message in accepted if message.text == "/ask before")
        assert first == str(NEW if late else OLD)
        assert second == str(NEW)


async def test_a_move_is_confirmed_only_once_it_is_stored_and_nonsense_is_left_out() -> None:
    dialogue = AsyncMock()
    dialogue.moved.side_effect = StoreError("full")
    adapter = adapter_of(dialogue)
    with pytest.raises(StoreError):
        await adapter._take(NEWS[1])
    dialogue.moved.reset_mock()
    for broken in ("x", 5, [1], 10**30, 1.5, {"a": 1}):
        await adapter._take(update(9, OLD, migrate_to_chat_id=broken))
    dialogue.moved.assert_not_awaited()


async def test_what_the_configuration_says_of_the_old_number_holds_for_the_new_one_and_is_said(
    sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    access = Access(chats={("telegram", str(OLD))})
    people = People(sqlite_store, access, lambda: 0.0)

    def said_in(chat: int) -> Message:
        key, user = ConversationKey("telegram", str(chat), "7"), UserKey("telegram", "7")
        return Message("1", key, user, "hi", chat_kind=ChatKind.GROUP)

    assert (await people.standing(said_in(OLD))).role is Role.USER
    assert (await people.standing(said_in(NEW))).role is None
    with caplog.at_level(logging.WARNING):
        await sqlite_store.move(*MOVE, 0.0)
        await people.moved(*MOVE)
    assert "write telegram:-1000500 instead of telegram:-500" in caplog.text
    for each in (people, People(sqlite_store, access, lambda: 0.0)):
        assert (await each.standing(said_in(NEW))).role is Role.USER
    assert (await People(sqlite_store, Access(), lambda: 0.0).standing(said_in(NEW))).role is None


async def test_an_answer_goes_on_in_the_new_chat_and_touches_no_other_message_there() -> None:
    server = TelegramServer(seconds_per_message=0.001, burst=100)
    await server.start()
    bot = Bot(TOKEN, base_url=f"{server.url}/bot", request=BotApiRequest())
    await bot.initialize()
    old = [str((await bot.send_message(OLD, "of this answer")).message_id) for _ in range(2)]
    # Numbers begin anew in a supergroup: these are another answer's.
    for number in old:
        server.messages[NEW][int(number)] = {
            "message_id": int(number),
            "text": "another answer",
            "entities": [],
        }
    server.migrated[OLD] = NEW
    key, user = ConversationKey("telegram", str(OLD), "7"), UserKey("telegram", "7")
    message = Message("1", key, user, "hi", chat_kind=ChatKind.GROUP, ref="3")
    moved: list[tuple[str, str]] = []

    async def on_moved(before: str, after: str) -> None:
        moved.append((before, after))
        raise StoreError("away for now")

    async def replies() -> AsyncGenerator[Reply]:
        yield Reply("the answer", ReplyState.FINAL)

    outlet = TelegramOutlet(bot, message, on_moved=on_moved)
    await show(replies(), outlet, Pace(0.001), sent=old)
    assert moved == [(str(OLD), str(NEW))]
    assert server.texts(NEW) == ["another answer"] * 2 + ["the answer"]
    await bot.shutdown()
    await server.stop()


async def test_what_ends_by_itself_is_begun_again_visibly() -> None:
    dialogue = AsyncMock()

    async def ends(_: str) -> AsyncGenerator[Message]:
        return
        yield

    dialogue.assigned = ends
    dialogue.leads.return_value = False
    adapter = adapter_of(dialogue)
    with pytest.raises(Exception, match="nothing is assigned"):
        await adapter.run()
