"""The worst values in every field of QQ's events, beside somebody else's answer."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from adapters.onebot_bot import bot
from adapters.waiting import until_async
from conftest import until
from glmbot.dialogue.access import Access
from glmbot.keys import UserKey
from glmbot.store.base import Store
from glmbot_onebot.adapter import OneBotAdapter
from platforms.onebot_server import SELF, OneBotServer
from robustness.scripted import QUESTION, SAID, ScriptedEngine
from robustness.values import cases, sampled
from robustness.watch import watching

_SOMEBODY_ELSE = 4711
_numbers = count(10**6)
_SENDER = {"user_id": 7, "nickname": "Ada", "card": "A"}
EVENTS: tuple[dict[str, Any], ...] = (
    {
        "post_type": "message", "message_type": "group", "sub_type": "normal", "time": 1, "self_id": SELF,
        "message_id": -5, "user_id": 7, "group_id": 5, "sender": _SENDER,
        "message": [
            {"type": "reply", "data": {"id": "12"}}, {"type": "at", "data": {"qq": str(SELF)}},
            {"type": "text", "data": {"text": "hello"}}, {"type": "forward", "data": {"id": "1"}},
        ],
    },
    {
        "post_type": "message", "message_type": "private", "sub_type": "group", "time": 1, "self_id": SELF,
        "message_id": 6, "user_id": 7, "group_id": 5, "sender": _SENDER, "message": "[CQ:face,id=1]hello &amp; all",
    },
    {
        "post_type": "notice", "notice_type": "group_recall", "self_id": SELF, "group_id": 5, "user_id": 7,
        "operator_id": 7, "message_id": 9,
    },
    {
        "post_type": "meta_event", "meta_event_type": "heartbeat", "self_id": SELF, "interval": 600_000,
        "status": {"online": True, "good": True},
    },
    {"status": "ok", "retcode": 0, "data": {"message_id": 5}, "echo": "nobody's", "wording": ""},
)  # fmt: skip


async def taken_in(qq: OneBotServer, adapter: OneBotAdapter) -> None:
    """What was told before is: something that was recalled is told in its wake."""
    number = next(_numbers)
    await qq.happen("notice", notice_type="friend_recall", user_id=99, message_id=number)
    await until(lambda: any(ref == str(number) for _, ref in adapter._recalled))
    await until(lambda: not adapter._lanes._lanes)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(len(EVENTS)))
async def test_the_worst_events_of_qq_harm_nobody_else(sqlite_store: Store, number: int) -> None:
    qq = OneBotServer(burst=10**6)
    await qq.start()
    engine: Any = ScriptedEngine()
    access = Access(admins={UserKey("onebot", "7")}, open_platforms={"onebot"})

    async def somebody_else() -> None:
        before = qq.texts(str(_SOMEBODY_ELSE)).count(SAID)
        await qq.say(QUESTION, user=_SOMEBODY_ELSE)
        await until(lambda: qq.texts(str(_SOMEBODY_ELSE)).count(SAID) > before)

    settings = {"interval_s": 0, "group_interval_s": 0}
    async with bot(
        qq, engine, sqlite_store, access=access, settings=settings, pending_per_user=10**5
    ) as adapter:
        await qq.say("known")
        await qq.say("known", group=5)
        async with watching(somebody_else, left_out={"aiohttp.server"}) as watch:
            for case in sampled(cases(EVENTS[number]), 10):
                text = watch.own(lambda case=case: case.text.encode("utf-8", "replace").decode())
                # One that is too long for the connection ends it.
                if len(text) * 4 >= 1 << 20:
                    continue
                with watch.trying(f"{EVENTS[number].get('post_type')}: {case}"):
                    for socket in list(qq._sockets):
                        await socket.send_str(text)
                    await taken_in(qq, adapter)
        await until_async(lambda: sqlite_store.unfinished("onebot"), lambda left: not left)
    await qq.stop()
