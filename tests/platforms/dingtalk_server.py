"""DingTalk for tests: its interfaces over HTTP, Stream mode over a WebSocket, its laws.

Checked against https://open.dingtalk.com/document and dingtalk-stream 0.24.3: tokens in a header, refusals with a code
and 4xx, connections by ticket, frames that are sent again until they are answered with 200, cards by ids that their
maker chooses, words that stream only while the card is being written (flowStatus 2), twenty requests a second.
"""

from __future__ import annotations

import contextlib
import html
import itertools
import json
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from platforms.listener import Listener
from platforms.refused import Refused
from platforms.waits import Waits

__all__ = ["CLIENT_ID", "GROUP", "SECRET", "DingTalkServer", "staff"]

CLIENT_ID, SECRET = "dingtest1234567890", "secret-SECRET-secret-SECRET"
GROUP = "cidGroup5+abc/def=="
_TAG = re.compile(r"<(?!\u200b)[A-Za-z/!]")
_DANGER = re.compile(r"(?:dtmd|dingtalk):", re.IGNORECASE)


def staff(number: int) -> str:
    return f"staff{number:05d}"


@dataclass
class DingTalkServer:
    """`requests_per_second` is the law's twenty, made more where a test is about something else."""

    requests_per_second: float = 20.0
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    said: dict[int, dict[str, Any]] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    waits: Waits = field(default_factory=Waits)
    refusals: dict[str, list[Any]] = field(default_factory=dict)
    # So many cards more are made and come into no chat, which is told beside a success.
    undelivered: int = 0
    tokens: int = 0
    url: str = ""

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._pending: dict[str, dict[str, Any]] = {}
        self._sockets: list[web.WebSocketResponse] = []
        self._requests: deque[float] = deque()
        self._held_until: dict[str, float] = {}
        self._listener = Listener()
        self._token = ""
        self._tickets: set[str] = set()
        self.echoes: list[Any] = []

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1.0/oauth2/accessToken", self._log_in)
        app.router.add_post("/v1.0/gateway/connections/open", self._open)
        app.router.add_get("/connect", self._connect)
        app.router.add_post("/v1.0/card/instances/createAndDeliver", self._guarded(self._create))
        app.router.add_post("/v1.0/card/instances", self._guarded(self._make))
        app.router.add_post("/v1.0/card/instances/deliver", self._guarded(self._deliver))
        app.router.add_put("/v1.0/card/instances", self._guarded(self._update))
        app.router.add_put("/v1.0/card/streaming", self._guarded(self._stream))
        self.url = f"http://{await self._listener.open(app)}"

    async def stop(self) -> None:
        await self.disconnect()
        await self._listener.close()

    # ---- what people do ----------------------------------------------------------------------------------

    async def say(self, text: str, *, user: int = 7, group: bool = False, **more: Any) -> int:
        """A person writes to the robot alone, or mentions it in the group. Returns a number of the message."""
        number = next(self._numbers)
        message: dict[str, Any] = {
            "conversationId": GROUP if group else f"cidPrivate{user}==", "conversationType": "2" if group else "1",
            "msgId": f"msg{number}", "senderNick": f"user {user}", "senderStaffId": staff(user),
            "senderId": f"$:LWCP_v1:${user}", "createAt": int(time.time() * 1000), "isInAtList": group,
            "robotCode": CLIENT_ID, "chatbotUserId": "$:LWCP_v1:$bot", "msgtype": "text",
            "text": {"content": f" {text}" if group else text},
            "sessionWebhook": f"{self.url}/session", "sessionWebhookExpiredTime": int(time.time() * 1000) + 5_400_000,
            **more,
        }  # fmt: skip
        self.said[number] = message
        await self.tell("/v1.0/im/bot/messages/get", message)
        return number

    async def press(self, card: str, command: str, *, user: int = 7) -> None:
        (button,) = [each for each in self.buttons(card) if each.startswith(f"{command}:")]
        content = {"cardPrivateData": {"actionIds": [button], "params": {}}}
        await self.tell(
            "/v1.0/card/instances/callback",
            {"outTrackId": card, "userId": staff(user), "userIdType": 1, "type": "actionCallback", "corpId": "ding1",
             "content": json.dumps(content), "extension": "{}"},
        )  # fmt: skip

    async def tell(self, topic: str, data: Any, kind: str = "CALLBACK") -> None:
        name = f"frame{next(self._numbers)}"
        frame = {
            "specVersion": "1.0", "type": kind, "data": json.dumps(data),
            "headers": {"topic": topic, "messageId": name, "contentType": "application/json", "time": "1"},
        }  # fmt: skip
        self._pending[name] = frame
        if self._sockets:
            with contextlib.suppress(ConnectionError):
                await self._sockets[-1].send_json(frame)

    def hold(self, chat: str, seconds: float) -> None:
        """Every write to this chat is refused for so long."""
        self._held_until[chat] = time.monotonic() + seconds

    def texts(self, chat: str) -> list[str]:
        """What the robot's cards in a chat show now, in order; what says nothing yet is left out."""
        shown = [_shown(card["data"]) for card in self.cards.values() if card["chat"] == chat]
        return [text for text in shown if text not in ("", "…")]

    def buttons(self, card: str) -> list[str]:
        whole = json.loads(self.cards[card]["data"]["sys_full_json_obj"])
        return [each["id"] for each in whole.get("msgButtons", [])]

    async def disconnect(self) -> None:
        for socket in list(self._sockets):
            await socket.close()

    def end_token(self) -> None:
        self._token = "ended"

    # ---- the connection ----------------------------------------------------------------------------------

    async def _open(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (body["clientId"], body["clientSecret"]) != (CLIENT_ID, SECRET):
            return web.json_response({"code": "authFailed", "message": "鉴权失败"}, status=401)
        assert {each["topic"] for each in body["subscriptions"]} >= {"/v1.0/im/bot/messages/get"}
        ticket = f"ticket+{next(self._numbers)}=="
        self._tickets.add(ticket)
        return web.json_response(
            {"endpoint": f"{self.url.replace('http', 'ws', 1)}/connect", "ticket": ticket}
        )

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        if request.query.get("ticket") not in self._tickets:
            raise web.HTTPUnauthorized
        self._tickets.discard(request.query["ticket"])
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        ping = {"topic": "ping", "messageId": "p1", "contentType": "application/json"}
        await socket.send_json(
            {"specVersion": "1.0", "type": "SYSTEM", "headers": ping, "data": '{"opaque": "x"}'}
        )
        self._sockets.append(socket)
        for frame in list(self._pending.values()):
            await socket.send_json(frame)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    answer = json.loads(message.data)
                    if answer["headers"]["messageId"] == "p1":
                        self.echoes.append(json.loads(answer["data"]))
                    elif answer["code"] == 200:
                        self._pending.pop(answer["headers"]["messageId"], None)
        finally:
            self._sockets.remove(socket)
        return socket

    # ---- the interfaces ----------------------------------------------------------------------------------

    async def _log_in(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (body["appKey"], body["appSecret"]) != (CLIENT_ID, SECRET):
            return web.json_response(
                {"code": "invalidClientIdOrSecret", "message": "无效的clientId"}, status=400
            )
        self.tokens += 1
        self._token = f"token{self.tokens}"
        return web.json_response({"accessToken": self._token, "expireIn": 7200})

    def _guarded(self, handler: Any) -> Any:
        async def handle(request: web.Request) -> web.Response:
            self.calls.append((request.method, request.path))
            try:
                if request.headers.get("x-acs-dingtalk-access-token") != self._token:
                    raise Refused("InvalidAuthentication", status=403)
                if (refusal := self.refusals.get(request.path)) and refusal[1] > 0:
                    refusal[1] -= 1
                    raise Refused(refusal[0])
                self._pace()
                return web.json_response({"success": True, "result": handler(await request.json())})
            except Refused as refused:
                return web.json_response({"code": refused.code, "message": "refused"}, status=refused.status)

        return handle

    def _pace(self) -> None:
        now = time.monotonic()
        while self._requests and self._requests[0] <= now - 1:
            self._requests.popleft()
        if len(self._requests) >= self.requests_per_second:
            self.waits.tell("all", 0, now)
            raise Refused("Forbidden.AccessDenied.QpsLimitForApi", status=403)
        self._requests.append(now)

    def _held(self, chat: str) -> None:
        if time.monotonic() < self._held_until.get(chat, 0.0):
            self.waits.tell(chat, 0, time.monotonic())
            raise Refused("Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", status=403)

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        chat = self._chat(body)
        made = self._make(body)
        if self.undelivered > 0:
            self.undelivered -= 1
            return made | {"deliverResults": [{"success": False, "errorMsg": "the robot is not there"}]}
        self.cards[body["outTrackId"]]["chat"] = chat
        return made | {"deliverResults": [{"success": True, "errorMsg": ""}]}

    def _make(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body["callbackType"] == "STREAM"
        data = body["cardData"]["cardParamMap"]
        self._check(data)
        self.cards[body["outTrackId"]] = {"chat": "", "data": dict(data), "template": body["cardTemplateId"]}
        return {"outTrackId": body["outTrackId"]}

    def _deliver(self, body: dict[str, Any]) -> dict[str, Any]:
        self._card(body)["chat"] = self._chat(body)
        return {"outTrackId": body["outTrackId"]}

    def _chat(self, body: dict[str, Any]) -> str:
        """Where the card is to stand."""
        space, _, chat = body["openSpaceId"].removeprefix("dtv1.card//").partition(".")
        if (space, chat) != ("IM_GROUP", GROUP) and not (space == "IM_ROBOT" and chat.startswith("staff")):
            raise Refused("param.openSpaceIdError")
        self._held(chat)
        if space == "IM_GROUP":
            assert body["imGroupOpenDeliverModel"]["robotCode"] == CLIENT_ID
        else:
            assert body["imRobotOpenDeliverModel"]["spaceType"] == "IM_ROBOT"
        return chat

    def _update(self, body: dict[str, Any]) -> bool:
        card = self._card(body)
        self._check(body["cardData"]["cardParamMap"])
        card["data"] |= body["cardData"]["cardParamMap"]
        return True

    def _stream(self, body: dict[str, Any]) -> bool:
        card = self._card(body)
        if card["data"]["flowStatus"] != "2":
            raise Refused("param.stream.notInputing")
        assert body["isFull"]
        assert body["guid"]
        self._check({body["key"]: body["content"]})
        card["data"][body["key"]] = body["content"]
        return True

    def _card(self, body: dict[str, Any]) -> dict[str, Any]:
        card = self.cards.get(body["outTrackId"])
        if card is None:
            raise Refused("param.cardNotExist")
        self._held(card["chat"])
        return card

    def _check(self, data: dict[str, Any]) -> None:
        if not all(isinstance(value, str) for value in data.values()):
            raise Refused("param.cardParamMapError")
        for key in ("msgContent", "staticMsgContent"):
            if found := _TAG.search(data.get(key, "")) or _DANGER.search(data.get(key, "")):
                self.violations.append(f"what the model wrote does something: {found[0]}")


def _shown(data: dict[str, str]) -> str:
    parts = [
        re.sub(r"\\([\\`*_~\[\]|#])", r"\1", data.get(key, "")) for key in ("msgContent", "staticMsgContent")
    ]
    return html.unescape("\n".join(filter(None, parts)))
