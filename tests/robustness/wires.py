"""Platforms whose events come over a connection: what they tell, put there as raw text, and how to know that it was
taken in."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, ClassVar

from adapters import dingtalk_bot, feishu_bot, onebot_bot, satori_bot, slack_bot
from conftest import until
from glmbot.keys import ConversationKey
from glmbot.store.base import Store
from glmbot_feishu.frames import DATA, Frame, written
from platforms import feishu_server, slack_server
from platforms.dingtalk_server import CLIENT_ID, DingTalkServer, staff
from platforms.dingtalk_server import GROUP as CONVERSATION
from platforms.feishu_server import FeishuServer, chat_of
from platforms.onebot_server import SELF, OneBotServer
from platforms.satori_server import SELF as SATORI_SELF
from platforms.satori_server import SatoriServer
from platforms.slack_server import BOT, SlackServer, channel_of

__all__ = ["WIRES", "Wire"]

_numbers = count(10**6)
_FAST = {"edit_interval_s": 0.001}


class Wire(ABC):
    """`examples`: of what comes, by name. `administrator`: the id of person 7."""

    name: ClassVar[str]
    administrator: ClassVar[str]
    examples: ClassVar[Mapping[str, Mapping[str, Any]]]
    most_bytes: ClassVar[int] = 1 << 20
    """Of one event; a longer one ends the connection."""
    settings: ClassVar[Mapping[str, Any]] = _FAST
    topic = ""
    """The name of the example that is put."""
    server: Any
    adapter: Any

    @abstractmethod
    def bot(self, engine: Any, store: Store, **changes: Any) -> Any: ...

    async def say(self, text: str, user: int) -> None:
        """In private."""
        await self.server.say(text, user=user)

    @abstractmethod
    def seen(self, user: int) -> Sequence[str]: ...

    async def put(self, text: str) -> None:
        """An event, as text."""
        for socket in list(self.server._sockets):
            await socket.send_str(text)

    @abstractmethod
    async def taken(self) -> None:
        """Wait until what was put before is taken in: what comes behind it is."""


class SlackWire(Wire):
    name = "slack"
    administrator = slack_server.user_id(7)
    settings: ClassVar[Mapping[str, Any]] = {**_FAST, "requests_per_minute": 60_000}
    examples: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "message": {
            "envelope_id": "e1", "type": "events_api", "accepts_response_payload": False,
            "payload": {
                "type": "event_callback", "team_id": "T1", "event_id": "Ev01", "event_time": 1,
                "event": {
                    "type": "message", "subtype": "", "channel": slack_server.GROUP, "channel_type": "channel",
                    "user": slack_server.user_id(7), "text": f"<@{BOT}> hello <http://a|b>", "ts": "1.000001",
                    "event_ts": "1.000001", "thread_ts": "1.000000", "parent_user_id": BOT,
                    "files": [{"id": "F1", "mimetype": "image/png"}],
                    "attachments": [{"is_share": True, "text": "shared", "author_name": "Ada"}],
                },
            },
        },
        "change": {
            "envelope_id": "e2", "type": "events_api",
            "payload": {
                "event": {
                    "type": "message", "subtype": "message_changed", "channel": channel_of(7), "ts": "2.000001",
                    "message": {
                        "type": "message", "user": slack_server.user_id(7), "text": "new", "ts": "1.000002",
                        "edited": {"user": slack_server.user_id(7), "ts": "2.000000"},
                    },
                    "previous_message": {"user": slack_server.user_id(7), "text": "old", "ts": "1.000002"},
                },
            },
        },
        "command": {
            "envelope_id": "e3", "type": "slash_commands",
            "payload": {
                "command": "/glm", "text": "whoami", "user_id": slack_server.user_id(7), "user_name": "Ada",
                "channel_id": slack_server.GROUP, "trigger_id": "1.2", "response_url": "http://127.0.0.1:1/r",
            },
        },
        "press": {
            "envelope_id": "e4", "type": "interactive",
            "payload": {
                "type": "block_actions", "user": {"id": slack_server.user_id(7), "name": "Ada"},
                "container": {"type": "message", "message_ts": "1.000003", "channel_id": channel_of(7)},
                "actions": [
                    {"action_id": "glmbot_stop", "value": f"stop:{slack_server.user_id(7)}:", "action_ts": "3.000001"}
                ],
            },
        },
    }  # fmt: skip

    def __init__(self) -> None:
        self.server = SlackServer(seconds_per_message=0.0001, burst=10**6)

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return slack_bot.bot(self.server, engine, store, **changes)

    def seen(self, user: int) -> Sequence[str]:
        return self.server.texts(channel_of(user))

    async def taken(self) -> None:
        await self.server.tell({"type": "reaction_added"})
        await until(lambda: not self.server.unacknowledged)


class FeishuWire(Wire):
    name = "feishu"
    administrator = feishu_server.user_id(7)
    most_bytes = 4 << 20
    settings: ClassVar[Mapping[str, Any]] = {**_FAST, "requests_per_second": 1000}
    examples: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "message": {
            "schema": "2.0",
            "header": {"event_id": "event0", "event_type": "im.message.receive_v1", "token": "v", "app_id": "a"},
            "event": {
                "sender": {"sender_id": {"open_id": feishu_server.user_id(7)}, "sender_type": "user"},
                "message": {
                    "message_id": "om_said000000", "create_time": "1700000000000", "chat_id": feishu_server.GROUP,
                    "chat_type": "group", "message_type": "text", "content": '{"text": "@_user_1 hello"}',
                    "thread_id": "omt_1", "parent_id": "om_bot000001",
                    "mentions": [{"key": "@_user_1", "id": {"open_id": feishu_server.BOT}, "name": "glmbot"}],
                },
            },
        },
        "recall": {
            "header": {"event_id": "event1", "event_type": "im.message.recalled_v1"},
            "event": {
                "message_id": "om_said000001", "chat_id": chat_of(7), "recall_time": "1700000000000",
                "recall_type": "message_owner",
            },
        },
        "press": {
            "header": {"event_id": "event2", "event_type": "card.action.trigger"},
            "event": {
                "operator": {"open_id": feishu_server.user_id(7)}, "token": "c-1",
                "action": {
                    "tag": "button", "value": {"glmbot": "stop", "asker": feishu_server.user_id(7), "private": "1"}
                },
                "context": {"open_message_id": "om_bot000002", "open_chat_id": chat_of(7)},
            },
        },
    }  # fmt: skip

    def __init__(self) -> None:
        self.server = FeishuServer(messages_per_second=10**6)

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return feishu_bot.bot(self.server, engine, store, **changes)

    def seen(self, user: int) -> Sequence[str]:
        return self.server.texts(chat_of(user))

    async def put(self, text: str) -> None:
        headers = {"type": "event", "message_id": f"raw{next(_numbers)}", "sum": "1", "seq": "0"}
        for socket in list(self.server._sockets):
            await socket.send_bytes(written(Frame(DATA, 1, headers, text.encode(), 5, 6)))

    async def taken(self) -> None:
        await self.server.tell("im.chat.updated_v1", {})
        await until(lambda: not self.server._pending)


class DingTalkWire(Wire):
    name = "dingtalk"
    administrator = staff(7)
    settings: ClassVar[Mapping[str, Any]] = {**_FAST, "requests_per_second": 1000}
    examples: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "frame": {
            "specVersion": "1.0", "type": "CALLBACK", "data": "{}",
            "headers": {"topic": "/v1.0/im/bot/messages/get", "messageId": "f1", "contentType": "application/json"},
        },
        "/v1.0/im/bot/messages/get": {
            "conversationId": CONVERSATION, "conversationType": "2", "msgId": "msg0", "senderNick": "Ada",
            "senderStaffId": staff(7), "senderId": "$:LWCP_v1:$7", "createAt": 1700000000000, "isInAtList": True,
            "robotCode": CLIENT_ID, "chatbotUserId": "$:LWCP_v1:$bot", "msgtype": "text",
            "text": {"content": " hello", "repliedMsg": {"msgType": "text", "content": {"text": "before"}}},
            "content": {"richText": [{"text": "a"}, {"type": "picture", "downloadCode": "d"}], "recognition": "x"},
            "sessionWebhook": "http://127.0.0.1:1/s", "sessionWebhookExpiredTime": 1700000000000,
        },
        "/v1.0/card/instances/callback": {
            "outTrackId": "card1", "userId": staff(7), "userIdType": 1, "type": "actionCallback", "corpId": "d",
            "content": json.dumps({"cardPrivateData": {"actionIds": [f"stop::{staff(7)}"], "params": {}}}),
            "extension": "{}",
        },
    }  # fmt: skip

    def __init__(self) -> None:
        self.server = DingTalkServer(requests_per_second=10**6)

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return dingtalk_bot.bot(self.server, engine, store, **changes)

    def seen(self, user: int) -> Sequence[str]:
        return self.server.texts(staff(user))

    async def put(self, text: str) -> None:
        if self.topic != "frame":
            headers = {"topic": self.topic, "messageId": f"raw{next(_numbers)}"}
            text = json.dumps({"specVersion": "1.0", "type": "CALLBACK", "headers": headers, "data": text})
        await super().put(text)

    async def taken(self) -> None:
        await self.server.tell("/v1.0/something/else", {})
        await until(lambda: not self.server._pending)


class SatoriWire(Wire):
    name = "satori"
    administrator = "kook/7"
    _LOGIN: ClassVar[Mapping[str, Any]] = {
        "platform": "kook",
        "user": {"id": SATORI_SELF, "name": "glm"},
        "status": 1,
    }
    _USER: ClassVar[Mapping[str, Any]] = {"id": "7", "name": "Ada", "nick": "A", "is_bot": False}
    examples: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "message": {
            "op": 0,
            "body": {
                "sn": 1, "timestamp": 1, "type": "message-created", "login": _LOGIN, "user": _USER,
                "channel": {"id": satori_bot.CHANNEL, "type": 0}, "guild": {"id": "g"}, "member": {"nick": "B"},
                "message": {
                    "id": "m0", "content": f'<quote id="m1">q</quote><at id="{SATORI_SELF}"/> hello <b>all</b>',
                    "quote": {"id": "m1", "content": "q", "user": {"id": SATORI_SELF}},
                },
            },
        },
        "change": {
            "op": 0,
            "body": {
                "id": 2, "timestamp": 2, "type": "message-updated", "platform": "kook", "self_id": SATORI_SELF,
                "channel": {"id": "private-7", "type": 1}, "user": _USER, "message": {"id": "m2", "content": "new"},
            },
        },
        "deletion": {
            "op": 0,
            "body": {
                "sn": 3, "timestamp": 3, "type": "message-deleted", "login": _LOGIN,
                "channel": {"id": satori_bot.CHANNEL, "type": 0}, "guild": {"id": "g"}, "message": {"id": "m3"},
            },
        },
    }  # fmt: skip

    def __init__(self) -> None:
        self.server = SatoriServer(burst=10**6, any_channel=True)

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return satori_bot.bot(self.server, engine, store, **changes)

    async def say(self, text: str, user: int) -> None:
        await self.server.say(text, user=str(user))

    def seen(self, user: int) -> Sequence[str]:
        return self.server.texts(f"private-{user}")

    async def taken(self) -> None:
        await self.server.happen({"type": "guild-added"})
        await until(lambda: self.adapter._events._last == self.server._sn)


class OneBotWire(Wire):
    name = "onebot"
    administrator = "7"
    settings: ClassVar[Mapping[str, Any]] = {"interval_s": 0, "group_interval_s": 0}
    _SENDER: ClassVar[Mapping[str, Any]] = {"user_id": 7, "nickname": "Ada", "card": "A"}
    examples: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "group": {
            "post_type": "message", "message_type": "group", "sub_type": "normal", "time": 1, "self_id": SELF,
            "message_id": -5, "user_id": 7, "group_id": 5, "sender": _SENDER,
            "message": [
                {"type": "reply", "data": {"id": "12"}}, {"type": "at", "data": {"qq": str(SELF)}},
                {"type": "text", "data": {"text": "hello"}}, {"type": "forward", "data": {"id": "1"}},
            ],
        },
        "private": {
            "post_type": "message", "message_type": "private", "sub_type": "group", "time": 1, "self_id": SELF,
            "message_id": 6, "user_id": 7, "group_id": 5, "sender": _SENDER,
            "message": "[CQ:face,id=1]hello &amp; all",
        },
        "recall": {
            "post_type": "notice", "notice_type": "group_recall", "self_id": SELF, "group_id": 5, "user_id": 7,
            "operator_id": 7, "message_id": 9,
        },
        "heartbeat": {
            "post_type": "meta_event", "meta_event_type": "heartbeat", "self_id": SELF, "interval": 600_000,
            "status": {"online": True, "good": True},
        },
        "answer": {"status": "ok", "retcode": 0, "data": {"message_id": 5}, "echo": "nobody's", "wording": ""},
    }  # fmt: skip

    def __init__(self) -> None:
        self.server = OneBotServer(burst=10**6)

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return onebot_bot.bot(self.server, engine, store, **changes)

    def seen(self, user: int) -> Sequence[str]:
        return self.server.texts(str(user))

    async def taken(self) -> None:
        number = str(next(_numbers))
        await self.server.happen("notice", notice_type="friend_recall", user_id=99, message_id=int(number))
        recalled, adapter = (ConversationKey("onebot", "99"), number), self.adapter
        await until(lambda: recalled in adapter._deliveries._taken_back)
        await until(lambda: not adapter._lanes._lanes)


WIRES: Sequence[type[Wire]] = (SlackWire, FeishuWire, DingTalkWire, SatoriWire, OneBotWire)
