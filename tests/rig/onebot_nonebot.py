"""nonebot2's OneBot adapter against the OneBot server of our tests (RIG_URL): each event and answer must be read.

Runs in the rig's environment. It asks for what people should do, and says what it saw, a line of JSON each.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import nonebot
from nonebot.adapters.onebot.v11 import (
    ActionFailed,
    Adapter,
    Bot,
    Event,
    GroupMessageEvent,
    GroupRecallNoticeEvent,
    Message,
    MessageSegment,
    PokeNotifyEvent,
    PrivateMessageEvent,
)

nonebot.init(
    driver="~websockets",
    onebot_ws_urls=[os.environ["RIG_URL"]],
    onebot_access_token=os.environ["RIG_TOKEN"],
    log_level="ERROR",
)
nonebot.get_driver().register_adapter(Adapter)
events: asyncio.Queue[Event] = asyncio.Queue()
told: list[asyncio.Task[Any]] = []


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def check(what: str, ok: bool, why: object = "") -> None:
    say(check=what, ok=bool(ok), why=str(why)[:300])


matcher = nonebot.on(priority=1, block=False)


@matcher.handle()
async def _(event: Event) -> None:
    if event.get_type() != "meta_event":
        await events.put(event)


async def came(kind: type[Event], what: str) -> Any:
    event = await asyncio.wait_for(events.get(), 30)
    check(what, isinstance(event, kind), repr(event))
    return event


async def talk(bot: Bot) -> None:
    login = await bot.get_login_info()
    check("get_login_info is read", str(login["user_id"]) == bot.self_id, login)
    check("get_version_info is read", (await bot.get_version_info())["protocol_version"] == "v11")
    say(want="say", text="hello [CQ:face,id=1] & all", private=True)
    private = await came(PrivateMessageEvent, "a private message")
    check("its words are as they were said", private.get_plaintext() == "hello [CQ:face,id=1] & all", private)
    sent = await bot.send(private, Message(MessageSegment.text("[CQ:at,qq=all] & back")))
    check("what is sent has an id", isinstance(sent["message_id"], int), sent)
    got = await bot.get_msg(message_id=sent["message_id"])
    check("and can be asked for", "[CQ:at,qq=all] & back" in json.dumps(got["message"]), got)
    await bot.delete_msg(message_id=sent["message_id"])
    try:
        await bot.delete_msg(message_id=sent["message_id"])
        check("what is gone can't be recalled again", False)
    except ActionFailed as error:
        check("what is gone can't be recalled again", error.info["retcode"] == 1200, error.info)
    say(want="say", text="in the group", at=True)
    group = await came(GroupMessageEvent, "a message in a group")
    check("it is to the bot", group.is_tome(), group)
    await bot.send(group, MessageSegment.text("reply"), reply_message=True)
    say(want="recall")
    await came(GroupRecallNoticeEvent, "a recall")
    say(want="poke")
    await came(PokeNotifyEvent, "a poke")
    try:
        await bot.call_api("no_such_action")
        check("an action that there is not fails", False)
    except Exception as error:
        check(
            "an action that there is not fails",
            "404" in repr(error) or "NotFound" in repr(error),
            repr(error),
        )
    say(end=True)


@nonebot.get_driver().on_bot_connect
async def _(bot: Bot) -> None:
    async def all_of_it() -> None:
        try:
            await talk(bot)
        except Exception as error:
            check("the conversation came to its end", False, repr(error))
        finally:
            os._exit(0)

    told.append(asyncio.create_task(all_of_it()))


nonebot.run()
