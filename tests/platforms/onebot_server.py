"""An implementation of OneBot 11 for tests, with NapCat's additions: real WebSockets both ways, state, and laws.

Checked against https://github.com/botuniverse/onebot-11: forward and reverse WebSocket with the access token, one
answer for each call with its echo, retcodes 1400 to 1404, messages in both formats, heartbeats. QQ's own: at most
5000 characters and so many messages in a while (result 299, for that chat only), nobody is written to who never
wrote, a message is recalled only while it is new. A text segment that holds a CQ code stays a text.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, WSMsgType, web

from platforms.listener import Listener
from platforms.refused import Refused
from platforms.waits import Waits

TOKEN = "onebot-access-token"
SELF = 40404
_LONGEST_TEXT = 5000
_PATHS = ("/", "/api", "/event")


@dataclass
class OneBotServer:
    """messages: what the bot said, by chat ("7", "g5") and message id, as segments."""

    seconds_per_message: float = 0.01
    burst: int = 30
    app: str = "NapCat.Onebot"
    strings: bool = False
    """Whether events hold messages as text with CQ codes."""
    heartbeat_ms: int = 0
    only_arrays: bool = True
    online: bool = True
    messages: dict[str, dict[int, list[dict[str, Any]]]] = field(default_factory=lambda: defaultdict(dict))
    said: dict[int, dict[str, Any]] = field(default_factory=dict)
    forwards: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    floods: list[str] = field(default_factory=list)
    waits: Waits = field(default_factory=Waits)
    recalled: list[int] = field(default_factory=list)
    files: list[tuple[str, bytes]] = field(default_factory=list)
    typing: list[int] = field(default_factory=list)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    mute_actions: set[str] = field(default_factory=set)
    """Actions that are done and never answered."""
    closed_with: list[str] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._next = 1000
        self._sockets: set[Any] = set()
        self._writes: dict[str, deque[float]] = defaultdict(deque)
        self._held: dict[str, float] = {}
        self._listener = Listener()
        self._tasks: set[asyncio.Task[None]] = set()
        self.came = asyncio.Event()

    # ---- both ways ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Forward WebSocket: listen."""
        app = web.Application()
        for path in _PATHS:
            app.router.add_get(path, self._accept)
        app.on_shutdown.append(lambda _: self.drop())
        self.url = f"ws://{await self._listener.open(app)}"

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.close()

    def connect_to(self, url: str, token: str = TOKEN, **headers: str) -> asyncio.Task[None]:
        """Reverse WebSocket: connect, once. The task ends with the connection, and raises what refused it."""
        given = {
            "X-Self-ID": str(SELF),
            "X-Client-Role": "Universal",
            "User-Agent": "OneBot/11",
            "Authorization": f"Bearer {token}",
            **headers,
        }

        async def stay() -> None:
            async with ClientSession() as client, client.ws_connect(url, headers=given) as socket:
                await self._serve(socket)

        return self._begin(stay())

    async def drop(self) -> None:
        """All connections end."""
        for socket in list(self._sockets):
            await socket.close()

    @property
    def connections(self) -> int:
        return len(self._sockets)

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        _, _, given = request.headers.get("Authorization", "").partition(" ")
        given = given or request.query.get("access_token", "")
        if not given:
            return web.Response(status=401)
        if given != TOKEN:
            return web.Response(status=403)
        socket = web.WebSocketResponse(max_msg_size=16 << 20)
        await socket.prepare(request)
        await self._serve(socket)
        return socket

    async def _serve(self, socket: Any) -> None:
        self._sockets.add(socket)
        beating = self._begin(self._beat(socket)) if self.heartbeat_ms else None
        try:
            await self._send(
                socket, self._event("meta_event", meta_event_type="lifecycle", sub_type="connect")
            )
            self.came.set()
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    # Calls are answered in whatever order they are done.
                    self._begin(self._answer(socket, message.data))
        finally:
            self._sockets.discard(socket)
            if beating is not None:
                beating.cancel()

    async def _beat(self, socket: Any) -> None:
        while self.heartbeat_ms:
            beat = self._event(
                "meta_event",
                meta_event_type="heartbeat",
                interval=self.heartbeat_ms,
                status={"online": True, "good": True},
            )
            await self._send(socket, beat)
            await asyncio.sleep(self.heartbeat_ms / 1000)

    def _begin(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _send(self, socket: Any, fields: dict[str, Any]) -> None:
        if not socket.closed:
            await socket.send_str(json.dumps(fields, ensure_ascii=False))

    # ---- what people do -----------------------------------------------------------------------------------------

    async def say(self, text: str = "", *, user: int = 7, group: int | None = None, **more: Any) -> int:
        """at: numbers or "all", before the text. reply_to, parts (further segments), sub_type, name."""
        parts: list[dict[str, Any]] = []
        if (reply_to := more.get("reply_to")) is not None:
            parts.append({"type": "reply", "data": {"id": str(reply_to)}})
        for who in more.get("at", ()):
            parts += [{"type": "at", "data": {"qq": str(who)}}, {"type": "text", "data": {"text": " "}}]
        if text:
            parts.append({"type": "text", "data": {"text": text}})
        parts += more.get("parts", [])
        message_id = self._new_id()
        name = more.get("name", f"person {user}")
        event = self._event(
            "message",
            message_type="private" if group is None else "group",
            sub_type=more.get("sub_type", "friend" if group is None else "normal"),
            message_id=message_id,
            user_id=user,
            message=as_string(parts) if self.strings else parts,
            message_format="string" if self.strings else "array",
            raw_message=as_string(parts),
            font=14,
            sender={"user_id": user, "nickname": name, "sex": "unknown", "age": 0},
        )
        if group is not None:
            event |= {"group_id": group, "anonymous": more.get("anonymous")}
            event["sender"] |= {"card": more.get("card", ""), "role": "member"}
        self.said[message_id] = event
        await self.tell(event)
        return message_id

    async def recall(self, message_id: int) -> None:
        """Its author takes a message back."""
        event = self.said[message_id]
        if group := event.get("group_id"):
            about = {"notice_type": "group_recall", "group_id": group, "operator_id": event["user_id"]}
        else:
            about = {"notice_type": "friend_recall"}
        await self.tell(self._event("notice", user_id=event["user_id"], message_id=message_id, **about))

    async def tell(self, event: dict[str, Any]) -> None:
        for socket in list(self._sockets):
            await self._send(socket, event)

    async def happen(self, post_type: str, **fields: Any) -> None:
        await self.tell(self._event(post_type, **fields))

    def hold(self, chat: str, seconds: float) -> None:
        """QQ takes nothing for this chat."""
        self._held[chat] = time.monotonic() + seconds

    def texts(self, chat: str) -> list[str]:
        said = [
            "".join(part["data"]["text"] for part in parts if part["type"] == "text")
            for _, parts in sorted(self.messages[chat].items())
        ]
        return [text for text in said if text]

    def _event(self, post_type: str, **fields: Any) -> dict[str, Any]:
        return {"time": int(time.time()), "self_id": SELF, "post_type": post_type, **fields}

    def _new_id(self) -> int:
        self._next += 1
        return self._next

    # ---- calls --------------------------------------------------------------------------------------------------

    async def _answer(self, socket: Any, text: str) -> None:
        try:
            call = json.loads(text)
            action, params = call["action"], call.get("params") or {}
        except (ValueError, KeyError, TypeError, AttributeError):
            self.violations.append(f"no call: {text[:100]}")
            await self._send(socket, _failed(1400, "bad request", None))
            return
        echo = call.get("echo")
        self.calls.append((action, params))
        if not echo:
            self.violations.append(f"{action} without an echo")
        try:
            if action in self.refusals:
                raise Refused(*self.refusals[action])
            do = getattr(self, f"_do_{action.removesuffix('_async')}", None)
            if do is None:
                raise Refused(1404, f"there is no {action}")
            data = do(params)
        except Refused as refused:
            await self._send(socket, _failed(refused.code, refused.words, echo))
            return
        except (KeyError, TypeError, ValueError) as error:
            self.violations.append(f"{action} with {params!r:.200}: {error!r}")
            await self._send(socket, _failed(1400, str(error), echo))
            return
        if action in self.mute_actions:
            return
        answer = {"status": "ok", "retcode": 0, "data": data, "message": "", "wording": "", "echo": echo}
        await self._send(socket, answer)

    def _do_get_login_info(self, _: dict[str, Any]) -> Any:
        return {"user_id": SELF, "nickname": "glm"}

    def _do_get_version_info(self, _: dict[str, Any]) -> Any:
        return {"app_name": self.app, "app_version": "4.8.0", "protocol_version": "v11"}

    def _do_get_status(self, _: dict[str, Any]) -> Any:
        return {"online": self.online, "good": self.online}

    def _do_get_friend_list(self, _: dict[str, Any]) -> Any:
        return [{"user_id": 7, "nickname": "person 7", "remark": ""}]

    def _do_get_group_list(self, _: dict[str, Any]) -> Any:
        return [{"group_id": 5, "group_name": "a group", "member_count": 3, "max_member_count": 200}]

    def _do_get_group_info(self, params: dict[str, Any]) -> Any:
        return {
            "group_id": int(params["group_id"]), "group_name": "a group", "member_count": 3, "max_member_count": 200
        }  # fmt: skip

    def _do_get_group_member_info(self, params: dict[str, Any]) -> Any:
        return {
            "group_id": int(params["group_id"]), "user_id": int(params["user_id"]), "nickname": "person", "card": "",
            "role": "member", "sex": "unknown", "age": 0, "join_time": 0, "last_sent_time": 0, "level": "1",
        }  # fmt: skip

    def _do_get_stranger_info(self, params: dict[str, Any]) -> Any:
        return {"user_id": int(params["user_id"]), "nickname": "person", "sex": "unknown", "age": 0}

    def _do_get_msg(self, params: dict[str, Any]) -> Any:
        number = int(params["message_id"])
        if (event := self.said.get(number)) is not None:
            kept = {key: event[key] for key in ("message_type", "message_id", "sender", "message", "time")}
            return {**kept, "real_id": number}
        for chat, messages in self.messages.items():
            if number in messages:
                parts = messages[number]
                return {
                    "time": int(time.time()), "message_type": "group" if chat[0] == "g" else "private",
                    "message_id": number, "real_id": number, "sender": {"user_id": SELF, "nickname": "glm"},
                    "message": as_string(parts) if self.strings else parts,
                }  # fmt: skip
        raise Refused(1200, "消息不存在")

    def _do_get_forward_msg(self, params: dict[str, Any]) -> Any:
        number = str(params.get("id") or params.get("message_id"))
        if number not in self.forwards:
            raise Refused(1200, "转发消息不存在")
        return {"messages": self.forwards[number]}

    def _do_send_private_msg(self, params: dict[str, Any]) -> Any:
        return self._write(str(int(params["user_id"])), params)

    def _do_send_group_msg(self, params: dict[str, Any]) -> Any:
        return self._write(f"g{int(params['group_id'])}", params)

    def _do_send_msg(self, params: dict[str, Any]) -> Any:
        group = params.get("message_type") == "group" or (
            "message_type" not in params and params.get("group_id")
        )
        return self._do_send_group_msg(params) if group else self._do_send_private_msg(params)

    def _do_delete_msg(self, params: dict[str, Any]) -> Any:
        number = int(params["message_id"])
        for messages in self.messages.values():
            if messages.pop(number, None) is not None:
                self.recalled.append(number)
                return None
        raise Refused(1200, "消息不存在")

    def _do_set_input_status(self, params: dict[str, Any]) -> Any:
        self.typing.append(int(params["user_id"]))
        return {"result": 0, "errMsg": ""}

    def _write(self, chat: str, params: dict[str, Any]) -> Any:
        parts: Any = params["message"]
        if not isinstance(parts, list):
            if self.only_arrays:
                raise ValueError("a text would be read for CQ codes")
            parts = [{"type": "text", "data": {"text": str(parts)}}]
        self._check(chat, parts)
        self._enforce_pace(chat)
        number = self._new_id()
        self.messages[chat][number] = parts
        for part in parts:
            if part["type"] == "file":
                content = base64.b64decode(part["data"]["file"].removeprefix("base64://"), validate=True)
                self.files.append((part["data"]["name"], content))
        return {"message_id": number}

    def _check(self, chat: str, parts: list[dict[str, Any]]) -> None:
        known = {f"g{e['group_id']}" if "group_id" in e else str(e["user_id"]) for e in self.said.values()}
        if chat not in known:
            raise Refused(1200, f"{chat} never wrote")
        length = 0
        for index, part in enumerate(parts):
            kind, data = part["type"], part["data"]
            if kind == "reply":
                if index or (int(data["id"]) not in self.said and int(data["id"]) not in self.messages[chat]):
                    raise Refused(1200, "消息不存在")
            elif kind == "file":
                if len(parts) != 1 or not data["file"].startswith("base64://") or not data["name"]:
                    raise ValueError("a file stands alone, with its name")
            elif kind == "text":
                length += len(data["text"])
            elif kind not in ("at", "image", "face"):
                raise ValueError(f"a segment {kind}")
        if length > _LONGEST_TEXT or (not length and parts[-1]["type"] in ("text", "reply")):
            raise ValueError(f"{length} characters")

    def _enforce_pace(self, chat: str) -> None:
        now = time.monotonic()
        writes = self._writes[chat]
        while writes and writes[0] < now - self.burst * self.seconds_per_message:
            writes.popleft()
        if self._held.get(chat, 0.0) > now or len(writes) >= self.burst:
            self.floods.append(chat)
            self.waits.tell(chat, 0, now)
            raise Refused(1200, 'EventChecker Failed: sendMsg EventRet: {"result": 299, "errMsg": ""}')
        writes.append(now)


def as_string(parts: list[dict[str, Any]]) -> str:
    """https://github.com/botuniverse/onebot-11/blob/master/message/string.md"""

    def escaped(text: str) -> str:
        return text.replace("&", "&amp;").replace("[", "&#91;").replace("]", "&#93;")

    out: list[str] = []
    for part in parts:
        if part["type"] == "text":
            out.append(escaped(part["data"]["text"]))
        else:
            data = "".join(f",{k}={escaped(str(v)).replace(',', '&#44;')}" for k, v in part["data"].items())
            out.append(f"[CQ:{part['type']}{data}]")
    return "".join(out)


def codes(text: str) -> list[str]:
    """The CQ codes in a message in the format of strings."""
    return re.findall(r"\[CQ:[^\]]+\]", text)


def _failed(retcode: int, words: str, echo: object) -> dict[str, Any]:
    return {
        "status": "failed",
        "retcode": retcode,
        "data": None,
        "message": words,
        "wording": words,
        "echo": echo,
    }
