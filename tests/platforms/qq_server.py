"""QQ's Open Platform for tests: its interfaces over HTTP, its gateway, what it posts, its laws.

Checked against https://bot.q.qq.com/wiki/develop/api-v2/ (September 2026) and qq-botpy 1.2.1: tokens by AppID and AppSecret,
whose refusals come with the status 200; a session that is resumed by its number; replies to a message that are counted,
timed and taken once by msg_seq; messages of the bot's own, Markdown, buttons and addresses only where granted.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from platforms.listener import Listener
from platforms.refused import Refused

__all__ = ["APP_ID", "BOT", "CHANNEL", "GROUP", "SECRET", "QQServer", "member", "openid"]

APP_ID, SECRET = "102000001", "DG5g3B4j9X2KOErG"
BOT = "6158788878435714165"
GROUP, CHANNEL, GUILD = "C9F778FE6ADF9D1D1DBE395BF744A33A", "100010", "18700000000001"
_WINDOWS = {"users": (3600, 4), "groups": (300, 5), "channels": (300, 10_000), "dms": (300, 10_000)}
_LONGEST = 5000
_ACTS = re.compile(r"<@|<#|<qqbot|<emoji:|@everyone|<faceType", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://|www\.|\b[a-z0-9-]+\.(?:com|cn|org)\b", re.IGNORECASE)


def openid(number: int) -> str:
    return f"{number:032X}"


def member(number: int) -> str:
    """The same person in the group."""
    return f"A{number:031X}"


@dataclass
class QQServer:
    """granted: what of "markdown", "buttons", "addresses", "active" the bot has. intents: that it may ask for."""

    granted: set[str] = field(default_factory=set)
    intents: int = 1 << 25 | 1 << 30 | 1 << 12 | 1 << 26
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    shown: defaultdict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    calls: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    confirmed: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    refusals: deque[tuple[int, int]] = field(default_factory=deque)
    floods: int = 0
    loses_answers: int = 0
    files: list[str] = field(default_factory=list)
    block_size: int = 100
    tokens: int = 0
    token_lasts_s: int = 7200
    per_channel_and_second: float = 5.0
    greetings: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    beats: int = 0
    answers_beats: bool = True
    beat_ms: int = 45_000
    clock_ahead_s: float = 0.0
    url: str = ""

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._sequence = itertools.count(1)
        self._sockets: list[web.WebSocketResponse] = []
        self._events: list[dict[str, Any]] = []
        self._session = ""
        self._token = ""
        self._taken: set[tuple[str, int]] = set()
        self._replies: defaultdict[str, int] = defaultdict(int)
        self._answerable: dict[str, tuple[str, str]] = {}
        self._born: dict[str, float] = {}
        self._held_until: dict[str, float] = {}
        self._writes: defaultdict[str, deque[float]] = defaultdict(deque)
        self._later_s = 0.0
        self._uploads: dict[str, dict[str, Any]] = {}
        self._listener = Listener()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/app/getAppAccessToken", self._log_in)
        app.router.add_get("/users/@me", self._guarded(self._me))
        app.router.add_get("/gateway/bot", self._guarded(self._gateway))
        app.router.add_get("/websocket", self._connect)
        app.router.add_post("/v2/{scene:users|groups}/{place}/messages", self._guarded(self._write))
        app.router.add_post("/{scene:channels|dms}/{place}/messages", self._guarded(self._write))
        for step, handler in (("upload_prepare", self._prepare), ("upload_part_finish", self._finish_part),
                              ("files", self._put_together)):  # fmt: skip
            app.router.add_post(f"/v2/{{scene:users|groups}}/{{place}}/{step}", self._guarded(handler))
        app.router.add_put("/upload/{name}/{part}", self._take_part)
        app.router.add_delete("/{scene:channels|dms}/{place}/messages/{name}", self._guarded(self._remove))
        app.router.add_put("/interactions/{name}", self._guarded(self._confirm))
        self.url = f"http://{await self._listener.open(app)}"

    async def stop(self) -> None:
        await self.disconnect()
        await self._listener.close()

    # ---- what people do ----------------------------------------------------------------------------------

    async def say(self, text: str, *, user: int = 7, scene: str = "users", **more: Any) -> str:
        """In private, in the group (where the bot is mentioned), in a guild's channel or in private there."""
        kind, data = self.message(text, user=user, scene=scene, **more)
        await self.tell(kind, data)
        return data["id"]

    def message(
        self, text: str, *, user: int = 7, scene: str = "users", **more: Any
    ) -> tuple[str, dict[str, Any]]:
        """The event that tells it."""
        name = f"ROBOT1.0_msg.{next(self._numbers)}-x!"
        at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
        data: dict[str, Any] = {"id": name, "content": text, "timestamp": at}
        guild = {"author": {"id": str(user), "username": f"user {user}", "bot": False}, "guild_id": GUILD}
        kind, place, whole = {
            "users": ("C2C_MESSAGE_CREATE", openid(user), {"author": {"user_openid": openid(user)}}),
            "groups": ("GROUP_AT_MESSAGE_CREATE", GROUP,
                       {"author": {"member_openid": member(user)}, "group_openid": GROUP, "content": f" {text}"}),
            "channels": ("AT_MESSAGE_CREATE", CHANNEL,
                         {"channel_id": CHANNEL, "content": f"<@!{BOT}> {text}",
                          "mentions": [{"id": BOT, "username": "glm", "bot": True}], **guild}),
            "dms": ("DIRECT_MESSAGE_CREATE", GUILD, {"channel_id": "1", **guild}),
        }[scene]  # fmt: skip
        kind = more.pop("kind", kind)
        data |= whole | more
        self.said[name] = data
        self._answerable[name] = (scene, place)
        self._born[name] = time.time() + self._later_s
        return kind, data

    async def press(
        self, message: dict[str, Any], command: str, *, user: int = 7, group: bool = False
    ) -> str:
        """A button under a message that the bot has sent."""
        rows = message["keyboard"]["content"]["rows"]
        (button,) = [key for row in rows for key in row["buttons"] if key["id"] == command]
        name, event = f"inter-{next(self._numbers)}", f"INTERACTION_CREATE:{next(self._numbers)}"
        where = (
            {"group_openid": GROUP, "group_member_openid": member(user), "chat_type": 1, "scene": "group"}
            if group
            else {"user_openid": openid(user), "chat_type": 2, "scene": "c2c"}
        )
        resolved = {"button_data": button["action"]["data"], "button_id": command}
        data = {"id": name, "type": 11, "version": 1, "data": {"type": 11, "resolved": resolved}, **where}
        self._answerable[event] = ("groups", GROUP) if group else ("users", openid(user))
        self._born[event] = time.time() + self._later_s
        await self.tell("INTERACTION_CREATE", data, name=event)
        return name

    async def delete(self, name: str) -> None:
        """A question in a guild's channel is taken back."""
        message = {"id": name, "channel_id": CHANNEL, "guild_id": GUILD, "author": {"id": "7"}}
        await self.tell("PUBLIC_MESSAGE_DELETE", {"message": message, "op_user": {"id": "7"}})

    async def tell(self, kind: str, data: Any, *, name: str = "") -> None:
        event = {"op": 0, "s": next(self._sequence), "t": kind, "id": name or f"{kind}:1", "d": data}
        self._events.append(event)
        for socket in self._sockets:
            with contextlib.suppress(ConnectionError):
                await socket.send_json(event)

    async def post(
        self, url: str, payload: Any, *, signed: bool = True, at: int | None = None, secret: str = SECRET,
        **headers: str,
    ) -> tuple[int, Any]:  # fmt: skip
        """As the callback address gets it. Returns the status, and what was answered."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        said = {"X-Bot-Appid": APP_ID, "User-Agent": "QQBot-Callback", "Content-Type": "application/json"}
        if signed:
            stamp = str(int(time.time()) if at is None else at)
            key = Ed25519PrivateKey.from_private_bytes((secret.encode() * 32)[:32])
            said |= {
                "X-Signature-Timestamp": stamp,
                "X-Signature-Ed25519": key.sign(stamp.encode() + body).hex(),
            }
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, headers=said | headers) as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text

    def later(self, seconds: float) -> None:
        """So much time is over, by QQ's clock."""
        self._later_s += seconds

    def hold(self, chat: str, seconds: float) -> None:
        """Every write to this chat is refused for so long."""
        self._held_until[chat] = time.monotonic() + seconds

    def texts(self, chat: str) -> list[str]:
        """What the bot has sent to a chat, in order."""
        return [
            (message.get("markdown") or {}).get("content") or message["content"]
            for message in self.shown[chat]
            if "media" not in message
        ]

    async def disconnect(self, code: int = 1000) -> None:
        for socket in list(self._sockets):
            await socket.close(code=code)

    def end_token(self) -> None:
        self._token = "ended"

    def end_session(self) -> None:
        self._session = "ended"

    async def send(self, frame: dict[str, Any]) -> None:
        for socket in list(self._sockets):
            await socket.send_json(frame)

    # ---- the gateway -------------------------------------------------------------------------------------

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"op": 10, "d": {"heartbeat_interval": self.beat_ms}})
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._heard(socket, json.loads(message.data))
        finally:
            if socket in self._sockets:
                self._sockets.remove(socket)
        return socket

    async def _heard(self, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        data = frame["d"]
        match frame["op"]:
            case 1:
                self.beats += 1
                if self.answers_beats:
                    await socket.send_json({"op": 11})
            case 2:
                self.greetings.append((2, data))
                if data["token"] != f"QQBot {self._token}":
                    await socket.close(code=4004)
                elif data["intents"] & ~self.intents:
                    await socket.close(code=4014)
                else:
                    self._session = f"session-{next(self._numbers)}"
                    ready = {"version": 1, "session_id": self._session, "shard": [0, 1],
                             "user": {"id": BOT, "username": "glm", "bot": True}}  # fmt: skip
                    await socket.send_json({"op": 0, "s": next(self._sequence), "t": "READY", "d": ready})
                    self._sockets.append(socket)
            case 6:
                self.greetings.append((6, data))
                if data["session_id"] != self._session or type(data["seq"]) is not int:
                    await socket.send_json({"op": 9, "d": False})
                    return
                for event in [each for each in self._events if each["s"] > data["seq"]]:
                    await socket.send_json(event)
                await socket.send_json({"op": 0, "s": next(self._sequence), "t": "RESUMED", "d": ""})
                self._sockets.append(socket)
            case other:
                self.violations.append(f"an operation {other}")

    # ---- the interfaces ----------------------------------------------------------------------------------

    async def _log_in(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (body["appId"], body["clientSecret"]) != (APP_ID, SECRET):
            return _json({"code": 100016, "message": "invalid appid or secret"})
        self.tokens += 1
        self._token = f"token{self.tokens}"
        return _json({"access_token": self._token, "expires_in": str(self.token_lasts_s)})

    def _guarded(self, handler: Any) -> Any:
        async def handle(request: web.Request) -> web.Response:
            self.calls.append((request.method, request.path))
            date = formatdate(time.time() + self.clock_ahead_s, usegmt=True)
            headers = {"X-Tps-trace-ID": "4a8a61565b909f199b1ec169fdd6f49e", "Date": date}
            try:
                if request.headers.get("Authorization") != f"QQBot {self._token}":
                    raise Refused(11243, status=401)
                if self.refusals:
                    code, status = self.refusals.popleft()
                    raise Refused(code, status=status)
                body = await request.json() if request.can_read_body else {}
                answer = handler(request, body)
            except Refused as refused:
                said = {"message": "refused", "code": refused.code, "err_code": refused.code}
                return _json(said, status=refused.status, headers=headers)
            if request.method == "POST" and self.loses_answers:
                self.loses_answers -= 1
                assert request.transport is not None
                request.transport.close()
            return _json(answer, headers=headers)

        return handle

    def _me(self, request: web.Request, body: Any) -> dict[str, Any]:
        return {"id": BOT, "username": "glm", "avatar": ""}

    def _gateway(self, request: web.Request, body: Any) -> dict[str, Any]:
        limit = {"total": 1000, "remaining": 999, "reset_after": 14_400_000, "max_concurrency": 1}
        url = f"{self.url.replace('http', 'ws', 1)}/websocket"
        return {"url": url, "shards": 1, "session_start_limit": limit}

    def _confirm(self, request: web.Request, body: Any) -> dict[str, Any]:
        self.confirmed[request.match_info["name"]] = body["code"]
        return {}

    def _prepare(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        assert body["file_type"] == 4
        name, size = f"upload{next(self._numbers)}", int(body["file_size"])
        count = -(-size // self.block_size)
        self._uploads[name] = {**body, "place": request.match_info["place"], "parts": {}, "finished": set()}
        parts = [
            {
                "index": index,
                "presigned_url": f"{self.url}/upload/{name}/{index}",
                "block_size": str(self.block_size),
            }
            for index in range(count)
        ]
        return {"upload_id": name, "block_size": str(self.block_size), "parts": parts}

    async def _take_part(self, request: web.Request) -> web.Response:
        if "Authorization" in request.headers:
            self.violations.append("the token went where only a part of a file was to go")
        self._uploads[request.match_info["name"]]["parts"][
            int(request.match_info["part"])
        ] = await request.read()
        return web.Response()

    def _finish_part(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        upload = self._uploads[body["upload_id"]]
        part = upload["parts"][body["part_index"]]
        assert (str(len(part)), hashlib.md5(part).hexdigest()) == (body["block_size"], body["md5"])
        upload["finished"].add(body["part_index"])
        return {}

    def _put_together(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        upload = self._uploads[body["upload_id"]]
        whole = b"".join(part for _, part in sorted(upload["parts"].items()))
        assert hashlib.md5(whole).hexdigest() == upload["md5"] == upload["md5_10m"]
        assert upload["finished"] == set(upload["parts"])
        assert body["srv_send_msg"] is False
        return {"file_uuid": body["upload_id"], "file_info": body["upload_id"], "ttl": 300}

    def _write(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        scene, place = request.match_info["scene"], request.match_info["place"]
        self.bodies.append(body)
        if time.monotonic() < self._held_until.get(place, 0.0):
            raise Refused(22009, status=429)
        self._pace(scene, place)
        text = "" if body.get("media") else self._content(scene, body)
        answered = body.get("msg_id") or body.get("event_id")
        if answered:
            self._reply(scene, place, answered, body)
        elif "active" not in self.granted:
            raise Refused(40034105)
        if "addresses" not in self.granted and _ADDRESS.search(text):
            raise Refused(40054010 if scene in ("users", "groups") else 304003)
        if answered:
            self._replies[answered] += 1
            if body.get("msg_seq"):
                self._taken.add((answered, body["msg_seq"]))
        if found := _ACTS.search(text):
            self.violations.append(f"what the model wrote does something: {found[0]}")
        if media := body.get("media"):
            upload = self._uploads[media["file_info"]]
            assert (upload["place"], body["msg_type"]) == (place, 7)
            self.files.append(upload["file_name"])
        name = f"ROBOT1.0_sent.{next(self._numbers)}"
        self.shown[place].append(body | {"id": name})
        at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
        return {"id": name, "timestamp": at}

    def _remove(self, request: web.Request, body: Any) -> dict[str, Any]:
        place, name = request.match_info["place"], request.match_info["name"]
        assert [each["id"] for each in self.shown[place]].count(name) == 1
        self.shown[place] = [each for each in self.shown[place] if each["id"] != name]
        return {}

    def _pace(self, scene: str, place: str) -> None:
        if scene not in ("channels", "dms"):
            return
        now, writes = time.monotonic(), self._writes[place]
        while writes and writes[0] <= now - 1:
            writes.popleft()
        if len(writes) >= self.per_channel_and_second:
            self.floods += 1
            raise Refused(20028, status=429)
        writes.append(now)

    def _content(self, scene: str, body: dict[str, Any]) -> str:
        # QQ's own package sends what is not there as null.
        if body.get("markdown"):
            if "markdown" not in self.granted:
                raise Refused(40034127 if scene in ("users", "groups") else 50056)
            if body.get("keyboard") and "buttons" not in self.granted:
                raise Refused(304037)
            if body.get("content"):
                raise Refused(50037)
            assert scene in ("channels", "dms") or body["msg_type"] == 2
            text = body["markdown"]["content"]
        else:
            assert scene in ("channels", "dms") or body["msg_type"] == 0
            assert not body.get("keyboard")
            text = body.get("content") or ""
        if not text.strip():
            raise Refused(50006)
        if len(text) > _LONGEST:
            self.violations.append(f"a message of {len(text)} characters")
            raise Refused(40054007)
        return text

    def _reply(self, scene: str, place: str, answered: str, body: dict[str, Any]) -> None:
        window, most = _WINDOWS[scene]
        if self._answerable.get(answered) != (scene, place):
            raise Refused(40034024 if scene in ("users", "groups") else 304026)
        if time.time() + self._later_s - self._born[answered] > window:
            raise Refused(40034005 if scene in ("users", "groups") else 304027)
        if scene in ("users", "groups"):
            if (answered, body.get("msg_seq", 1)) in self._taken:
                raise Refused(40054005)
            if self._replies[answered] >= most:
                raise Refused(40034128)


def _json(said: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """QQ's own package reads no other kind of JSON than this."""
    body = json.dumps(said).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")
