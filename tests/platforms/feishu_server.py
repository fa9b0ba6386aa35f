"""Feishu for tests: its open platform over HTTP, its long connection, its signed and encrypted requests, its laws.

Checked against https://open.feishu.cn/document: tokens that end, refusals with a code and 400, five messages a second
in a chat (code 230020), cards of at most 30 KB and 200 components whose changes have numbers that grow (300317), texts
that stream only while the card does (300309), recalled messages that take no reply (230011), events that are sent
again until they are answered with 200.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import os
import re
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from glmbot_feishu.callback import signature_of
from glmbot_feishu.frames import CONTROL, DATA, Frame, read_frame, written
from platforms.listener import Listener
from platforms.refused import Refused
from platforms.waits import Waits

__all__ = [
    "APP_ID",
    "BOT",
    "ENCRYPT_KEY",
    "GROUP",
    "SECRET",
    "FeishuServer",
    "chat_of",
    "encrypted",
    "user_id",
]

APP_ID, SECRET = "cli_a1b2c3d4e5f6", "secretSECRETsecretSECRETsecret12"
# The one of Feishu's published example.
ENCRYPT_KEY = "test key"
BOT, GROUP = "ou_bot0000001", "oc_group00005"
_TAG = re.compile(r"<(?:at|person|link|font|text_tag)\b", re.IGNORECASE)
_REFERENCE = re.compile(r"&#(\d{1,6});")


def user_id(number: int) -> str:
    return f"ou_user{number:07d}"


def chat_of(number: int) -> str:
    """The private chat with a person."""
    return f"oc_private{number:05d}"


def encrypted(key: str, content: bytes) -> str:
    vector = os.urandom(16)
    padder = PKCS7(128).padder()
    cipher = Cipher(algorithms.AES(hashlib.sha256(key.encode()).digest()), modes.CBC(vector)).encryptor()
    padded = padder.update(content) + padder.finalize()
    return base64.b64encode(vector + cipher.update(padded) + cipher.finalize()).decode()


@dataclass
class FeishuServer:
    """`messages_per_second` is the law's five in a chat, made more where a test is about something else."""

    messages_per_second: float = 5.0
    messages: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    said: dict[int, dict[str, Any]] = field(default_factory=dict)
    recalled: set[str] = field(default_factory=set)
    files: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    waits: Waits = field(default_factory=Waits)
    toasts: list[str] = field(default_factory=list)
    # Of a path's end: the code and how many times more.
    refusals: dict[str, list[int]] = field(default_factory=dict)
    # Of a path's end: the status of a page that something on the way answers with.
    pages: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    url: str = ""
    posts_to: str = ""

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._pending: dict[str, bytes] = {}
        self._sockets: list[web.WebSocketResponse] = []
        self._writes: dict[str, deque[float]] = defaultdict(deque)
        self._held_until: dict[str, float] = {}
        self._uuids: dict[str, str] = {}
        self._listener = Listener()
        self._token = ""
        self._sending = asyncio.Lock()
        self.posted: list[int] = []
        self.scopes = {
            "im:message": 1, "im:message:send_as_bot": 1, "im:message.group_at_msg:readonly": 1,
            "im:message.p2p_msg:readonly": 1, "im:resource": 1, "cardkit:card:write": 1,
        }  # fmt: skip
        self.pings = 0

    async def start(self) -> None:
        app = web.Application(client_max_size=2**24)
        api = "/open-apis"
        app.router.add_post(f"{api}/auth/v3/tenant_access_token/internal", self._log_in)
        app.router.add_post("/callback/ws/endpoint", self._endpoint)
        app.router.add_get("/link", self._link)
        for method, path, handler in (
            ("GET", "/bot/v3/info", self._info),
            ("GET", "/application/v6/scopes", self._list_scopes),
            ("POST", "/im/v1/messages", self._send),
            ("POST", "/im/v1/messages/{message}/reply", self._reply),
            ("DELETE", "/im/v1/messages/{message}", self._delete),
            ("POST", "/im/v1/files", self._upload),
            ("POST", "/cardkit/v1/cards", self._create_card),
            ("POST", "/cardkit/v1/cards/id_convert", self._convert),
            ("PUT", "/cardkit/v1/cards/{card}", self._update_card),
            ("PUT", "/cardkit/v1/cards/{card}/elements/{element}/content", self._stream),
        ):
            app.router.add_route(method, api + path, self._guarded(handler))
        self.url = f"http://{await self._listener.open(app)}"

    async def stop(self) -> None:
        await self.disconnect()
        await self._listener.close()

    # ---- what people do ----------------------------------------------------------------------------------

    async def say(
        self, text: str, *, user: int = 7, chat: str = "", mention: bool = False, thread: str = "",
        kind: str = "text", content: dict[str, Any] | None = None, reply_to: str = "",
    ) -> int:  # fmt: skip
        """A person writes; without a chat to the bot alone. Returns a number of the message."""
        where, number = chat or chat_of(user), next(self._numbers)
        message: dict[str, Any] = {
            "message_id": f"om_said{number:06d}", "create_time": str(int(time.time() * 1000)), "chat_id": where,
            "chat_type": "group" if chat else "p2p", "message_type": kind,
            "content": json.dumps(content or {"text": f"@_user_1 {text}" if mention else text}),
        }  # fmt: skip
        if mention:
            message["mentions"] = [{"key": "@_user_1", "id": {"open_id": BOT}, "name": "glmbot"}]
        if thread:
            message["thread_id"] = thread
        if reply_to:
            message["parent_id"] = reply_to
        self.said[number] = message
        sender = {"sender_id": {"open_id": user_id(user)}, "sender_type": "user", "tenant_key": "t"}
        await self.tell("im.message.receive_v1", {"sender": sender, "message": message})
        return number

    async def recall(self, number: int) -> None:
        message = self.said[number]
        self.recalled.add(message["message_id"])
        await self.tell(
            "im.message.recalled_v1",
            {"message_id": message["message_id"], "chat_id": message["chat_id"],
             "recall_time": str(int(time.time() * 1000)), "recall_type": "message_owner"},
        )  # fmt: skip

    async def press(self, chat: str, message_id: str, command: str, *, user: int = 7) -> None:
        values = [each for each in self.buttons(chat, message_id) if each["glmbot"] == command]
        await self.tell(
            "card.action.trigger",
            {"operator": {"open_id": user_id(user)}, "token": "c-1", "action": {"value": values[0], "tag": "button"},
             "host": "im_message", "context": {"open_message_id": message_id, "open_chat_id": chat}},
        )  # fmt: skip

    async def tell(self, kind: str, event: dict[str, Any], *, event_id: str = "") -> None:
        header = {
            "event_id": event_id or f"event{next(self._numbers)}", "event_type": kind, "create_time": "1",
            "token": "v", "app_id": APP_ID, "tenant_key": "t",
        }  # fmt: skip
        content = json.dumps({"schema": "2.0", "header": header, "event": event}).encode()
        if self.posts_to:
            self.posted.append(await self.post(content))
            return
        self._pending[f"m{next(self._numbers)}"] = content
        await self._push()

    def hold(self, chat: str, seconds: float) -> None:
        """Every write to this chat is refused for so long."""
        self._held_until[chat] = time.monotonic() + seconds

    def texts(self, chat: str) -> list[str]:
        """What the bot's messages in a chat show now, in order; what says nothing yet is left out."""
        shown = [self._shown(message) for message in self.messages[chat].values()]
        return [text for text in shown if text not in ("", "…")]

    def buttons(self, chat: str, message_id: str) -> list[dict[str, str]]:
        card = self._card(self.messages[chat][message_id])
        return [
            each["behaviors"][0]["value"]
            for element in card["body"]["elements"]
            if element["tag"] == "column_set"
            for column in element["columns"]
            for each in column["elements"]
        ]

    @property
    def unacknowledged(self) -> int:
        return len(self._pending)

    async def disconnect(self) -> None:
        for socket in list(self._sockets):
            await socket.close()

    # ---- events ------------------------------------------------------------------------------------------

    async def _push(self) -> None:
        """One after the other, each in two frames where it is long."""
        if not self._sockets:
            return
        socket = self._sockets[-1]
        async with self._sending:
            for name, content in list(self._pending.items()):
                half = len(content) // 2 if len(content) > 700 else len(content)
                parts = [part for part in (content[:half], content[half:]) if part]
                for index, part in enumerate(parts):
                    headers = {
                        "type": "event", "message_id": name, "trace_id": "t", "sum": str(len(parts)), "seq": str(index),
                    }  # fmt: skip
                    with contextlib.suppress(ConnectionError):
                        await socket.send_bytes(written(Frame(DATA, 1, headers, part, 5, 6, {9: b"log"})))

    async def _endpoint(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (body["AppID"], body["AppSecret"]) != (APP_ID, SECRET):
            return web.json_response({"code": 1000040344, "msg": "no credential"})
        config = {"ReconnectCount": -1, "ReconnectInterval": 120, "ReconnectNonce": 0, "PingInterval": 120}
        url = f"{self.url.replace('http', 'ws', 1)}/link?device_id=d1&service_id=1"
        return web.json_response({"code": 0, "msg": "", "data": {"URL": url, "ClientConfig": config}})

    async def _link(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.append(socket)
        await self._push()
        try:
            async for message in socket:
                if message.type is not WSMsgType.BINARY:
                    continue
                frame = read_frame(message.data)
                if frame.method == CONTROL:
                    self.pings += 1
                    pong = json.dumps({"PingInterval": 60}).encode()
                    await socket.send_bytes(written(Frame(CONTROL, 1, {"type": "pong"}, pong)))
                    continue
                answer = json.loads(frame.payload)
                if answer["code"] == 200:
                    self._pending.pop(frame.headers["message_id"], None)
                    self._note(base64.b64decode(answer.get("data") or b""))
        finally:
            self._sockets.remove(socket)
        return socket

    def _note(self, said: bytes) -> None:
        if said and said != b"{}":
            self.toasts.append(json.loads(said)["toast"]["content"])

    async def post(
        self,
        content: bytes,
        *,
        at: float | None = None,
        key: str = ENCRYPT_KEY,
        signed: bool = True,
        nonce: str = "",
    ) -> int:
        body = json.dumps({"encrypt": encrypted(key, content)}).encode()
        return await self.post_body(body, at=at, key=key, signed=signed, nonce=nonce)

    async def post_body(
        self,
        body: bytes,
        *,
        at: float | None = None,
        key: str = ENCRYPT_KEY,
        signed: bool = True,
        nonce: str = "",
    ) -> int:
        stamp, nonce = str(int(time.time() if at is None else at)), nonce or str(next(self._numbers))
        headers = {"Content-Type": "application/json"}
        if signed:
            headers |= {
                "X-Lark-Request-Timestamp": stamp, "X-Lark-Request-Nonce": nonce,
                "X-Lark-Signature": signature_of(key, stamp, nonce, body),
            }  # fmt: skip
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.posts_to, data=body, headers=headers) as answer,
        ):
            self.said_back = await answer.text()
            if answer.status == 200 and "challenge" not in self.said_back:
                self._note(self.said_back.encode())
            return answer.status

    # ---- the open platform -------------------------------------------------------------------------------

    async def _log_in(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (body["app_id"], body["app_secret"]) != (APP_ID, SECRET):
            return web.json_response({"code": 10014, "msg": "app secret invalid"})
        self.tokens += 1
        self._token = f"t-{self.tokens}"
        return web.json_response({"code": 0, "msg": "ok", "tenant_access_token": self._token, "expire": 7200})

    def end_token(self) -> None:
        """As if somebody had renewed the secret."""
        self._token = "ended"

    def _guarded(self, handler: Any) -> Any:
        async def handle(request: web.Request) -> web.Response:
            self.calls.append((request.method, request.path))
            try:
                if request.headers.get("Authorization") != f"Bearer {self._token}":
                    raise Refused(99991663, "token invalid")
                for end, refusal in self.refusals.items():
                    if request.path.endswith(end) and refusal[1] > 0:
                        refusal[1] -= 1
                        raise Refused(refusal[0])
                for end, status in self.pages.items():
                    if request.path.endswith(end):
                        page = f"<html><h1>{status}</h1></html>"
                        return web.Response(status=status, text=page, content_type="text/html")
                found = handler(
                    request, {} if request.content_type.startswith("multipart") else await _body(request)
                )
                if asyncio.iscoroutine(found):
                    found = await found
                return web.json_response(
                    {"code": 0, "msg": "success", "data": found} if handler != self._info else found
                )
            except Refused as refused:
                return web.json_response({"code": refused.code, "msg": refused.words}, status=refused.status)

        return handle

    def _info(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        return {"code": 0, "msg": "ok", "bot": {"activate_status": 2, "app_name": "glmbot", "open_id": BOT}}

    def _list_scopes(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        listed = [{"scope_name": name, "grant_status": status} for name, status in self.scopes.items()]
        return {"scopes": listed}

    def _send(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        assert request.query["receive_id_type"] == "chat_id"
        return self._put(body["receive_id"], body, "")

    def _reply(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        question = request.match_info["message"]
        if question in self.recalled:
            raise Refused(230011, "The message is recalled.")
        chat = next((each["chat_id"] for each in self.said.values() if each["message_id"] == question), "")
        chat = chat or next((chat for chat, of in self.messages.items() if question in of), "")
        if not chat:
            raise Refused(230001, "invalid message_id")
        return self._put(chat, body, question)

    def _put(self, chat: str, body: dict[str, Any], question: str) -> dict[str, Any]:
        self._pace(chat)
        if (uuid := body.get("uuid")) and uuid in self._uuids:
            return {"message_id": self._uuids[uuid], "chat_id": chat}
        content = json.loads(body["content"])
        name = f"om_bot{next(self._numbers):06d}"
        if body["msg_type"] == "interactive" and content["data"]["card_id"] not in self.cards:
            raise Refused(230099, "no such card")
        self.messages[chat][name] = {
            "kind": body["msg_type"], "content": content, "question": question,
            "in_thread": body.get("reply_in_thread", False),
        }  # fmt: skip
        if uuid:
            self._uuids[uuid] = name
        return {"message_id": name, "chat_id": chat}

    def _pace(self, chat: str) -> None:
        now = time.monotonic()
        writes = self._writes[chat]
        while writes and writes[0] <= now - 1:
            writes.popleft()
        if now < self._held_until.get(chat, 0.0) or len(writes) >= self.messages_per_second:
            self.waits.tell(chat, 0, now)
            raise Refused(230020, "This operation triggers the frequency limit.")
        writes.append(now)

    def _delete(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        name = request.match_info["message"]
        for of in self.messages.values():
            if name in of:
                del of[name]
                return {}
        raise Refused(230011, "The message is recalled.")

    async def _upload(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        fields = await request.post()
        key = f"file_{next(self._numbers)}"
        self.files[key] = str(fields["file_name"])
        assert fields["file_type"] == "stream"
        return {"file_key": key}

    def _create_card(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        assert body["type"] == "card_json"
        name = str(7 * 10**17 + next(self._numbers))
        self.cards[name] = {"card": self._checked(body["data"]), "sequence": 0}
        return {"card_id": name}

    def _convert(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        for of in self.messages.values():
            if (message := of.get(body["message_id"])) is not None:
                return {"card_id": message["content"]["data"]["card_id"]}
        raise Refused(200740, "The card entity does not exist")

    def _update_card(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        card = self._numbered(request, body)
        card["card"] = self._checked(body["card"]["data"])
        return {}

    def _stream(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        card = self._numbered(request, body)
        if not card["card"]["config"]["streaming_mode"]:
            raise Refused(300309, "Card streaming closed")
        found = [
            each
            for each in card["card"]["body"]["elements"]
            if each.get("element_id") == request.match_info["element"]
        ]
        if not found or found[0]["tag"] != "markdown" or not body["content"]:
            raise Refused(300310, "Only update text")
        found[0]["content"] = body["content"]
        self._checked(json.dumps(card["card"], ensure_ascii=False))
        return {}

    def _numbered(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        card = self.cards.get(request.match_info["card"])
        if card is None:
            raise Refused(200740, "The card entity does not exist")
        chat = next(
            (chat for chat, of in self.messages.items() for each in of.values()
             if each["kind"] == "interactive" and each["content"]["data"]["card_id"] == request.match_info["card"]), "",
        )  # fmt: skip
        if time.monotonic() < self._held_until.get(chat, 0.0):
            self.waits.tell(chat, 0, time.monotonic())
            raise Refused(99991400, "request trigger frequency limit", 429)
        if not card["sequence"] < body["sequence"] <= 2**31 - 1:
            raise Refused(300317, "The sequence number did not increment")
        card["sequence"] = body["sequence"]
        return card

    def _checked(self, data: str) -> dict[str, Any]:
        """https://open.feishu.cn/document/feishu-cards/card-json-v2-structure"""
        if len(data.encode()) > 30 * 1024:
            raise Refused(200860, "Card content exceeds limit.")
        card = json.loads(data)
        elements = card["body"]["elements"]
        if card["schema"] != "2.0" or not elements or not card["config"]["update_multi"]:
            raise Refused(200220, "Failed to generate card content")
        for each in elements:
            if each["tag"] not in ("markdown", "div", "column_set"):
                raise Refused(200220, f"unsupported tag {each['tag']}")
            if each["tag"] == "markdown":
                if not each["content"]:
                    raise Refused(200220, "empty")
                if found := _TAG.search(each["content"]):
                    self.violations.append(f"a tag that the model wrote: {found[0]}")
        return card

    def _card(self, message: dict[str, Any]) -> dict[str, Any]:
        return self.cards[message["content"]["data"]["card_id"]]["card"]

    def _shown(self, message: dict[str, Any]) -> str:
        if message["kind"] == "file":
            return f"file {self.files[message['content']['file_key']]}"
        lines: list[str] = []
        for each in self._card(message)["body"]["elements"]:
            if each["tag"] == "markdown":
                lines.append(_REFERENCE.sub(lambda sign: chr(int(sign[1])), each["content"]))
            elif each["tag"] == "div":
                lines.append(each["text"]["content"])
        return "\n".join(lines)


async def _body(request: web.Request) -> dict[str, Any]:
    content = await request.read()
    return json.loads(content) if content else {}
