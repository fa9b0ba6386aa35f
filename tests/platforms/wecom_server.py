"""WeCom for tests: the long connection of smart bots, the interfaces of applications, what is posted, and its laws.

Checked against https://developer.work.weixin.qq.com/document (101463, 90236, 90238, 90930, 90968) and
wecom-aibot-python-sdk: one connection a bot, each request confirmed by its req_id, a message that is replied to for
as long as its req_id is known, streams that end, lengths in bytes, files in parts with their MD5, tokens in the address.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import re
import secrets
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from platforms.listener import Listener
from platforms.refused import Refused

__all__ = [
    "AES_KEY",
    "AGENT_ID",
    "BOT_ID",
    "CALLBACK_TOKEN",
    "CORP_ID",
    "GROUP",
    "SECRET",
    "WeComServer",
    "member",
    "opened",
    "sealed",
    "signature",
]  # fmt: skip

BOT_ID, SECRET = "aibTest-1234567890_abc", "secret_SECRET-secret_SECRET"
CORP_ID, AGENT_ID = "wx5823bf96d3bd56c7", 218
# Those of WeCom's own example: https://developer.work.weixin.qq.com/document/path/90968
CALLBACK_TOKEN, AES_KEY = "QDG6eK", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
GROUP = "wrGroup-5_abc"
_TAG = re.compile(r"<(?!\u200b)[A-Za-z/!@]")
_DAY_S = 24 * 3600


def member(number: int) -> str:
    return f"Member.{number:05d}"


def signature(*parts: str) -> str:
    return hashlib.sha1("".join(sorted(parts)).encode()).hexdigest()


def sealed(xml: str, receiver: str = CORP_ID, key: str = AES_KEY) -> str:
    """As WeCom's own samples do it, step by step."""
    secret = base64.b64decode(f"{key}=")
    content = xml.encode()
    whole = secrets.token_bytes(16) + struct.pack(">I", len(content)) + content + receiver.encode()
    fill = 32 - len(whole) % 32
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(secret[:16])).encryptor()
    return base64.b64encode(encryptor.update(whole + bytes([fill]) * fill) + encryptor.finalize()).decode()


def opened(encrypted: str) -> str:
    secret = base64.b64decode(f"{AES_KEY}=")
    decryptor = Cipher(algorithms.AES(secret), modes.CBC(secret[:16])).decryptor()
    whole = decryptor.update(base64.b64decode(encrypted)) + decryptor.finalize()
    whole = whole[: -whole[-1]]
    (length,) = struct.unpack(">I", whole[16:20])
    assert whole[20 + length :].decode() == CORP_ID
    return whole[20 : 20 + length].decode()


