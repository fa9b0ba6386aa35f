"""A Matrix homeserver for tests: the client-server API over HTTP, with its laws.

Checked against https://spec.matrix.org/v1.15/client-server-api/: events of at most 65,536 bytes, requests that are
taken once by their transaction id, edits by the author of what is edited, one reaction of a kind by a person, HTML of
the listed elements and attributes, syncs that tell again what follows a token, 429 with retry_after_ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from platforms.listener import Listener
from platforms.matrix_html import faults_of

__all__ = ["BOT", "DEVICE", "GROUP", "TOKEN", "MatrixServer", "room_of", "user_id"]

TOKEN, BOT, DEVICE, GROUP = "syt_test_token", "@glmbot:test", "TESTDEVICE", "!group:test"
_LARGEST_EVENT = 65_536
# What federation adds to what a client sends: hashes, signatures, the events before.
_ADDED = 2000


def user_id(number: int) -> str:
    return f"@user{number}:test"


def room_of(number: int) -> str:
    """The room of a person and the bot alone."""
    return f"!with{number}:test"


class _Refused(Exception):
    def __init__(self, status: int, code: str, **more: Any) -> None:
        super().__init__(code)
        self.status, self.code, self.more = status, code, more


@dataclass
class Room:
    members: dict[str, str] = field(default_factory=dict)
    state: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    """In order, each with its `at` in the order of all rooms."""


@dataclass
class MatrixServer:
    """`seconds_per_message` and `burst`: what a homeserver's operator sets; Synapse's own are 5 s and 10."""

    seconds_per_message: float = 5.0
    burst: int = 10
    says_how_many: bool = True
    rooms: dict[str, Room] = field(default_factory=lambda: defaultdict(Room))
    violations: list[str] = field(default_factory=list)
    floods: list[str] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    # The status and code of requests whose path holds this, and how many times more.
    refusals: dict[str, list[Any]] = field(default_factory=dict)
    uploads: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    typing: list[str] = field(default_factory=list)
    keys: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    out_of_order_until: float = 0.0
    # How long it takes to tell of a single event.
    look_s: float = 0.0
    clock_off: float = 0.0

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._new = asyncio.Condition()
        self._first: dict[str, dict[str, Any]] = {}
        self._transactions: dict[str, str] = {}
        self._writes: dict[str, deque[float]] = defaultdict(deque)
        self._held_until: dict[str, float] = {}
        self._listener = Listener()

    async def start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/_matrix/{path:.*}", self._call)
        self.url = f"http://{await self._listener.open(app)}"

    async def stop(self) -> None:
        await self._listener.close()

    # ---- what people do ----------------------------------------------------------------------------------

    async def say(
        self,
        text: str,
        *,
        user: int = 7,
        room: str = "",
        thread: str = "",
        mention: bool = False,
        **more: Any,
    ) -> str:
        """A person writes; without a room to the bot alone. Returns the event's id."""
        where = room or room_of(user)
        self.enter(where, user)
        body = f"glmbot: {text}" if mention else text
        content: dict[str, Any] = {"msgtype": "m.text", "body": body, "m.mentions": {}, **more}
        if mention:
            content["m.mentions"] = {"user_ids": [BOT]}
        if thread:
            content["m.relates_to"] = {"rel_type": "m.thread", "event_id": thread, "is_falling_back": True,
                                       "m.in_reply_to": {"event_id": thread}}  # fmt: skip
        return await self.tell(where, "m.room.message", content, user_id(user))

    async def edit(self, event: str, text: str, *, user: int | None = None, **more: Any) -> str:
        """By its author, or by whoever says that it is theirs to change."""
        room, before = self.find(event)
        new = {
            "msgtype": "m.text",
            "body": text,
            "m.mentions": before["content"].get("m.mentions", {}),
            **more,
        }
        content = {**new, "body": f"* {text}", "m.new_content": new,
                   "m.relates_to": {"rel_type": "m.replace", "event_id": event}}  # fmt: skip
        return await self.tell(
            room, "m.room.message", content, before["sender"] if user is None else user_id(user)
        )

    async def delete(self, event: str) -> None:
        room, before = self.find(event)
        await self.tell(room, "m.room.redaction", {"redacts": event}, before["sender"], redacts=event)

    async def press(self, event: str, key: str, *, user: int = 7) -> None:
        room, _ = self.find(event)
        relation = {"rel_type": "m.annotation", "event_id": event, "key": key}
        await self.tell(room, "m.reaction", {"m.relates_to": relation}, user_id(user))

    async def invite(self, room: str, *, user: int = 7, direct: bool = False) -> None:
        """The person makes a room and has the bot come."""
        self._make(room, user_id(user))
        self.rooms[room].members[BOT] = "invite"
        content = {"membership": "invite", "is_direct": direct}
        await self.tell(room, "m.room.member", content, user_id(user), state_key=BOT)

    async def upgrade(
        self, old: str, new: str, *, user: int = 7, lies: bool = False, open: bool = True
    ) -> None:
        """lies: the new room knows nothing of it."""
        self._make(new, user_id(user), {} if lies else {"predecessor": {"room_id": old}}, public=open)
        await self.tell(
            old, "m.room.tombstone", {"replacement_room": new, "body": ""}, user_id(user), state_key=""
        )

    def enter(self, room: str, user: int, *, bot: bool = True) -> None:
        """They are in it, and so is the bot."""
        if room not in self.rooms:
            self._make(room, user_id(user))
            if bot:
                self._join(room, BOT)
        if user_id(user) not in self.rooms[room].members:
            self._join(room, user_id(user))

    async def tell(self, room: str, kind: str, content: dict[str, Any], sender: str, **more: Any) -> str:
        event = self._add(room, kind, content, sender, **more)
        async with self._new:
            self._new.notify_all()
        return event["event_id"]

    def find(self, event: str) -> tuple[str, dict[str, Any]]:
        for name, room in self.rooms.items():
            for each in room.events:
                if each["event_id"] == event:
                    return name, each
        raise _Refused(404, "M_NOT_FOUND")

    def hold(self, room: str, seconds: float) -> None:
        """Every write to this room is answered 429 for so long."""
        self._held_until[room] = time.monotonic() + seconds

    # ---- what people see ---------------------------------------------------------------------------------

    def shown(self, room: str) -> list[tuple[str, dict[str, Any]]]:
        """The bot's messages as they are now, in order; what says nothing yet is left out."""
        now: dict[str, dict[str, Any]] = {}
        for event in self.rooms[room].events:
            relation = event["content"].get("m.relates_to", {})
            if event["sender"] != BOT or event["type"] != "m.room.message" or event.get("gone"):
                continue
            if relation.get("rel_type") == "m.replace":
                if relation["event_id"] in now:
                    now[relation["event_id"]] = event["content"]["m.new_content"]
            else:
                now[event["event_id"]] = event["content"]
        return [(name, content) for name, content in now.items() if content.get("body") != "…"]

    def texts(self, room: str) -> list[str]:
        return [content["body"] for _, content in self.shown(room)]

    def reactions(self, event: str) -> dict[str, str]:
        """Those of the bot, by key."""
        room, _ = self.find(event)
        return {
            each["content"]["m.relates_to"]["key"]: each["event_id"]
            for each in self.rooms[room].events
            if each["type"] == "m.reaction" and each["sender"] == BOT and not each.get("gone")
            and each["content"]["m.relates_to"]["event_id"] == event
        }  # fmt: skip

    # ---- rooms -------------------------------------------------------------------------------------------

    def _make(
        self, room: str, by: str, create: dict[str, Any] | None = None, *, public: bool = False
    ) -> None:
        self._add(room, "m.room.create", {"room_version": "11", **(create or {})}, by, state_key="")
        self._join(room, by)
        self._add(
            room, "m.room.join_rules", {"join_rule": "public" if public else "invite"}, by, state_key=""
        )

    def _join(self, room: str, user: str) -> None:
        self.rooms[room].members[user] = "join"
        self._add(room, "m.room.member", {"membership": "join"}, user, state_key=user)

    def _add(self, room: str, kind: str, content: dict[str, Any], sender: str, **more: Any) -> dict[str, Any]:
        number = next(self._numbers)
        event = {"type": kind, "sender": sender, "content": content, "event_id": f"$e{number}", "at": number,
                 "origin_server_ts": int(time.time() * 1000), **more}  # fmt: skip
        if "state_key" in more:
            self.rooms[room].state[kind, more["state_key"]] = event
        if kind == "m.room.redaction":
            gone = content.get("redacts") or more.get("redacts")
            for each in self.rooms[room].events:
                if each["event_id"] == gone:
                    each["gone"] = True
        self.rooms[room].events.append(event)
        return event

    # ---- the API -----------------------------------------------------------------------------------------

    async def _call(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        if time.monotonic() < self.out_of_order_until:
            return web.Response(status=502, text="<html>bad gateway</html>", content_type="text/html")
        self.calls.append((request.method, path))
        headers = {
            "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + self.clock_off))
        }
        try:
            if path != "client/versions" and request.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise _Refused(401, "M_UNKNOWN_TOKEN")
            for part, refusal in self.refusals.items():
                if part in path and refusal[2] > 0:
                    refusal[2] -= 1
                    raise _Refused(refusal[0], refusal[1], **(refusal[3] if len(refusal) > 3 else {}))
            return web.json_response(await self._answer(request, path.split("/")), headers=headers)
        except _Refused as refused:
            content = {"errcode": refused.code, "error": "refused", **refused.more}
            return web.json_response(content, status=refused.status, headers=headers)

    async def _answer(self, request: web.Request, path: list[str]) -> Any:
        match path:
            case ["client", "versions"]:
                return {"versions": ["v1.11", "v1.15"]}
            case ["client", "v3", "account", "whoami"]:
                return {"user_id": BOT, "device_id": DEVICE, "is_guest": False}
            case ["client", "v3", "profile", _, "displayname"]:
                return {"displayname": "glmbot"}
            case ["client", "v3", "sync"]:
                return await self._sync(request)
            case ["client", "v3", "keys", "query"]:
                return {"device_keys": self.keys, "failures": {}}
            case ["client", "v3", "keys", "upload"]:
                return {"one_time_key_counts": {"signed_curve25519": 50}}
            case ["client", "v3", "join", room]:
                return self._come(room)
            case ["media", "v3", "upload"]:
                name = f"mxc://test/{next(self._numbers)}"
                self.uploads[name] = (request.query.get("filename", ""), await request.read())
                return {"content_uri": name}
            case ["client", _, "rooms", room, *rest]:
                content = json.loads(await request.read() or b"{}")
                if rest[0] == "event":
                    await asyncio.sleep(self.look_s)
                return self._in_room(request.method, room, rest, content)
            case _:
                raise _Refused(404, "M_UNRECOGNIZED")

    def _in_room(self, method: str, room: str, path: list[str], content: dict[str, Any]) -> Any:
        if self.rooms[room].members.get(BOT) not in ("join", "invite"):
            raise _Refused(403, "M_FORBIDDEN")
        match method, path:
            case "PUT", ["send", kind, transaction]:
                return {"event_id": self._once(room, transaction, lambda: self._send(room, kind, content))}
            case "PUT", ["redact", event, transaction]:
                return {"event_id": self._once(room, transaction, lambda: self._redact(room, event))}
            case "PUT", ["typing", _]:
                self.typing.append(room)
                return {}
            case "POST", ["leave"]:
                self.rooms[room].members[BOT] = "leave"
                return {}
            case "GET", ["event", event]:
                return self._with_edits(*self.find(event))
            case "GET", ["state", kind]:
                if (kind, "") not in self.rooms[room].state:
                    raise _Refused(404, "M_NOT_FOUND")
                return self.rooms[room].state[kind, ""]["content"]
            case "GET", ["relations", event, "m.annotation"]:
                chunk = [
                    each
                    for each in self.rooms[room].events
                    if each["content"].get("m.relates_to", {}).get("event_id") == event
                    and each["type"] == "m.reaction" and not each.get("gone")
                ]  # fmt: skip
                return {"chunk": chunk}
            case _:
                raise _Refused(404, "M_UNRECOGNIZED")

    def _come(self, room: str) -> Any:
        state = self.rooms[room].state if room in self.rooms else {}
        if not state:
            raise _Refused(404, "M_NOT_FOUND")
        public = state["m.room.join_rules", ""]["content"]["join_rule"] == "public"
        if not public and self.rooms[room].members.get(BOT) not in ("invite", "join"):
            raise _Refused(403, "M_FORBIDDEN")
        self._join(room, BOT)
        return {"room_id": room}

    def _once(self, room: str, transaction: str, write: Any) -> str:
        if transaction not in self._transactions:
            self._slow_down(room)
            self._transactions[transaction] = write()
        return self._transactions[transaction]

    def _slow_down(self, room: str) -> None:
        now = time.monotonic()
        wait = self._held_until.get(room, 0.0) - now
        writes, window = self._writes[BOT], self.seconds_per_message * self.burst
        while writes and writes[0] <= now - window:
            writes.popleft()
        if len(writes) >= self.burst:
            wait = max(wait, writes[0] + window - now)
        if wait > 0:
            self.floods.append(room)
            raise _Refused(429, "M_LIMIT_EXCEEDED", retry_after_ms=int(wait * 1000) + 1)
        writes.append(now)

    def _send(self, room: str, kind: str, content: dict[str, Any]) -> str:
        if len(json.dumps(content, ensure_ascii=False).encode()) > _LARGEST_EVENT - _ADDED:
            raise _Refused(413, "M_TOO_LARGE")
        relation = content.get("m.relates_to", {})
        if kind == "m.reaction" and relation["key"] in self.reactions(relation["event_id"]):
            raise _Refused(400, "M_DUPLICATE_ANNOTATION")
        if kind == "m.room.message":
            self.violations += faults_of(content)
            if relation.get("rel_type") == "m.replace":
                self._check_edit(room, relation["event_id"], content)
        event = self._add(room, kind, content, BOT)
        return event["event_id"]

    def _check_edit(self, room: str, of: str, content: dict[str, Any]) -> None:
        where, before = self.find(of)
        if where != room or before["sender"] != BOT or "m.new_content" not in content:
            self.violations.append("an edit of what can't be edited")
        elif before["content"].get("m.relates_to", {}).get("rel_type") == "m.replace":
            self.violations.append("an edit of an edit")
        else:
            self.violations += faults_of(content["m.new_content"])

    def _redact(self, room: str, event: str) -> str:
        where, before = self.find(event)
        if where != room:
            raise _Refused(404, "M_NOT_FOUND")
        if before["sender"] != BOT:
            raise _Refused(403, "M_FORBIDDEN")
        return self._add(room, "m.room.redaction", {"redacts": event}, BOT)["event_id"]

    def _with_edits(self, room: str, event: dict[str, Any]) -> dict[str, Any]:
        edits = [
            each
            for each in self.rooms[room].events
            if each["content"].get("m.relates_to", {}).get("rel_type") == "m.replace"
            and each["content"]["m.relates_to"]["event_id"] == event["event_id"]
        ]
        return {**event, "unsigned": {"m.relations": {"m.replace": edits[-1]}}} if edits else event

    # ---- sync --------------------------------------------------------------------------------------------

    async def _sync(self, request: web.Request) -> dict[str, Any]:
        since = request.query.get("since", "")
        # Synapse keeps what it answered to the same first request.
        if not since and (kept := self._first.get(request.query_string)) is not None:
            return kept
        if since and not since.startswith("s"):
            raise _Refused(400, "M_INVALID_PARAM")
        seen = int(since[1:]) if since else 0
        asked = json.loads(request.query["filter"])["room"]["timeline"]
        if since:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(int(request.query.get("timeout", 0)) / 1000), self._new:
                    await self._new.wait_for(lambda: self._last() > seen)
        joined = {
            name: told
            for name, room in self.rooms.items()
            if room.members.get(BOT) == "join" and (told := self._told(room, seen, asked))
        }
        invited = {
            name: {"invite_state": {"events": [_stripped(each) for each in room.state.values()]}}
            for name, room in self.rooms.items()
            if room.members.get(BOT) == "invite" and (not since or room.events[-1]["at"] > seen)
        }
        rooms = {"join": joined, "invite": invited, "leave": {}}
        told = {"next_batch": f"s{self._last()}", "rooms": rooms, "to_device": {"events": []}}
        if not since:
            self._first[request.query_string] = told
        return told

    def _last(self) -> int:
        return max((room.events[-1]["at"] for room in self.rooms.values() if room.events), default=0)

    def _told(self, room: Room, seen: int, asked: dict[str, Any]) -> dict[str, Any]:
        new = [each for each in room.events if each["at"] > seen]
        came = room.state.get(("m.room.member", BOT), {}).get("at", 0) > seen
        if came:
            new = list(room.events)
        if not new:
            return {}
        new, limit = [each for each in new if each["type"] in asked["types"]], asked["limit"]
        members = list(room.members.values())
        summary = {
            "m.joined_member_count": members.count("join"),
            "m.invited_member_count": members.count("invite"),
        }
        return {
            "state": {"events": list(room.state.values()) if came or not seen else []},
            "timeline": {"events": [_now(each) for each in new[-limit:]], "limited": len(new) > limit},
            "summary": summary if self.says_how_many else {},
        }


def _now(event: dict[str, Any]) -> dict[str, Any]:
    told = {key: value for key, value in event.items() if key not in ("at", "gone")}
    age = int(time.time() * 1000) - event["origin_server_ts"] if type(event["origin_server_ts"]) is int else 0
    return {**told, "unsigned": {"age": age}, **({"content": {}} if event.get("gone") else {})}


def _stripped(event: dict[str, Any]) -> dict[str, Any]:
    return {key: event[key] for key in ("type", "sender", "content", "state_key")}
