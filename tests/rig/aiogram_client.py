"""aiogram against our Telegram server: it parses every reply into its own strict models, or raises."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    TelegramBadRequest,
    TelegramForbiddenError,
    TelegramRetryAfter,
    TelegramUnauthorizedError,
)
from aiogram.types import (
    BotCommand,
    BotCommandScopeAllGroupChats,
    BufferedInputFile,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    MessageEntity,
    ReplyParameters,
    Update,
)

USER = 7


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def check(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        result = await work()
    except Exception as error:
        say(check=name, ok=False, why=repr(error)[:300])
        return None
    say(check=name, ok=result is not False)
    return result


@asynccontextmanager
async def bot_for(token: str):
    session = AiohttpSession(api=TelegramAPIServer.from_base(os.environ["RIG_URL"]))
    bot = Bot(token, session=session)
    try:
        yield bot
    finally:
        await session.close()


async def refused(work: Awaitable[Any], kind: type[Exception], words: str = "") -> bool:
    try:
        await work
    except kind as error:
        return words in str(error)
    return False


async def main() -> None:
    async with bot_for(os.environ["RIG_TOKEN"]) as bot:
        offset = 0

        async def updates(**wish: Any) -> Update:
            nonlocal offset
            say(**wish)
            for _ in range(20):
                if got := await bot.get_updates(offset=offset, timeout=2):
                    offset = got[-1].update_id + 1
                    return got[-1]
            raise TimeoutError("no update came")

        await check("getMe", bot.get_me)
        await check("deleteWebhook", bot.delete_webhook)
        update = await check("getUpdates: a message", lambda: updates(want="say", text="/start hello"))
        assert update.message.entities[0].type == "bot_command"
        await check("getUpdates: a photo", lambda: updates(want="say", text="what is it?", photo=True))
        await check("getUpdates: a group", lambda: updates(want="say", text="@glm_test_bot hi", chat=-100))
        await check("getUpdates: a topic", lambda: updates(want="topic", text="@glm_test_bot in a topic"))
        await check("getUpdates: an edit", lambda: updates(want="edit", text="reworded"))
        keyboard = InlineKeyboardMarkup(
            inline_keyboard=[[InlineKeyboardButton(text="Stop", callback_data="stop:7")]]
        )
        bold = [MessageEntity(type="bold", offset=0, length=4)]
        sent = await check(
            "sendMessage with entities and a keyboard",
            lambda: bot.send_message(USER, "bold 🙂 text", entities=bold, reply_markup=keyboard),
        )
        assert sent.entities[0].type == "bold"
        press = await check("getUpdates: a press", lambda: updates(want="press", button="stop"))
        assert press.callback_query.message.message_id == sent.message_id
        await check(
            "answerCallbackQuery", lambda: bot.answer_callback_query(press.callback_query.id, text="Stopped.")
        )
        await check(
            "answerCallbackQuery twice is refused",
            lambda: refused(
                bot.answer_callback_query(press.callback_query.id), TelegramBadRequest, "too old"
            ),
        )

        def edit(text: str):
            return bot.edit_message_text(text, chat_id=USER, message_id=sent.message_id)

        await check("editMessageText", lambda: edit("something else"))
        await check(
            "an unchanged edit is refused",
            lambda: refused(edit("something else"), TelegramBadRequest, "not modified"),
        )
        await check(
            "a reply in a group",
            lambda: bot.send_message(-100, "answer", reply_parameters=ReplyParameters(message_id=2)),
        )
        await check(
            "sendMessageDraft", lambda: bot.send_message_draft(chat_id=USER, draft_id=5, text="growing")
        )
        await check("sendChatAction", lambda: bot.send_chat_action(USER, "typing"))
        file = BufferedInputFile(b"{}", "export.json")
        await check("sendDocument", lambda: bot.send_document(USER, file))
        menu = [BotCommand(command="help", description="what I can do")]
        await check("setMyCommands", lambda: bot.set_my_commands(menu, language_code="zh"))
        await check(
            "setMyCommands in a scope",
            lambda: bot.set_my_commands(menu, scope=BotCommandScopeAllGroupChats()),
        )
        await check("getMyCommands", lambda: bot.get_my_commands(language_code="zh"))
        await check("deleteMessage", lambda: bot.delete_message(USER, sent.message_id))
        await check(
            "deleting it twice is refused",
            lambda: refused(bot.delete_message(USER, sent.message_id), TelegramBadRequest, "not found"),
        )
        say(want="hold", seconds=3)
        await asyncio.sleep(0.2)
        try:
            await bot.send_message(USER, "too fast")
        except TelegramRetryAfter as flood:
            say(check="a flood names its seconds", ok=3 <= flood.retry_after <= 4)
        other = await check("the flood holds no other chat", lambda: bot.send_message(8, "free"))
        assert other
        await asyncio.sleep(3.2)
        blocked = await check("getUpdates: a block", lambda: updates(want="block"))
        assert blocked.my_chat_member.new_chat_member.status == "kicked"
        await check(
            "who blocked the bot can't be written to",
            lambda: refused(bot.send_message(USER, "hello"), TelegramForbiddenError, "blocked"),
        )
        await check("setWebhook", lambda: bot.set_webhook("http://127.0.0.1:9/hook", secret_token="s3cret"))
        info = await check("getWebhookInfo", bot.get_webhook_info)
        assert info.url == "http://127.0.0.1:9/hook"
        await check(
            "polling beside a webhook is refused",
            lambda: refused(bot.get_updates(timeout=0), Exception, "webhook is active"),
        )
    async with bot_for("1234567:wrong") as wrong:
        await check("a wrong token is refused", lambda: refused(wrong.get_me(), TelegramUnauthorizedError))
    say(end=True)


asyncio.run(main())