@dataclass
class WeComServer:
    """`per_minute` is the law's thirty in a chat, made more where a test is about something else."""

    per_minute: int = 30
    stream_s: float = 600.0
    messages: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    said: dict[int, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    files: list[tuple[str, bytes]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    refusals: dict[str, list[int]] = field(default_factory=dict)
    known: set[str] = field(default_factory=lambda: {member(number) for number in range(20)})
    floods: int = 0
    tokens: int = 0
    displaced: int = 0
    posts_to: str = ""
    clock_ahead_s: float = 0.0
    deaf: bool = False
    posted: list[tuple[int, str]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._socket: web.WebSocketResponse | None = None
        self._pending: list[dict[str, Any]] = []
        self._questions: dict[str, tuple[str, float]] = {}
        self._uploads: dict[str, dict[str, Any]] = {}
        self._media: dict[str, str] = {}
        self._written: dict[str, deque[float]] = {}
        self._held_until: dict[str, float] = {}
        self._listener = Listener()
        self._client: aiohttp.ClientSession | None = None
        self._token = ""
        self._tasks: set[Any] = set()

    async def start(self) -> None:
        app = web.Application(client_max_size=2**22)
        app.router.add_get("/ws", self._connect)
        app.router.add_get("/cgi-bin/gettoken", self._give_token)
        app.router.add_get("/cgi-bin/agent/get", self._guarded(self._agent))
        app.router.add_post("/cgi-bin/message/send", self._guarded(self._send))
        app.router.add_post("/cgi-bin/media/upload", self._guarded(self._take_media))
        self.url = f"http://{await self._listener.open(app)}"
        self._client = aiohttp.ClientSession()

    async def stop(self) -> None:
        await self.disconnect()
        if self._client is not None:
            await self._client.close()
        await self._listener.close()

    @property
    def ws_url(self) -> str:
        return f"{self.url.replace('http', 'ws', 1)}/ws"

    # ---- what people do ----------------------------------------------------------------------------------

    async def say(self, text: str, *, user: int = 7, group: bool = False, **more: Any) -> int:
        """To the smart bot, alone or mentioning it. Returns a number of the message."""
        number = next(self._numbers)
        message: dict[str, Any] = {
            "msgid": f"msg{number}", "aibotid": BOT_ID, "chattype": "group" if group else "single",
            "from": {"userid": member(user)}, "create_time": int(time.time()), "msgtype": "text",
            "text": {"content": f"@小智 {text}" if group else text}, **more,
        }  # fmt: skip
        if group:
            message["chatid"] = GROUP
        self.said[number] = message
        chat = GROUP if group else member(user)
        request = f"req{number}-{secrets.token_hex(4)}"
        self._questions[request] = chat, time.time()
        await self.tell("aibot_msg_callback", message, request)
        return number

    async def tell(self, command: str, body: Any, request: str = "") -> None:
        """What comes while the bot is away waits for it: so a test needs not to."""
        frame = {
            "cmd": command,
            "headers": {"req_id": request or f"event{next(self._numbers)}"},
            "body": body,
        }
        if self._socket is None or self._socket.closed:
            self._pending.append(frame)
        else:
            with contextlib.suppress(ConnectionError):
                await self._socket.send_json(frame)

    async def write(
        self, text: str, *, user: int = 7, kind: str = "text", number: int = 0, **more: str
    ) -> int:
        """To the application. Returns the message's number; what it was answered with stands in `posted`."""
        number = number or next(self._numbers)
        fields = {
            "ToUserName": CORP_ID, "FromUserName": member(user), "CreateTime": str(int(time.time())), "MsgType": kind,
            "Content": text, "MsgId": str(number), "AgentID": str(AGENT_ID), **more,
        }  # fmt: skip
        inside = "".join(f"<{name}><![CDATA[{value}]]></{name}>" for name, value in fields.items())
        await self.post(f"<xml>{inside}</xml>")
        return number

    async def post(
        self,
        xml: str,
        *,
        at: float | None = None,
        nonce: str = "",
        key: str = CALLBACK_TOKEN,
        receiver: str = CORP_ID,
    ) -> int:
        encrypted = sealed(xml, receiver)
        body = f"<xml><ToUserName><![CDATA[{CORP_ID}]]></ToUserName><Encrypt><![CDATA[{encrypted}]]></Encrypt><AgentID><![CDATA[{AGENT_ID}]]></AgentID></xml>"
        stamp, nonce = str(int(time.time() if at is None else at)), nonce or secrets.token_hex(5)
        query = {"msg_signature": signature(key, stamp, nonce, encrypted), "timestamp": stamp, "nonce": nonce}
        return await self.post_body(body.encode(), query)

    async def post_body(self, body: bytes, query: dict[str, str]) -> int:
        assert self._client is not None
        begun = time.monotonic()
        async with self._client.post(self.posts_to, params=query, data=body) as answer:
            said = await answer.text()
        if time.monotonic() - begun > 5:
            self.violations.append("a request was answered after WeCom had gone")
        if answer.status == 200 and said:
            self._take_passive(said)
        self.posted.append((answer.status, said))
        return answer.status

    async def try_address(self, echo: str, *, key: str = CALLBACK_TOKEN) -> tuple[int, str]:
        assert self._client is not None
        encrypted, stamp, nonce = sealed(echo), str(int(time.time())), secrets.token_hex(5)
        query = {
            "msg_signature": signature(key, stamp, nonce, encrypted), "timestamp": stamp, "nonce": nonce, "echostr": encrypted,
        }  # fmt: skip
        async with self._client.get(self.posts_to, params=query) as answer:
            return answer.status, await answer.text()

    def hold(self, chat: str, seconds: float) -> None:
        """Every write to this chat is refused for so long."""
        self._held_until[chat] = time.monotonic() + seconds

    def texts(self, chat: str) -> list[str]:
        """What stands in a chat now, in order; what says nothing yet is left out."""
        shown = [re.sub(r"\\([\\`*_~\[\]])", r"\1", each["text"]) for each in self.messages.get(chat, [])]
        return [text for text in shown if text not in ("", "…")]

    async def disconnect(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    def forget(self) -> None:
        """No message that was said so far can be replied to any more."""
        self._questions.clear()

    def end_token(self) -> None:
        self._token = "ended"

    # ---- the long connection ----------------------------------------------------------------------------------

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=2**21)
        await socket.prepare(request)
        subscribed = False
        async for message in socket:
            if message.type is not WSMsgType.TEXT or self.deaf:
                continue
            frame = message.json()
            command, name = frame["cmd"], frame["headers"]["req_id"]
            answer: dict[str, Any] = {"headers": {"req_id": name}, "errcode": 0, "errmsg": "ok"}
            try:
                if len(name.encode()) > 256:
                    raise Refused(40058)
                if command == "aibot_subscribe":
                    await self._subscribe(frame["body"], socket)
                    subscribed = True
                elif not subscribed:
                    raise Refused(846609)
                else:
                    body = self._do(command, name, frame.get("body") or {})
                    if body is not None:
                        answer["body"] = body
            except Refused as refused:
                answer |= {"errcode": refused.code, "errmsg": f"{refused.words}, hint: [1], from ip: 1.2.3.4"}
            await socket.send_json(answer)
            if command == "aibot_subscribe" and subscribed:
                pending, self._pending = self._pending, []
                for each in pending:
                    await socket.send_json(each)
        if self._socket is socket:
            self._socket = None
        return socket

    async def _subscribe(self, body: dict[str, Any], socket: web.WebSocketResponse) -> None:
        if body.get("bot_id") != BOT_ID:
            raise Refused(93019, "invalid bot_id")
        if body.get("secret") != SECRET:
            raise Refused(853000, "signature is incorrect, please check if the bot secret is correct")
        self._refuse("aibot_subscribe")
        before, self._socket = self._socket, socket
        if before is not None and not before.closed and before is not socket:
            self.displaced += 1
            event = {
                "msgid": "e",
                "aibotid": BOT_ID,
                "msgtype": "event",
                "event": {"eventtype": "disconnected_event"},
            }
            await before.send_json({"cmd": "aibot_event_callback", "headers": {"req_id": "e"}, "body": event})
            await before.close()

    def _do(self, command: str, name: str, body: dict[str, Any]) -> dict[str, Any] | None:
        self.calls.append(command)
        match command:
            case "ping":
                return None
            case "aibot_respond_msg":
                self._refuse(command)
                if name not in self._questions or self._questions[name][1] < time.time() - _DAY_S:
                    raise Refused(846605, "invalid req_id")
                self._respond(self._questions[name][0], name, body)
            case "aibot_send_msg":
                self._refuse(command)
                chat = body["chatid"]
                if body.get("chat_type", 0) not in (0, 2 if chat == GROUP else 1):
                    raise Refused(40058, "chat_type")
                self._pace(chat)
                self._stand(chat, {"text": self._content(body), "kind": body["msgtype"]})
            case "aibot_respond_welcome_msg" | "aibot_respond_update_msg":
                self._refuse(command)
            case "aibot_upload_media_init" | "aibot_upload_media_chunk" | "aibot_upload_media_finish":
                self._refuse(command)
                return self._upload(command.rpartition("_")[2], body)
            case _:
                raise Refused(40058, "cmd")
        return None

    def _respond(self, chat: str, name: str, body: dict[str, Any]) -> None:
        self._pace(chat)
        if body["msgtype"] != "stream":
            self._stand(chat, {"text": self._content(body), "kind": body["msgtype"]})
            return
        stream = body["stream"]
        self._check(stream["content"], 20480)
        for message in self.messages.get(chat, []):
            if message.get("stream") == (name, stream["id"]):
                if message["finish"] or time.time() - message["at"] > self.stream_s:
                    raise Refused(846608, "stream message update expired")
                message |= {"text": stream["content"], "finish": stream["finish"]}
                message["updates"] += 1
                return
        begun = {"stream": (name, stream["id"]), "at": time.time(), "updates": 0}
        self._stand(chat, {"text": stream["content"], "finish": stream["finish"], "kind": "stream", **begun})

    def _content(self, body: dict[str, Any]) -> str:
        kind = body["msgtype"]
        if kind in ("markdown", "text"):
            self._check(body[kind]["content"], 20480)
            return body[kind]["content"]
        if kind == "template_card":
            return str(body[kind]["main_title"]["title"])
        return self._name_of(body[kind]["media_id"])

    def _upload(self, step: str, body: dict[str, Any]) -> dict[str, Any]:
        if step == "init":
            if not 5 <= body["total_size"] <= 20 * 2**20 or len(body["filename"].encode()) > 256:
                raise Refused(40006)
            name = f"upload{next(self._numbers)}"
            self._uploads[name] = {**body, "parts": {}}
            return {"upload_id": name}
        upload = self._uploads[body["upload_id"]]
        if step == "chunk":
            part = base64.b64decode(body["base64_data"], validate=True)
            if len(part) > 512 * 2**10:
                raise Refused(40006)
            upload["parts"][body["chunk_index"]] = part
            return {}
        content = b"".join(upload["parts"][index] for index in range(upload["total_chunks"]))
        if len(content) != upload["total_size"] or hashlib.md5(content).hexdigest() != upload["md5"]:
            raise Refused(40006)
        return {"type": upload["type"], "media_id": self._keep(upload["filename"], content), "created_at": 1}

    # ---- an application's interfaces ----------------------------------------------------------------------------------

    async def _give_token(self, request: web.Request) -> web.Response:
        try:
            self._refuse("/cgi-bin/gettoken")
        except Refused as refused:
            return web.json_response({"errcode": refused.code, "errmsg": "refused"})
        if request.query["corpid"] != CORP_ID:
            return web.json_response({"errcode": 40013, "errmsg": "invalid corpid"})
        if request.query["corpsecret"] != SECRET:
            return web.json_response({"errcode": 40001, "errmsg": "invalid credential"})
        self.tokens += 1
        self._token = f"token-{self.tokens}"
        given = {"errcode": 0, "errmsg": "ok", "access_token": self._token, "expires_in": 7200}
        now = formatdate(time.time() + self.clock_ahead_s, usegmt=True)
        return web.json_response(given, headers={"Date": now})

    def _guarded(self, handler: Any) -> Any:
        async def handle(request: web.Request) -> web.Response:
            self.calls.append(request.path)
            try:
                if request.query.get("access_token") != self._token:
                    raise Refused(42001, "access_token expired")
                self._refuse(request.path)
                return web.json_response({"errcode": 0, "errmsg": "ok", **await handler(request)})
            except Refused as refused:
                return web.json_response({"errcode": refused.code, "errmsg": f"{refused.words}, hint: [1]"})

        return handle

    async def _agent(self, request: web.Request) -> dict[str, Any]:
        if request.query["agentid"] != str(AGENT_ID):
            raise Refused(301002, "not allow operate another agent with this accesstoken")
        return {"agentid": AGENT_ID, "name": "小智"}

    async def _send(self, request: web.Request) -> dict[str, Any]:
        body = await request.json()
        if body["agentid"] != AGENT_ID:
            raise Refused(40056)
        chat, kind = body["touser"], body["msgtype"]
        if chat not in self.known:
            return {"invaliduser": chat, "msgid": "m"}
        self._pace(chat)
        if kind == "text":
            self._check(body["text"]["content"], 2048)
            text = body["text"]["content"]
        else:
            text = self._name_of(body[kind]["media_id"])
        self._stand(chat, {"text": text, "kind": kind})
        return {"invaliduser": "", "msgid": f"sent{next(self._numbers)}"}

    async def _take_media(self, request: web.Request) -> dict[str, Any]:
        assert request.query["type"] == "file"
        form = await request.post()
        file: Any = form["media"]
        content = file.file.read()
        if not 5 <= len(content) <= 20 * 2**20:
            raise Refused(40006)
        return {"type": "file", "media_id": self._keep(file.filename, content), "created_at": "1"}

    def _take_passive(self, said: str) -> None:
        """The reply that stands in the answer to a request."""
        found = dict(re.findall(r"<(\w+)>([^<]*)</\1>", said))
        parts = CALLBACK_TOKEN, found["TimeStamp"], found["Nonce"], found["Encrypt"]
        if found["MsgSignature"] != signature(*parts):
            self.violations.append("a passive reply is not signed")
            return
        reply = dict(re.findall(r"<(\w+)>([^<]*)</\1>", opened(found["Encrypt"])))
        text = reply["Content"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        self._check(text, 2048)
        self._stand(reply["ToUserName"], {"text": text, "kind": "passive"})

    # ---- laws ----------------------------------------------------------------------------------

    def _refuse(self, name: str) -> None:
        if (refusal := self.refusals.get(name)) and refusal[1] > 0:
            refusal[1] -= 1
            raise Refused(refusal[0])

    def _pace(self, chat: str) -> None:
        now = time.monotonic()
        written = self._written.setdefault(chat, deque())
        while written and written[0] <= now - 60:
            written.popleft()
        if len(written) >= self.per_minute or now < self._held_until.get(chat, 0.0):
            self.floods += 1
            raise Refused(45033, "api concurrent out of limit")
        written.append(now)

    def _check(self, text: str, most: int) -> None:
        if len(text.encode()) > most:
            self.violations.append(f"a text of {len(text.encode())} bytes")
            raise Refused(45002, "content size out of limit")
        if not text.strip():
            raise Refused(44004, "empty content")
        if found := _TAG.search(text):
            self.violations.append(f"what the model wrote does something: {found[0]}")

    def _stand(self, chat: str, message: dict[str, Any]) -> None:
        self.messages.setdefault(chat, []).append(message)

    def _keep(self, name: str, content: bytes) -> str:
        media = f"media-{next(self._numbers)}"
        self.files.append((name, content))
        self._media[media] = name
        return media

    def _name_of(self, media: str) -> str:
        if media not in self._media:
            raise Refused(40007, "invalid media_id")
        return self._media[media]
