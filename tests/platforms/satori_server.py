"""A Satori server for tests: real HTTP and WebSocket, state, and laws.

Checked against https://satori.js.org/en-US/protocol/: IDENTIFY within a while and with the token, READY with logins,
events with numbers that are sent again after the one that a client names, PING and PONG, calls with the login in
their headers (of protocol 1.2, and before it), contents that are elements of Satori's, edits and deletions of one's
own messages where the login's features have them, a pace (429 with Retry-After, for that channel only).
"""

from __future__ import annotations

import base64
import json
import re
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from platforms.listener import Listener
from platforms.waits import Waits

TOKEN = "satori-token"
PLATFORM, SELF = "kook", "bot-1"
ALL = ("message.create", "message.update", "message.delete", "message.get", "user.channel.create")
_LONGEST = 1800
_KNOWN = {"root", "quote", "file", "img", "at", "br", "p", "b", "i", "code", "a"}


@dataclass
class SatoriServer:
    """messages: what the bot's say now, by channel and id, as contents."""

    features: tuple[str, ...] = ALL
    seconds_per_message: float = 0.01
    burst: int = 100
    too_many: int = 0
    """So many of the next writes are refused, however slowly they come."""
    any_channel: bool = False
    """Whether the bot may write where nobody spoke."""
    old: bool = False
    """Whether events look as before protocol 1.2."""
    messages: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    files: list[tuple[str, bytes]] = field(default_factory=list)
    floods: list[str] = field(default_factory=list)
    waits: Waits = field(default_factory=Waits)
    identified: list[dict[str, Any]] = field(default_factory=list)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    pings: int = 0
    url: str = ""

    def __post_init__(self) -> None:
        self._numbers = 100
        self._sn = 0
        self._events: list[dict[str, Any]] = []
        self._sockets: set[web.WebSocketResponse] = set()
        self._writes: dict[str, deque[float]] = defaultdict(deque)
        self._held: dict[str, float] = {}
        self._listener = Listener()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/satori/v1/events", self._listen)
        app.router.add_post("/satori/v1/{method}", self._handle)
        app.on_shutdown.append(lambda _: self.drop())
        self.url = f"http://{await self._listener.open(app)}/satori"

    async def stop(self) -> None:
        await self._listener.close()

    async def drop(self) -> None:
        for socket in list(self._sockets):
            await socket.close()

    @property
    def connections(self) -> int:
        return len(self._sockets)

    # ---- what people do -----------------------------------------------------------------------------------------

    async def say(self, content: str, *, user: str = "7", channel: str = "", **more: Any) -> str:
        """As elements; `text` escapes. channel "": in private. quote: the id of what is replied to."""
        message_id = f"m{self._next()}"
        message: dict[str, Any] = {"id": message_id, "content": content}
        if quote := more.get("quote"):
            message["quote"] = self._quote(quote)
        person = {"id": user, "name": f"person {user}", "is_bot": more.get("bot", False)}
        where = {"id": channel, "type": 0} if channel else {"id": f"private-{user}", "type": 1}
        event = {"type": "message-created", "channel": where, "user": person, "message": message}
        if channel:
            event |= {"guild": {"id": "guild-1"}, "member": {"nick": f"nick {user}"}}
        self.said[message_id] = event
        await self.happen(event)
        return message_id

    async def edit(self, message_id: str, content: str) -> None:
        event = self.said[message_id]
        event = {**event, "type": "message-updated", "message": {**event["message"], "content": content}}
        await self.happen(event)

    async def delete(self, message_id: str, *, told_by_whom: bool = True) -> None:
        event = {**self.said[message_id], "type": "message-deleted"}
        if not told_by_whom:
            del event["user"]
        await self.happen(event)

    async def happen(self, event: dict[str, Any]) -> None:
        self._sn += 1
        login = {"platform": PLATFORM, "user": {"id": SELF, "name": "glm"}, "status": 1}
        whole: dict[str, Any] = {"timestamp": int(time.time() * 1000), **event}
        whole |= (
            {"id": self._sn, "platform": PLATFORM, "self_id": SELF}
            if self.old
            else {"sn": self._sn, "login": login}
        )
        self._events.append(whole)
        await self.tell(whole)

    async def tell(self, event: dict[str, Any]) -> None:
        for socket in list(self._sockets):
            await socket.send_str(json.dumps({"op": 0, "body": event}))

    def hold(self, channel: str, seconds: float) -> None:
        self._held[channel] = time.monotonic() + seconds

    def texts(self, channel: str) -> list[str]:
        """What the bot's messages say to a reader."""
        said = [_words(content) for content in self.messages[channel].values()]
        return [text for text in said if text and text != "…"]

    def _quote(self, message_id: str) -> dict[str, Any]:
        if message_id in self.said:
            event = self.said[message_id]
            return {**event["message"], "user": event["user"]}
        content = next((each[message_id] for each in self.messages.values() if message_id in each), "")
        return {"id": message_id, "content": content, "user": {"id": SELF, "name": "glm"}}

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    # ---- events -------------------------------------------------------------------------------------------------

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        first = await socket.receive(timeout=10)
        signal = json.loads(first.data)
        body = signal.get("body") or {}
        if signal.get("op") != 3 or body.get("token") != TOKEN:
            await socket.close(code=4004)
            return socket
        self.identified.append(body)
        user = {"id": SELF, "name": "glm"}
        login = {
            "sn": 1, "adapter": "test", "platform": PLATFORM, "user": user, "status": 1, "features": [*self.features]
        }  # fmt: skip
        if self.old:
            login = {
                "platform": PLATFORM,
                "self_id": SELF,
                "user": user,
                "status": 1,
                "features": [*self.features],
            }
        await socket.send_str(json.dumps({"op": 4, "body": {"logins": [login], "proxy_urls": []}}))
        last = body.get("sequence" if self.old else "sn")
        missed = [
            event for event in self._events if last is not None and event.get("sn", event.get("id")) > last
        ]
        for event in missed:
            await socket.send_str(json.dumps({"op": 0, "body": event}))
        self._sockets.add(socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT and json.loads(message.data).get("op") == 1:
                    self.pings += 1
                    await socket.send_str(json.dumps({"op": 2, "body": {}}))
        finally:
            self._sockets.discard(socket)
        return socket

    # ---- calls --------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        names = ("X-Platform", "X-Self-ID") if self.old else ("Satori-Platform", "Satori-User-ID")
        if tuple(request.headers.get(name) for name in names) != (PLATFORM, SELF):
            self.violations.append(f"{method} without a login")
            return web.Response(status=403)
        params = await request.json()
        self.calls.append((method, params))
        if method in self.refusals:
            status, words = self.refusals[method]
            return web.Response(status=status, text=words)
        if method not in self.features:
            return web.Response(status=404, text="no such method")
        channel = str(params["channel_id"])
        if (wait := self._wait(channel)) > 0:
            self.floods.append(channel)
            self.waits.tell(channel, wait, time.monotonic())
            return web.Response(status=429, headers={"Retry-After": f"{wait:.2f}"})
        try:
            return self._do(method, channel, params)
        except (KeyError, ValueError, ElementTree.ParseError) as error:
            self.violations.append(f"{method} with {params!r:.300}: {error!r}")
            return web.Response(status=400, text=repr(error))

    def _do(self, method: str, channel: str, params: dict[str, Any]) -> web.Response:
        mine = self.messages[channel]
        match method:
            case "message.create":
                known = any(event["channel"]["id"] == channel for event in self.said.values())
                if not (known or self.any_channel):
                    return web.Response(status=403, text="no such channel")
                quoted = re.match(r'<quote id="([^"]*)"/>', params["content"])
                if quoted and quoted[1] not in self.said and quoted[1] not in mine:
                    return web.Response(status=400, text="nothing to quote")
                self._check(params["content"])
                message_id = f"m{self._next()}"
                mine[message_id] = params["content"]
                return web.json_response([{"id": message_id, "content": params["content"]}])
            case "message.update":
                if params["message_id"] not in mine:
                    return web.Response(status=404)
                self._check(params["content"])
                mine[params["message_id"]] = params["content"]
                return web.json_response({})
            case "message.delete":
                return (
                    web.json_response({})
                    if mine.pop(params["message_id"], None)
                    else web.Response(status=404)
                )
            case _:
                return web.Response(status=404)

    def _check(self, content: str) -> None:
        """Whether it is what a strict reader takes, too."""
        root = ElementTree.fromstring(f"<root>{content}</root>")
        for element in root.iter():
            if element.tag not in _KNOWN:
                raise ValueError(f"an element {element.tag}")
            if element.tag == "file":
                kind, _, data = element.attrib["src"].partition(";base64,")
                if not kind.startswith("data:"):
                    raise ValueError("a file's src")
                self.files.append((element.attrib["title"], base64.b64decode(data, validate=True)))
        length = len("".join(root.itertext()))
        if length > _LONGEST or (not length and root.find("file") is None):
            raise ValueError(f"{length} characters")

    def _wait(self, channel: str) -> float:
        now = time.monotonic()
        writes = self._writes[channel]
        span = self.burst * self.seconds_per_message
        while writes and writes[0] < now - span:
            writes.popleft()
        if (held := self._held.get(channel, 0.0) - now) > 0:
            return held
        if self.too_many:
            self.too_many -= 1
            return self.seconds_per_message
        if len(writes) >= self.burst:
            return writes[0] + span - now
        writes.append(now)
        return 0.0


def _words(content: str) -> str:
    return "".join(ElementTree.fromstring(f"<root>{content}</root>").itertext())


def text(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
