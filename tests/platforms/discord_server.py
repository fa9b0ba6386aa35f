"""A Discord for tests: REST and gateway, real HTTP and WebSocket, with Discord's laws.

Checked against https://discord.com/developers/docs: content of 1 to 2000 characters, five messages in five
seconds in a channel and five edits likewise (429 with retry_after and the X-RateLimit headers), allowed_mentions
on everything, nonce with enforce_nonce sends once, interactions acknowledged within three seconds, no message
content without the intent except in direct messages and mentions, heartbeats, identify, resume.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import zlib
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import WSMsgType, web

from platforms.listener import Listener
from platforms.waits import Waits

TOKEN = "MTAwMDAwMDAwMDAwMDAwMDAx.GtestA.test-test-test-test-test-test-test"
BOT_ID = 100000000000000001
APPLICATION_ID = 100000000000000001
GUILD_ID = 200000000000000000
CHANNEL_ID = 300000000000000000
GROUP_DM_ID = 600000000000000000
BETWEEN_ID = 600000000000000001
BOT = {
    "id": str(BOT_ID), "username": "glmbot", "discriminator": "0", "global_name": None, "avatar": None,
    "bot": True, "flags": 0,
}  # fmt: skip
_CONTENT_INTENT = 1 << 15


@dataclass
class DiscordServer:
    """`window_s` is the law's five seconds, made shorter where a test is about something else."""

    window_s: float = 5.0
    messages: dict[int, dict[int, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    versions: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    said: dict[int, dict[str, Any]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    floods: list[str] = field(default_factory=list)
    waits: Waits = field(default_factory=Waits)
    commands: list[dict[str, Any]] = field(default_factory=list)
    files: list[tuple[str, bytes]] = field(default_factory=list)
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    identified: list[dict[str, Any]] = field(default_factory=list)
    typed: list[int] = field(default_factory=list)
    threads: dict[int, dict[str, Any]] = field(default_factory=dict)
    forbidden: set[int] = field(default_factory=set)
    no_threads_in: set[int] = field(default_factory=set)
    archived: set[int] = field(default_factory=set)
    locked: set[int] = field(default_factory=set)
    answers_instead: Callable[[str, int, dict[str, Any], bool], web.Response | None] | None = None
    """Asked of each message to be sent ("POST") or edited ("PATCH") in a channel: its fields, and whether it has a
    file. An answer of its own is given instead of Discord's."""
    autocompleted: list[list[str]] = field(default_factory=list)
    token_lives_s: float = 900.0
    dismissed: bool = False
    """Acknowledgements are deleted before their answers come."""
    resumed: int = 0
    url: str = ""
    gateway_url: str = ""
    application_flags: int = 0
    guild_count: int = 1
    starts: int = 999
    wants_shards: int = 1

    def __post_init__(self) -> None:
        self._next_id = int((time.time() - 1420070400) * 1000) << 22
        self._sequence = 0
        self._sent: list[dict[str, Any]] = []
        self._sockets: list[_Connection] = []
        self._buckets: dict[str, deque[float]] = defaultdict(deque)
        self._nonces: dict[str, dict[str, Any]] = {}
        self._held_until: dict[int, float] = {}
        self._interactions: dict[str, dict[str, Any]] = {}
        self._listener = Listener()

    async def start(self) -> None:
        app = web.Application()
        api = "/api/v10"
        app.add_routes(
            [
                web.get("/gateway/", self._gateway),
                web.get(f"{api}/gateway/bot", self._gateway_bot),
                web.get(f"{api}/users/@me", self._me),
                web.get(f"{api}/users/{{user}}", self._user),
                web.post(f"{api}/users/@me/channels", self._open_direct),
                web.post(f"{api}/channels/{{channel}}/typing", self._typing),
                web.get(f"{api}/channels/{{channel}}", self._get_channel),
                web.patch(f"{api}/channels/{{channel}}", self._patch_channel),
                web.post(f"{api}/channels/{{channel}}/messages/{{message}}/threads", self._post_thread),
                web.get(f"{api}/oauth2/applications/@me", self._application),
                web.put(f"{api}/applications/{{app}}/commands", self._put_commands),
                web.post(f"{api}/channels/{{channel}}/messages", self._post_message),
                web.patch(f"{api}/channels/{{channel}}/messages/{{message}}", self._patch_message),
                web.delete(f"{api}/channels/{{channel}}/messages/{{message}}", self._delete_message),
                web.post(f"{api}/interactions/{{id}}/{{token}}/callback", self._callback),
                web.patch(f"{api}/webhooks/{{app}}/{{token}}/messages/{{message}}", self._patch_webhook),
                web.post(f"{api}/webhooks/{{app}}/{{token}}", self._post_webhook),
                web.delete(f"{api}/webhooks/{{app}}/{{token}}/messages/{{message}}", self._delete_webhook),
            ]
        )
        address = await self._listener.open(app)
        self.url, self.gateway_url = f"http://{address}{api}", f"ws://{address}/gateway/"

    async def stop(self) -> None:
        await self._listener.close()

    # ---- what people do -------------------------------------------------------------------------------------

    async def say(
        self,
        text: str,
        *,
        user: int = 7,
        direct: bool = False,
        id: int | None = None,
        thread: int | None = None,
        reply_to: int | None = None,
    ) -> int:
        """A person writes in the channel, a thread, or directly. Returns the message's id."""
        message_id = id or self._new_id()
        channel = self.direct_channel(user) if direct else thread or CHANNEL_ID
        message = self.spoken(message_id, channel, user, text, direct=direct)
        if reply_to is not None:
            message |= {
                "type": 19,
                "message_reference": {"message_id": str(reply_to), "channel_id": str(channel)},
                "referenced_message": self.messages[channel].get(reply_to),
            }
        self.said[message_id] = message
        await self._tell("MESSAGE_CREATE", message)
        return message_id

    async def edit(self, message_id: int, text: str, *, user: int = 7, preview: bool = False) -> None:
        """A person edits what they wrote; or (preview) Discord adds a link's preview to it."""
        old = self.said[message_id]
        message = self.spoken(message_id, int(old["channel_id"]), user, text, direct="guild_id" not in old)
        if not preview:
            message["edited_timestamp"] = datetime.now(UTC).isoformat()
        await self._tell("MESSAGE_UPDATE", message)

    async def delete(self, message_id: int) -> None:
        """A person deletes what they wrote."""
        old = self.said.pop(message_id)
        gone = {"id": str(message_id), "channel_id": old["channel_id"], "guild_id": str(GUILD_ID)}
        await self.dispatch("MESSAGE_DELETE", gone)

    def spoken(self, message_id: int, channel: int, user: int, text: str, *, direct: bool) -> dict[str, Any]:
        """A message as the gateway tells it."""
        message = self._message(message_id, channel, _person(user), text)
        message["mentions"] = [{**BOT, "member": _MEMBER}] if f"<@{BOT_ID}>" in text else []
        message["channel_type"] = 1 if direct else 11 if channel in self.threads else 0
        if not direct:
            message |= {"guild_id": str(GUILD_ID), "member": _MEMBER}
        return message

    async def _tell(self, kind: str, message: dict[str, Any]) -> None:
        hides = "guild_id" in message and not message["mentions"]
        await self.dispatch(kind, message, hides_content=hides)

    async def press(
        self,
        message_id: int,
        command: str,
        *,
        user: int = 7,
        channel: int = CHANNEL_ID,
        place: str = "server",
    ) -> str:
        """A person presses a button under a message of the bot's. Returns the interaction's token."""
        message = self.messages[channel].get(message_id) or next(
            shown[message_id]
            for interaction in self._interactions.values()
            if message_id in (shown := interaction.get("messages", {}))
        )
        (custom_id,) = [
            button["custom_id"]
            for row in message["components"]
            for button in row["components"]
            if button["custom_id"].startswith(f"glmbot:{command}:")
        ]
        data = {"custom_id": custom_id, "component_type": 2}
        return await self._interact(3, data, user=user, message=message, channel=channel, place=place)

    async def complete(self, command: str, typed: str, *, user: int = 7) -> list[str]:
        """What a person is offered who has typed so much of a command's value."""
        option = {"name": "value", "type": 3, "value": typed, "focused": True}
        data = {"id": str(self._command(command)["id"]), "name": command, "type": 1, "options": [option]}
        await self._interact(4, data, user=user)
        before = len(self.autocompleted)
        for _ in range(500):
            if len(self.autocompleted) > before:
                return self.autocompleted[-1]
            await asyncio.sleep(0.01)
        raise AssertionError("no choices came")

    def buttons(self, message_id: int, channel: int = CHANNEL_ID) -> list[str]:
        return [
            button["custom_id"].split(":")[1]
            for row in self.messages[channel][message_id]["components"]
            for button in row["components"]
        ]

    async def use(
        self, command: str, *, user: int = 7, locale: str = "en-US", place: str = "server", **options: str
    ) -> str:
        """A person uses a slash command in the channel, or in another `place`. Returns the interaction's token."""
        data = {
            "id": str(self._command(command)["id"]),
            "name": command,
            "type": 1,
            "options": [{"name": name, "type": 3, "value": value} for name, value in options.items()],
        }
        return await self._interact(2, data, user=user, locale=locale, place=place)

    async def _interact(
        self,
        kind: int,
        data: dict[str, Any],
        *,
        user: int,
        locale: str = "en-US",
        message: dict[str, Any] | None = None,
        channel: int = CHANNEL_ID,
        place: str = "server",
    ) -> str:
        event = self.interaction(
            kind, data, user=user, locale=locale, message=message, channel=channel, place=place
        )
        await self.dispatch("INTERACTION_CREATE", event)
        return str(event["token"])

    def interaction(
        self,
        kind: int,
        data: dict[str, Any],
        *,
        user: int = 7,
        locale: str = "en-US",
        message: dict[str, Any] | None = None,
        channel: int = CHANNEL_ID,
        place: str = "server",
    ) -> dict[str, Any]:
        """The event, whose token can be answered from now on.

        place: "server"; "direct", with the bot; "group" and "between" are a group's and two people's direct
        channel, where one of them has installed the app.
        """
        interaction_id, token = self._new_id(), f"token{self._new_id()}"
        self._interactions[token] = {"id": str(interaction_id), "at": time.monotonic(), "acknowledged": False}
        event = {
            "id": str(interaction_id),
            "application_id": str(APPLICATION_ID),
            "type": kind,
            "token": token,
            "version": 1,
            "guild_id": str(GUILD_ID),
            "channel_id": str(channel),
            "channel": self.threads.get(channel)
            or {"id": str(channel), "type": 0, "name": "general", "permissions": "0"},
            **({"message": message} if message else {}),
            "member": {**_MEMBER, "user": _person(user), "permissions": "0"},
            "locale": locale,
            "guild_locale": "en-US",
            "app_permissions": "0",
            "entitlements": [],
            "authorizing_integration_owners": {},
            "attachment_size_limit": 10485760,
            "data": data,
        }
        if place == "server":
            return event
        for name in ("guild_id", "guild_locale", "member"):
            del event[name]
        number = {"direct": self.direct_channel(user), "group": GROUP_DM_ID, "between": BETWEEN_ID}[place]
        return event | {
            "user": _person(user),
            "context": 1 if place == "direct" else 2,
            "authorizing_integration_owners": {"0": "0"} if place == "direct" else {"1": str(user)},
            "channel_id": str(number),
            "channel": {
                "id": str(number), "type": 3 if place == "group" else 1, "last_message_id": None, "name": None,
                "owner_id": "1", "recipients": [_person(user)] if place == "direct" else [_person(7), _person(8)],
            },
        }  # fmt: skip

    def hold(self, channel: int, seconds: float) -> None:
        """Every write to this channel is answered 429 for so long."""
        self._held_until[channel] = time.monotonic() + seconds

    def texts(self, channel: int = CHANNEL_ID) -> list[str]:
        return [message["content"] for _, message in sorted(self.messages[channel].items())]

    def replies_to(self, token: str) -> list[str]:
        """What an interaction shows, its first message first."""
        return [message["content"] for message in self._interactions[token].get("messages", {}).values()]

    def hidden_replies_to(self, token: str) -> list[str]:
        """Those of them that its user alone sees."""
        shown = self._interactions[token].get("messages", {}).values()
        return [message["content"] for message in shown if message.get("flags", 0) & 64]

    async def drop_connections(self) -> None:
        for connection in list(self._sockets):
            await connection.socket.close(code=4000)

    def direct_texts(self, user: int) -> list[str]:
        return self.texts(self.direct_channel(user))

    # ---- the gateway ------------------------------------------------------------------------------------------

    async def dispatch(self, kind: str, data: dict[str, Any], *, hides_content: bool = False) -> None:
        self._sequence += 1
        event = {"op": 0, "t": kind, "s": self._sequence, "d": data}
        self._sent.append({"event": event, "hides": hides_content})
        for connection in self._sockets:
            if connection.serves(data.get("guild_id")):
                await connection.deliver(event, hides_content)

    async def send_raw(self, kind: str, data: Any) -> None:
        """To everybody who is connected, whatever it is."""
        self._sequence += 1
        for connection in self._sockets:
            await connection.send({"op": 0, "t": kind, "s": self._sequence, "d": data})

    @property
    def sequence(self) -> int:
        return self._sequence

    async def _gateway(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = _Connection(socket, request.query.get("compress") == "zlib-stream")
        await connection.send({"op": 10, "d": {"heartbeat_interval": 20000}})
        async for received in socket:
            if received.type != WSMsgType.TEXT:
                break
            message = json.loads(received.data)
            match message["op"]:
                case 1:
                    await connection.send({"op": 11})
                case 2:
                    if message["d"]["token"] != TOKEN:
                        await socket.close(code=4004)
                        break
                    self.identified.append(message["d"])
                    connection.intents = message["d"]["intents"]
                    connection.shard = tuple(message["d"].get("shard", (0, 1)))
                    self._sockets.append(connection)
                    await self._greet(connection)
                case 6:
                    self.resumed += 1
                    connection.intents = self.identified[-1]["intents"]
                    self._sockets.append(connection)
                    for sent in self._sent:
                        if sent["event"]["s"] > message["d"]["seq"]:
                            await connection.deliver(sent["event"], sent["hides"])
                    await connection.send({"op": 0, "t": "RESUMED", "s": self._sequence, "d": {}})
                case _:
                    pass
        if connection in self._sockets:
            self._sockets.remove(connection)
        return socket

    async def _greet(self, connection: _Connection) -> None:
        self._sequence += 1
        ready = {
            "v": 10,
            "user": BOT,
            "guilds": [{"id": str(GUILD_ID), "unavailable": True}]
            if connection.serves(str(GUILD_ID))
            else [],
            "shard": list(connection.shard),
            "session_id": "session",
            "resume_gateway_url": self.gateway_url,
            "application": {"id": str(APPLICATION_ID), "flags": 0},
        }
        await connection.send({"op": 0, "t": "READY", "s": self._sequence, "d": ready})
        if connection.serves(str(GUILD_ID)):
            self._sequence += 1
            await connection.send({"op": 0, "t": "GUILD_CREATE", "s": self._sequence, "d": _GUILD})

    # ---- REST -------------------------------------------------------------------------------------------------

    async def _me(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bot {TOKEN}":
            return _json({"message": "401: Unauthorized", "code": 0}, status=401)
        return _json(BOT)

    async def _application(self, _: web.Request) -> web.Response:
        return _json(
            {
                "id": str(APPLICATION_ID), "name": "glmbot", "icon": None, "description": "", "flags": self.application_flags,
                "approximate_guild_count": self.guild_count,
                "bot_public": True, "bot_require_code_grant": False, "verify_key": "0", "team": None,
                "owner": _person(1), "rpc_origins": [], "tags": [], "hook": False,
            }
        )  # fmt: skip

    async def _put_commands(self, request: web.Request) -> web.Response:
        self.commands = []
        for command in await request.json():
            if (
                not re.fullmatch(r"[-_\w]{1,32}", command["name"])
                or not 1 <= len(command["description"]) <= 100
            ):
                self.violations.append(f"command {command['name']}")
            self.commands.append(
                {**command, "id": str(self._new_id()), "application_id": str(APPLICATION_ID), "version": "1",
                 "default_member_permissions": None}
            )  # fmt: skip
        return _json(self.commands)

    async def _post_message(self, request: web.Request) -> web.Response:
        channel = int(request.match_info["channel"])
        fields, files = await _body(request)
        refused, headers = self._limited(f"POST {channel}", channel)
        refused = refused or self._refused("POST", channel, fields, files)
        if refused is not None:
            return refused
        if channel in self.forbidden:
            return _json({"message": "Missing Permissions", "code": 50013}, status=403, headers=headers)
        self._check(fields, files)
        nonce = fields.get("nonce")
        if nonce and fields.get("enforce_nonce") and nonce in self._nonces:
            return _json(self._nonces[nonce], headers=headers)
        message = self._message(self._new_id(), channel, BOT, fields.get("content", ""))
        message["nonce"] = nonce
        reference = fields.get("message_reference")
        message["reference"] = reference
        message["components"] = self._components(fields)
        self.messages[channel][int(message["id"])] = message
        self._attach(message, files)
        self.versions[int(message["id"])].append(message["content"])
        if nonce:
            self._nonces[nonce] = message
        return _json(message, headers=headers)

    async def _patch_message(self, request: web.Request) -> web.Response:
        channel, message_id = int(request.match_info["channel"]), int(request.match_info["message"])
        fields, files = await _body(request)
        refused, headers = self._limited(f"PATCH {channel}", channel)
        refused = refused or self._refused("PATCH", channel, fields, files)
        if refused is not None:
            return refused
        message = self.messages[channel].get(message_id)
        if message is None:
            return _json({"message": "Unknown Message", "code": 10008}, status=404, headers=headers)
        self._check(fields, files)
        message |= {"content": fields["content"] or "", "components": self._components(fields)}
        self._attach(message, files)
        self.versions[message_id].append(message["content"])
        return _json(message, headers=headers)

    def _refused(
        self, method: str, channel: int, fields: dict[str, Any], files: list[tuple[str, bytes]]
    ) -> web.Response | None:
        if channel in self.archived:
            # A message opens an archived thread by itself, unless a moderator has locked it.
            if method == "PATCH" or channel in self.locked:
                return refusal(400, 50083)
            self.archived.discard(channel)
        return self.answers_instead(method, channel, fields, bool(files)) if self.answers_instead else None

    async def _get_channel(self, request: web.Request) -> web.Response:
        thread = self.threads.get(int(request.match_info["channel"]))
        return _json(thread) if thread is not None else refusal(404, 10003)

    async def _patch_channel(self, request: web.Request) -> web.Response:
        channel = int(request.match_info["channel"])
        if (await request.json()).get("archived") is False:
            if channel in self.locked or channel not in self.threads:
                return refusal(403, 50013)
            self.archived.discard(channel)
        return _json(self.threads[channel])

    async def _delete_message(self, request: web.Request) -> web.Response:
        channel, message_id = int(request.match_info["channel"]), int(request.match_info["message"])
        if self.messages[channel].pop(message_id, None) is None:
            return _json({"message": "Unknown Message", "code": 10008}, status=404)
        return web.Response(status=204)

    async def _callback(self, request: web.Request) -> web.Response:
        interaction = self._interactions.get(request.match_info["token"])
        if interaction is None:
            return _json({"message": "Unknown interaction", "code": 10062}, status=404)
        fields = await request.json()
        if time.monotonic() - interaction["at"] > 3:
            self.violations.append("an interaction was acknowledged too late")
        if interaction["acknowledged"]:
            return _json({"message": "already acknowledged", "code": 40060}, status=400)
        interaction["acknowledged"] = True
        self.callbacks.append(fields)
        if fields["type"] == 8:
            self.autocompleted.append([choice["value"] for choice in fields["data"]["choices"]])
        if fields["type"] == 4:
            self._check(fields["data"], [])
        if request.query.get("with_response"):
            body = {"interaction": {"id": interaction["id"], "type": 2, "response_message_loading": True}}
            return _json(body)
        return web.Response(status=204)

    async def _patch_webhook(self, request: web.Request) -> web.Response:
        interaction = self._known(request)
        fields, files = await _body(request)
        if (expired := self._expired(interaction)) is not None:
            return expired
        self._check(fields, files)
        shown = interaction.setdefault("messages", {})
        name = request.match_info["message"]
        if name == "@original" and self.dismissed:
            return refusal(404, 10008)
        message_id = next(iter(shown), None) if name == "@original" else int(name)
        if message_id is None:
            message_id = self._new_id()
            shown[message_id] = self._message(message_id, CHANNEL_ID, BOT, "")
        shown[message_id] |= {"content": fields["content"] or "", "components": self._components(fields)}
        self._attach(shown[message_id], files)
        self.versions[message_id].append(shown[message_id]["content"])
        return _json(shown[message_id])

    async def _post_webhook(self, request: web.Request) -> web.Response:
        interaction = self._known(request)
        fields, files = await _body(request)
        if (expired := self._expired(interaction)) is not None:
            return expired
        self._check(fields, files)
        message = self._message(self._new_id(), CHANNEL_ID, BOT, fields.get("content") or "")
        message["components"] = self._components(fields)
        message["flags"] = fields.get("flags", 0)
        self._attach(message, files)
        interaction.setdefault("messages", {})[int(message["id"])] = message
        return _json(message)

    async def _delete_webhook(self, request: web.Request) -> web.Response:
        interaction = self._known(request)
        if request.match_info["message"] == "@original":
            interaction["withdrawn"] = True
            return web.Response(status=204)
        interaction["messages"].pop(int(request.match_info["message"]))
        return web.Response(status=204)

    def withdrawn(self, token: str) -> bool:
        """Whether what says that the bot is thinking was deleted."""
        return bool(self._interactions[token].get("withdrawn"))

    def _known(self, request: web.Request) -> dict[str, Any]:
        interaction = self._interactions.get(request.match_info["token"])
        if interaction is None:
            body = json.dumps({"message": "Unknown Webhook", "code": 10015})
            raise web.HTTPNotFound(text=body, content_type="application/json")
        return interaction

    def _expired(self, interaction: dict[str, Any]) -> web.Response | None:
        if time.monotonic() - interaction["at"] <= self.token_lives_s:
            return None
        return _json({"message": "Invalid Webhook Token", "code": 50027}, status=401)

    async def _gateway_bot(self, _: web.Request) -> web.Response:
        limit = {"total": 1000, "remaining": self.starts, "reset_after": 7_200_000, "max_concurrency": 1}
        return _json({"url": self.gateway_url, "shards": self.wants_shards, "session_start_limit": limit})

    async def _user(self, request: web.Request) -> web.Response:
        return _json(_person(int(request.match_info["user"])))

    async def _open_direct(self, request: web.Request) -> web.Response:
        user = int((await request.json())["recipient_id"])
        channel = {"id": str(self.direct_channel(user)), "type": 1, "recipients": [_person(user)]}
        return _json({**channel, "last_message_id": None})

    async def _typing(self, request: web.Request) -> web.Response:
        self.typed.append(int(request.match_info["channel"]))
        return web.Response(status=204)

    async def _post_thread(self, request: web.Request) -> web.Response:
        """A thread made from a message has the message's id."""
        channel, message_id = int(request.match_info["channel"]), int(request.match_info["message"])
        fields = await request.json()
        if channel in self.no_threads_in:
            return _json({"message": "Missing Permissions", "code": 50013}, status=403)
        if message_id in self.threads:
            body = {"message": "A thread has already been created for this message", "code": 160004}
            return _json(body, status=400)
        if not 1 <= len(fields["name"]) <= 100:
            self.violations.append(f"thread name of {len(fields['name'])} characters")
        thread = {
            "id": str(message_id), "type": 11, "name": fields["name"], "parent_id": str(channel),
            "guild_id": str(GUILD_ID), "owner_id": str(BOT_ID), "message_count": 0, "member_count": 1,
            "last_message_id": None, "rate_limit_per_user": 0,
            "thread_metadata": {"archived": False, "auto_archive_duration": 1440, "locked": False,
                                "archive_timestamp": "2026-01-01T00:00:00.000000+00:00"},
        }  # fmt: skip
        self.threads[message_id] = thread
        await self.dispatch("THREAD_CREATE", {**thread, "newly_created": True})
        return _json(thread)

    def _components(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        """At most five rows of at most five buttons, ids of 1 to 100 characters, labels of 1 to 80."""
        rows: list[dict[str, Any]] = fields.get("components") or []
        for row in rows:
            for button in row["components"]:
                if not (1 <= len(button["custom_id"]) <= 100 and 1 <= len(button["label"]) <= 80):
                    self.violations.append(f"button {button}")
        if len(rows) > 5 or any(len(row["components"]) > 5 for row in rows):
            self.violations.append("too many components")
        return rows

    def _attach(self, message: dict[str, Any], files: list[tuple[str, bytes]]) -> None:
        message["attachments"] = [
            {"id": str(self._new_id()), "filename": name, "size": len(content), "url": "", "proxy_url": ""}
            for name, content in files
        ] or message["attachments"]

    def _check(self, fields: dict[str, Any], files: list[tuple[str, bytes]]) -> None:
        content = fields.get("content") or ""
        self.files += files
        if len(content) > 2000 or (not content.strip() and not files):
            self.violations.append(f"content of {len(content)} characters")
        if fields.get("allowed_mentions", {}).get("parse") != []:
            self.violations.append("allowed_mentions is not none")

    def _limited(self, bucket: str, channel: int) -> tuple[web.Response | None, dict[str, str]]:
        """The bucket's law and headers (https://discord.com/developers/docs/topics/rate-limits)."""
        now = time.monotonic()
        writes = self._buckets[bucket]
        while writes and writes[0] <= now - self.window_s:
            writes.popleft()
        held = self._held_until.get(channel, 0.0) - now
        reset_after = max(held, writes[0] + self.window_s - now if writes else self.window_s)
        headers = {
            "X-RateLimit-Limit": "5",
            "X-RateLimit-Reset": f"{time.time() + reset_after:.3f}",
            "X-RateLimit-Reset-After": f"{reset_after:.3f}",
            "X-RateLimit-Bucket": bucket.replace(" ", ""),
            "Via": "1.1 google",
        }
        if held > 0 or len(writes) >= 5:
            self.floods.append(bucket)
            self.waits.tell(bucket, reset_after, now)
            headers |= {"X-RateLimit-Remaining": "0", "X-RateLimit-Scope": "user"}
            body = {"message": "You are being rate limited.", "retry_after": reset_after, "global": False}
            return _json(body, status=429, headers=headers), headers
        writes.append(now)
        headers["X-RateLimit-Remaining"] = str(5 - len(writes))
        return None, headers

    def _message(self, message_id: int, channel: int, author: dict[str, Any], content: str) -> dict[str, Any]:
        return {
            "id": str(message_id), "channel_id": str(channel), "author": author, "content": content,
            "timestamp": "2026-01-01T00:00:00.000000+00:00", "edited_timestamp": None, "tts": False,
            "mention_everyone": False, "mentions": [], "mention_roles": [], "attachments": [], "embeds": [],
            "pinned": False, "type": 0, "flags": 0, "components": [],
        }  # fmt: skip

    def _command(self, name: str) -> dict[str, Any]:
        return next(command for command in self.commands if command["name"] == name)

    def _new_id(self) -> int:
        self._next_id += 1 << 12
        return self._next_id

    @staticmethod
    def direct_channel(user: int) -> int:
        return 400000000000000000 + user


class _Connection:
    def __init__(self, socket: web.WebSocketResponse, compressed: bool) -> None:
        self.socket = socket
        self.intents = 0
        self.shard = (0, 1)
        self._zlib = zlib.compressobj() if compressed else None

    def serves(self, guild: str | None) -> bool:
        """https://discord.com/developers/docs/events/gateway#sharding"""
        number, count = self.shard
        return (int(guild or 0) >> 22) % count == number

    async def deliver(self, event: dict[str, Any], hides_content: bool) -> None:
        if hides_content and not self.intents & _CONTENT_INTENT:
            event = {**event, "d": {**event["d"], "content": ""}}
        await self.send(event)

    async def send(self, message: dict[str, Any]) -> None:
        if self.socket.closed:
            return
        text = json.dumps(message)
        if self._zlib is None:
            await self.socket.send_str(text)
        else:
            await self.socket.send_bytes(
                self._zlib.compress(text.encode()) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
            )


def _json(data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Discord's content type has no charset, and discord.py compares it whole."""
    kind = {"Content-Type": "application/json"}
    return web.Response(body=json.dumps(data).encode(), status=status, headers={**kind, **(headers or {})})


def refusal(status: int, code: int, *, errors: dict[str, Any] | None = None) -> web.Response:
    """As Discord says no."""
    body = {"message": f"refusal {code}", "code": code, **({"errors": errors} if errors else {})}
    return _json(body, status=status, headers={"Via": "1.1 google"})


def page(status: int) -> web.Response:
    """As a proxy says no."""
    return web.Response(status=status, text="<html>Access denied</html>", content_type="text/html")


async def _body(request: web.Request) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    if request.content_type == "application/json":
        return await request.json(), []
    fields: dict[str, Any] = {}
    files: list[tuple[str, bytes]] = []
    for name, value in (await request.post()).items():
        if isinstance(value, web.FileField):
            files.append((value.filename, value.file.read()))
        elif name == "payload_json":
            fields = json.loads(str(value))
    return fields, files


def _person(user: int) -> dict[str, Any]:
    return {
        "id": str(user), "username": f"user{user}", "discriminator": "0", "global_name": f"User {user}",
        "avatar": None, "flags": 0,
    }  # fmt: skip


_MEMBER: dict[str, Any] = {
    "roles": [], "joined_at": "2026-01-01T00:00:00.000000+00:00", "deaf": False, "mute": False, "flags": 0,
    "nick": None, "avatar": None, "premium_since": None,
}  # fmt: skip
_GUILD: dict[str, Any] = {
    "id": str(GUILD_ID), "name": "Friends", "icon": None, "splash": None, "owner_id": "1", "afk_timeout": 300,
    "verification_level": 0, "default_message_notifications": 0, "explicit_content_filter": 0, "emojis": [],
    "features": [], "mfa_level": 0, "system_channel_flags": 0, "premium_tier": 0, "preferred_locale": "en-US",
    "nsfw_level": 0, "premium_progress_bar_enabled": False, "stickers": [], "unavailable": False,
    "joined_at": "2026-01-01T00:00:00.000000+00:00", "large": False, "member_count": 2, "voice_states": [],
    "presences": [], "threads": [], "stage_instances": [], "guild_scheduled_events": [], "soundboard_sounds": [],
    "roles": [{"id": str(GUILD_ID), "name": "@everyone", "color": 0, "hoist": False, "position": 0,
               "permissions": "0", "managed": False, "mentionable": False, "flags": 0,
               "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None}}],
    "members": [{**_MEMBER, "user": BOT}],
    "channels": [{"id": str(CHANNEL_ID), "type": 0, "name": "general", "position": 0, "topic": None,
                  "permission_overwrites": [], "nsfw": False, "rate_limit_per_user": 0, "parent_id": None,
                  "last_message_id": None}],
}  # fmt: skip
