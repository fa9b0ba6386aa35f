"""Slack for tests: its Web API over HTTP, Socket Mode over a WebSocket, its requests with signatures, its laws.

Checked against https://docs.slack.dev: 40,000 characters of text in chat.postMessage and 4,000 in chat.update, 50
blocks, labels of 75 characters, refusals as `"ok": false` with 200, 429 with Retry-After for what comes too fast,
events that are sent again until they are acknowledged, mentions that come as app_mention and as message. Streams:
see the constants.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import re
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

import aiohttp
from aiohttp import WSMsgType, web

from platforms.listener import Listener
from platforms.waits import Waits

__all__ = ["APP_TOKEN", "BOT", "GROUP", "SIGNING_SECRET", "TOKEN", "SlackServer", "channel_of", "user_id"]

TOKEN, APP_TOKEN = "xoxb-1111111111-testtesttest", "xapp-1-A1-1111-testtesttest"
# The one of Slack's published example: https://docs.slack.dev/authentication/verifying-requests-from-slack
SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
BOT, BOT_ID, GROUP = "UBOT000001", "BBOT000001", "C0000005"
_TOLD_KEPT = 1000
_SCOPES = "chat:write,app_mentions:read,im:history,files:write,commands"
# https://docs.slack.dev/reference/methods/chat.appendStream: characters of markdown_text.
_LONGEST_APPEND = 12_000
# https://docs.slack.dev/reference/methods/chat.startStream#chunks: characters of a task's title.
_LONGEST_TITLE = 256
# In no reference; https://github.com/slackapi/node-slack-sdk/issues/2702, python-slack-sdk/issues/1859.
_STREAM_S = 300.0
# https://docs.slack.dev/apis/web-api/rate-limits: how much rarer or more often than about one a second.
_RARER = {"chat.startStream": 3.0, "chat.stopStream": 3.0, "chat.appendStream": 0.6}
_WRITES = frozenset({"chat.postMessage", "chat.update", "chat.delete", *_RARER})
# What a stream has no unfurl_links=false for.
_ADDRESS = re.compile(r"\bhttps?://\S")
_MENTION = re.compile(r"<[@!#][^>]*>")


def user_id(number: int) -> str:
    return f"U{number:07d}"


def channel_of(number: int) -> str:
    """The direct messages of a person."""
    return f"D{number:07d}"


class _Refused(Exception):
    def __init__(self, name: str, **more: Any) -> None:
        super().__init__(name)
        self.name, self.more = name, more


@dataclass
class SlackServer:
    """`seconds_per_message` is the law's one second in a channel, made shorter where a test is about something else."""

    seconds_per_message: float = 1.0
    burst: int = 4
    stream_s: float = _STREAM_S
    messages: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    said: dict[int, dict[str, Any]] = field(default_factory=dict)
    homes: dict[str, list[list[str]]] = field(default_factory=dict)
    ephemeral: list[tuple[str, str, str]] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    floods: list[str] = field(default_factory=list)
    waits: Waits = field(default_factory=Waits)
    # The name of the error, of a method, and how many times more.
    refusals: dict[str, list[Any]] = field(default_factory=dict)
    # A method, and how many of its answers get lost, once it was done.
    lost: dict[str, int] = field(default_factory=dict)
    # What Socket Mode does instead of listening: "refuses", "silent" or "closes".
    link_fault: str = ""
    links: int = 0
    uploads: dict[str, dict[str, Any]] = field(default_factory=dict)
    upload_status: int = 200
    scopes: str = _SCOPES
    url: str = ""
    out_of_order_until: float = 0.0

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._pending: dict[str, dict[str, Any]] = {}
        self._told: list[tuple[str, dict[str, Any]]] = []
        self._sockets: list[web.WebSocketResponse] = []
        self._writes: dict[str, deque[float]] = defaultdict(deque)
        self._held_until: dict[str, float] = {}
        self._listener = Listener()
        # Where events are posted, in place of sockets.
        self.posts_to = ""
        self.posted: list[int] = []

    async def start(self) -> None:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/api/{method}", self._call)
        app.router.add_post("/upload/{file}", self._upload)
        app.router.add_get("/link", self._link)
        self.url = f"http://{await self._listener.open(app)}"

    async def stop(self) -> None:
        for socket in list(self._sockets):
            await socket.close()
        await self._listener.close()

    # ---- what people do ----------------------------------------------------------------------------------

    async def say(
        self,
        text: str,
        *,
        user: int = 7,
        channel: str = "",
        thread: str = "",
        mention: bool = False,
        **more: Any,
    ) -> int:
        """A person writes; without a channel to the bot alone. Returns a number of the message."""
        ts = self._ts()
        words = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        message: dict[str, Any] = {
            "type": "message", "user": user_id(user), "ts": ts, "client_msg_id": f"c{ts}", "team": "T1",
            "text": f"<@{BOT}> {words}" if mention else words, **more,
        }  # fmt: skip
        if thread:
            message |= {"thread_ts": thread, "parent_user_id": self._author(channel, thread)}
        number = next(self._numbers)
        where = channel or channel_of(user)
        self.said[number] = {**message, "channel": where}
        kind = "im" if where.startswith("D") else "channel"
        event = {**message, "channel": where, "channel_type": kind, "event_ts": ts}
        await self.tell(event)
        if mention and kind == "channel":
            await self.tell(
                {**{k: v for k, v in event.items() if k != "channel_type"}, "type": "app_mention"}
            )
        return number

    async def open_home(self, user: int = 7) -> None:
        await self.tell({"type": "app_home_opened", "user": user_id(user), "channel": channel_of(user), "tab": "home",
                         "event_ts": self._ts()})  # fmt: skip

    async def edit(self, number: int, text: str) -> None:
        before = self.said[number]
        channel = before["channel"]
        message = {**before, "text": text, "edited": {"user": before["user"], "ts": self._ts()}}
        self.said[number] = message
        inner = {key: value for key, value in message.items() if key != "channel"}
        await self.tell(
            {"type": "message", "subtype": "message_changed", "channel": channel, "ts": self._ts(),
             "hidden": True, "message": inner, "previous_message": before,
             "channel_type": "im" if channel.startswith("D") else "channel"}
        )  # fmt: skip

    async def delete(self, number: int) -> None:
        before = self.said.pop(number)
        channel = before["channel"]
        await self.tell(
            {"type": "message", "subtype": "message_deleted", "channel": channel, "ts": self._ts(), "hidden": True,
             "deleted_ts": before["ts"], "previous_message": before,
             "channel_type": "im" if channel.startswith("D") else "channel"}
        )  # fmt: skip

    async def press(self, channel: str, ts: str, command: str, *, user: int = 7) -> None:
        message = self.messages[channel][ts]
        (button,) = [
            each
            for block in message["blocks"]
            if block["type"] == "actions"
            for each in block["elements"]
            if each["action_id"] == f"glmbot_{command}"
        ]
        now = self._ts()
        await self._send(
            "interactive",
            {"type": "block_actions", "user": {"id": user_id(user), "name": f"user{user}"}, "trigger_id": f"{now}.1",
             "container": {"type": "message", "message_ts": ts, "channel_id": channel},
             "channel": {"id": channel}, "response_url": f"{self.url}/response",
             "actions": [{"type": "button", "action_id": button["action_id"], "value": button["value"],
                          "action_ts": now}]},
        )  # fmt: skip

    async def command(self, text: str, *, user: int = 7, channel: str = GROUP) -> None:
        await self._send(
            "slash_commands",
            {"command": "/glm", "text": text, "user_id": user_id(user), "user_name": f"user{user}",
             "channel_id": channel, "team_id": "T1", "trigger_id": f"{self._ts()}.2",
             "response_url": f"{self.url}/response"},
        )  # fmt: skip

    async def tell(self, event: dict[str, Any], *, event_id: str = "") -> None:
        payload = {
            "type": "event_callback", "team_id": "T1", "api_app_id": "A1", "event": event,
            "event_id": event_id or f"Ev{next(self._numbers):08d}", "event_time": int(time.time()),
        }  # fmt: skip
        await self._send("events_api", payload)

    def hold(self, channel: str, seconds: float) -> None:
        """Every write to this channel is answered 429 for so long."""
        self._held_until[channel] = time.monotonic() + seconds

    def texts(self, channel: str) -> list[str]:
        """What the bot's messages in a channel show now, in order; what says nothing yet is left out."""
        shown = [_shown(message) for _, message in sorted(self.messages[channel].items())]
        return [text for text in shown if text not in ("", "…")]

    def buttons(self, channel: str, ts: str) -> list[str]:
        blocks = self.messages[channel][ts]["blocks"]
        return [
            each["action_id"].removeprefix("glmbot_")
            for block in blocks
            if block["type"] == "actions"
            for each in block["elements"]
        ]

    @property
    def files(self) -> list[str]:
        """Names of the files that stand in messages."""
        ids = [each for of in self.messages.values() for message in of.values() for each in message["files"]]
        return [self.uploads[each]["name"] for each in ids]

    @property
    def unacknowledged(self) -> int:
        return len(self._pending)

    async def disconnect(self) -> None:
        """Connections are renewed, as Slack does every few hours."""
        for socket in list(self._sockets):
            await socket.close()

    # ---- events ------------------------------------------------------------------------------------------

    async def tell_again(self) -> None:
        """Whatever was told, as after a lost acknowledgement."""
        for told in list(self._told):
            await self._send(*told)

    async def _send(self, kind: str, payload: dict[str, Any]) -> None:
        self._told = [*self._told, (kind, payload)][-_TOLD_KEPT:]
        if self.posts_to:
            self.posted.append(await self.post(kind, payload))
            return
        name = f"e{next(self._numbers)}"
        envelope = {"envelope_id": name, "type": kind, "payload": payload,
                    "accepts_response_payload": True}  # fmt: skip
        self._pending[name] = envelope
        if self._sockets:
            with contextlib.suppress(ConnectionError):
                await self._sockets[-1].send_json(envelope)

    async def post(
        self, kind: str, payload: dict[str, Any], *, at: float | None = None, secret: str = SIGNING_SECRET
    ) -> int:
        from glmbot_slack.callback import signature_of

        if kind == "slash_commands":
            body, media = urlencode(payload).encode(), "application/x-www-form-urlencoded"
        elif kind == "interactive":
            body, media = (
                urlencode({"payload": json.dumps(payload)}).encode(),
                "application/x-www-form-urlencoded",
            )
        else:
            body, media = json.dumps(payload).encode(), "application/json"
        stamp = str(int(time.time() if at is None else at))
        headers = {
            "Content-Type": media, "X-Slack-Request-Timestamp": stamp,
            "X-Slack-Signature": signature_of(secret, stamp, body),
        }  # fmt: skip
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.posts_to, data=body, headers=headers) as answer,
        ):
            self.said_back = await answer.text()
            return answer.status

    async def _link(self, request: web.Request) -> web.WebSocketResponse:
        self.links += 1
        socket = web.WebSocketResponse()
        match self.link_fault:
            case "refuses":
                raise web.HTTPServiceUnavailable
            case "silent":
                await asyncio.Event().wait()
            case "closes":
                await socket.prepare(request)
                await socket.close()
                return socket
            case _:
                await socket.prepare(request)
        await socket.send_json({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}})
        self._sockets.append(socket)
        for envelope in list(self._pending.values()):
            await socket.send_json(envelope)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    # Of what was told as raw text it may be anything.
                    with contextlib.suppress(KeyError, TypeError):
                        del self._pending[json.loads(message.data)["envelope_id"]]
        finally:
            self._sockets.remove(socket)
        return socket

    # ---- the Web API -------------------------------------------------------------------------------------

    async def _call(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        if time.monotonic() < self.out_of_order_until:
            return web.Response(status=502, text="<html>bad gateway</html>", content_type="text/html")
        content = await request.read()
        if request.content_type == "application/json":
            fields = json.loads(content or b"{}")
        else:
            fields = dict(parse_qsl(content.decode())) | dict(request.query)
        self.calls.append((method, fields))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        headers = {"x-oauth-scopes": self.scopes}
        try:
            if token != (APP_TOKEN if method == "apps.connections.open" else TOKEN):
                raise _Refused("invalid_auth")
            if (wait := self._too_fast(method, fields)) > 0:
                self.floods.append(method)
                self.waits.tell(f"{method} {fields.get('channel')}", math.ceil(wait), time.monotonic())
                return web.json_response(
                    {"ok": False, "error": "ratelimited"},
                    status=429,
                    headers={"Retry-After": str(math.ceil(wait))},
                )
            if (refusal := self.refusals.get(method)) and refusal[1] > 0:
                refusal[1] -= 1
                raise _Refused(refusal[0])
            handler = getattr(self, "_" + re.sub(r"\W", "_", method), None)
            if handler is None:
                raise _Refused("unknown_method")
            done = handler(fields)
            if self.lost.get(method, 0) > 0:
                self.lost[method] -= 1
                return web.Response(status=502, text="<html>bad gateway</html>", content_type="text/html")
            return web.json_response({"ok": True, **done}, headers=headers)
        except _Refused as refused:
            soon = {"Retry-After": "1"} if refused.name == "ratelimited" else {}
            return web.json_response(
                {"ok": False, "error": refused.name, **refused.more},
                status=429 if soon else 200,
                headers=headers | soon,
            )

    def _too_fast(self, method: str, fields: dict[str, Any]) -> float:
        """Seconds to wait. Writes to a channel, and those of each method together."""
        if method not in _WRITES:
            return 0.0
        now = time.monotonic()
        if (held := self._held_until.get(fields.get("channel", ""), 0.0) - now) > 0:
            return held
        if method == "chat.delete":
            return 0.0
        key = f"{method} {fields['channel']}" if method == "chat.postMessage" else method
        writes, window = self._writes[key], self.seconds_per_message * self.burst * _RARER.get(method, 1.0)
        while writes and writes[0] <= now - window:
            writes.popleft()
        if len(writes) >= self.burst:
            return writes[0] + window - now
        writes.append(now)
        return 0.0

    def _auth_test(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"url": "https://t.slack.com/", "team": "Team", "user": "glmbot", "team_id": "T1", "user_id": BOT,
                "bot_id": BOT_ID}  # fmt: skip

    def _apps_connections_open(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"url": f"{self.url.replace('http', 'ws', 1)}/link"}

    def _chat_postMessage(self, fields: dict[str, Any]) -> dict[str, Any]:
        channel = fields["channel"]
        self._check(fields, longest=40_000)
        ts = self._ts()
        self.messages[channel][ts] = {
            "text": fields.get("text", ""), "blocks": _blocks(fields), "thread_ts": fields.get("thread_ts"), "files": [],
        }  # fmt: skip
        return {"channel": channel, "ts": ts, "message": {"text": fields.get("text", "")}}

    def _chat_update(self, fields: dict[str, Any]) -> dict[str, Any]:
        message = self._message(fields)
        if self.is_open(message):
            raise _Refused("streaming_state_conflict")
        self._check(fields, longest=4000)
        if "@" in str(fields.get("text")) and fields.get("parse") != "none":
            # https://docs.slack.dev/reference/methods/chat.update: "Defaults to client, unlike chat.postMessage".
            self.violations.append("names in its words may call somebody")
        message |= {"text": fields.get("text", ""), "blocks": _blocks(fields)}
        for each in filter(None, str(fields.get("file_ids") or "").split(",")):
            if not self.uploads.get(each, {}).get("complete"):
                raise _Refused("file_not_found")
            message["files"] = [each]
        return {"channel": fields["channel"], "ts": fields["ts"], "text": message["text"]}

    def _chat_delete(self, fields: dict[str, Any]) -> dict[str, Any]:
        if self.is_open(self._message(fields)):
            raise _Refused("cant_delete_message")
        del self.messages[fields["channel"]][fields["ts"]]
        return {"channel": fields["channel"], "ts": fields["ts"]}

    def _chat_startStream(self, fields: dict[str, Any]) -> dict[str, Any]:
        """https://docs.slack.dev/reference/methods/chat.startStream"""
        channel, thread = fields["channel"], fields.get("thread_ts")
        if not thread:
            raise _Refused("invalid_arguments")
        if not channel.startswith("D"):
            for needed in ("recipient_user_id", "recipient_team_id"):
                if not fields.get(needed):
                    raise _Refused(f"missing_{needed}")
        message: dict[str, Any] = {
            "text": "", "blocks": [], "thread_ts": thread, "files": [], "tasks": {},
            "open_until": time.monotonic() + self.stream_s,
        }  # fmt: skip
        self._grow(message, fields)
        ts = self._ts()
        self.messages[channel][ts] = message
        return {"channel": channel, "ts": ts}

    def _chat_appendStream(self, fields: dict[str, Any]) -> dict[str, Any]:
        message = self._message(fields)
        if not self.is_open(message):
            raise _Refused("message_not_in_streaming_state")
        self._grow(message, fields)
        return {"channel": fields["channel"], "ts": fields["ts"]}

    def _chat_stopStream(self, fields: dict[str, Any]) -> dict[str, Any]:
        message = self._message(fields)
        if not self.is_open(message):
            raise _Refused("message_not_in_streaming_state")
        if fields.get("chunks") or fields.get("markdown_text"):
            self._grow(message, fields)
        message["blocks"] += _blocks(fields)
        message["open_until"] = 0.0
        return {"channel": fields["channel"], "ts": fields["ts"]}

    def is_open(self, message: dict[str, Any]) -> bool:
        return time.monotonic() < message.get("open_until", 0.0)

    def _grow(self, message: dict[str, Any], fields: dict[str, Any]) -> None:
        chunks = [*(fields.get("chunks") or [])]
        if words := fields.get("markdown_text"):
            chunks.append({"type": "markdown_text", "text": words})
        if not chunks:
            raise _Refused("no_text")
        for chunk in chunks:
            match chunk["type"]:
                case "markdown_text":
                    if len(chunk["text"]) > _LONGEST_APPEND:
                        raise _Refused("msg_too_long")
                    message["text"] += chunk["text"]
                case "task_update":
                    if not 0 < len(chunk["title"]) <= _LONGEST_TITLE:
                        raise _Refused("invalid_chunks")
                    message["tasks"][chunk["id"]] = chunk
                case "blocks":
                    if not all(_is_block(block) for block in chunk["blocks"]):
                        raise _Refused("invalid_blocks")
                    message["blocks"] += chunk["blocks"]
                case _:
                    raise _Refused("invalid_chunks")
        words = "".join([message["text"], *(task["title"] for task in message["tasks"].values())])
        if found := _MENTION.search(words):
            self.violations.append(f"it calls somebody: {found[0]}")
        if found := _ADDRESS.search(words):
            self.violations.append(f"Slack may unfold it: {found[0]}")

    def _chat_postEphemeral(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.ephemeral.append((fields["channel"], fields["user"], fields["text"]))
        return {"message_ts": self._ts()}

    def _views_publish(self, fields: dict[str, Any]) -> dict[str, Any]:
        """https://docs.slack.dev/reference/methods/views.publish"""
        view = fields["view"]
        view = json.loads(view) if isinstance(view, str) else view
        texts = [(block["type"], block["text"]) for block in view["blocks"]]
        longest = {"header": 150, "section": 3000}
        if len(texts) > 100 or any(not 0 < len(text["text"]) <= longest[kind] for kind, text in texts):
            raise _Refused("invalid_arguments")
        self.homes.setdefault(fields["user_id"], []).append([text["text"] for _, text in texts])
        return {"view": view}

    def _files_getUploadURLExternal(self, fields: dict[str, Any]) -> dict[str, Any]:
        name = f"F{next(self._numbers):07d}"
        self.uploads[name] = {"name": fields["filename"], "length": int(fields["length"]), "content": b""}
        return {"upload_url": f"{self.url}/upload/{name}", "file_id": name}

    def _files_completeUploadExternal(self, fields: dict[str, Any]) -> dict[str, Any]:
        files = fields["files"]
        for each in json.loads(files) if isinstance(files, str) else files:
            upload = self.uploads[each["id"]]
            if len(upload["content"]) != upload["length"]:
                raise _Refused("file_upload_size_restricted")
            upload["complete"] = True
        return {"files": files}

    async def _upload(self, request: web.Request) -> web.Response:
        if self.upload_status != 200:
            return web.Response(status=self.upload_status)
        self.uploads[request.match_info["file"]]["content"] = await request.read()
        return web.Response(text="OK")

    def _message(self, fields: dict[str, Any]) -> dict[str, Any]:
        message = self.messages[fields["channel"]].get(fields["ts"])
        if message is None:
            raise _Refused("message_not_found")
        return message

    def _check(self, fields: dict[str, Any], longest: int) -> None:
        text, blocks = fields.get("text") or "", _blocks(fields)
        if not text and not blocks:
            raise _Refused("no_text")
        if len(text) > longest:
            raise _Refused("msg_too_long")
        if found := _MENTION.search(text):
            self.violations.append(f"it calls somebody: {found[0]}")
        if len(blocks) > 50 or not all(_is_block(block) for block in blocks):
            raise _Refused("invalid_blocks")

    def _author(self, channel: str, ts: str) -> str:
        if ts in self.messages[channel]:
            return BOT
        return next((each["user"] for each in self.said.values() if each["ts"] == ts), "")

    def _ts(self) -> str:
        return f"{int(time.time())}.{next(self._numbers):06d}"


def _blocks(fields: dict[str, Any]) -> list[dict[str, Any]]:
    blocks = fields.get("blocks") or []
    return json.loads(blocks) if isinstance(blocks, str) else blocks


def _is_block(block: dict[str, Any]) -> bool:
    """https://docs.slack.dev/reference/block-kit/blocks"""
    match block["type"]:
        case "rich_text":
            return bool(block["elements"]) and all(_is_rich(each) for each in block["elements"])
        case "context":
            return all(
                each["type"] == "plain_text" and 0 < len(each["text"]) <= 3000 for each in block["elements"]
            )
        case "actions":
            ids = [each["action_id"] for each in block["elements"]]
            return 0 < len(ids) == len(set(ids)) <= 25 and all(
                0 < len(each["text"]["text"]) <= 75 and len(each["value"]) <= 2000
                for each in block["elements"]
            )
        case _:
            return False


def _is_rich(element: dict[str, Any]) -> bool:
    kinds = ("rich_text_section", "rich_text_quote", "rich_text_preformatted")
    if element["type"] not in kinds or not element["elements"]:
        return False
    allowed = {"bold", "italic", "strike", "code"}
    return all(
        each["type"] in ("text", "link")
        and bool(each["text"])
        and set(each.get("style", {})) <= allowed
        and (each["type"] == "text" or each["url"].startswith(("http://", "https://", "mailto:")))
        for each in element["elements"]
    )


def _shown(message: dict[str, Any]) -> str:
    lines: list[str] = []
    for block in message["blocks"]:
        elements: Sequence[dict[str, Any]] = block["elements"]
        if block["type"] == "rich_text":
            lines += ["".join(run["text"] for run in each["elements"]) for each in elements]
        elif block["type"] == "context":
            lines += [each["text"] for each in elements]
    if lines:
        return "\n".join(lines)
    text = str(message["text"]).removeprefix("\u200b").replace("\u2060", "")
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
