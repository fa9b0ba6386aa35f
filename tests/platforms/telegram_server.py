"""A Bot API server for tests: real HTTP, state, and Telegram's laws.

Checked against https://core.telegram.org/bots/api and https://core.telegram.org/bots/faq#my-bot-is-hitting-limits:
text of 1 to 4096 UTF-16 units, at most 100 entities inside the text, an unchanged edit is an error, about one
message a second in a chat and 20 a minute in a group (429 with retry_after, for that chat only), updates are
handed out until a higher offset confirms them or posted to the webhook with its secret until it answers 2xx, one
poller at a time, callback data of 1 to 64 bytes, drafts in private chats only, three kinds of command scope.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web

from platforms.listener import Listener
from platforms.waits import Waits

TOKEN = "123456789:AAtestTESTtestTESTtestTESTtestTEST0"
BOT = {"id": 4242, "is_bot": True, "first_name": "glmbot", "username": "glm_test_bot"}
_METHODS_THAT_WRITE = {
    "sendMessage",
    "editMessageText",
    "editMessageMedia",
    "sendDocument",
    "deleteMessage",
    "sendMessageDraft",
}
_COMMAND = re.compile(r"[a-z0-9_]{1,32}")


class _Refused(Exception):
    def __init__(self, code: int, description: str, **parameters: Any) -> None:
        super().__init__(description)
        self.code, self.description, self.parameters = code, description, parameters


@dataclass
class Refusal:
    """What the next `times` requests of a method are answered; `page`: by something on the way, in HTML.

    `having`: only those in which that field says something.
    """

    method: str
    code: int
    description: str = ""
    times: int = 10**9
    page: bool = False
    having: str = ""

    def meets(self, method: str, fields: dict[str, Any]) -> bool:
        said = not self.having or fields.get(self.having) not in (None, "", "[]")
        return bool(self.method == method and self.times and said)


@dataclass
class TelegramServer:
    """`seconds_per_message` is the law's one second, made shorter where a test is about something else."""

    seconds_per_message: float = 1.0
    burst: int = 3
    messages: dict[int, dict[int, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    said: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    floods: list[tuple[int, float]] = field(default_factory=list)
    waits: Waits = field(default_factory=Waits)
    edits: dict[tuple[int, int], list[str]] = field(default_factory=lambda: defaultdict(list))
    files: dict[tuple[int, int], tuple[str, bytes]] = field(default_factory=dict)
    blocked_by: set[int] = field(default_factory=set)
    # Of each chat that the bot can look into.
    administrators: dict[int, set[int]] = field(default_factory=dict)
    # Groups that became supergroups, which have another id.
    migrated: dict[int, int] = field(default_factory=dict)
    commands: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    scoped_commands: dict[tuple[str, str], list[dict[str, str]]] = field(default_factory=dict)
    drafts: list[tuple[int, int, str]] = field(default_factory=list)
    actions: list[tuple[int, float]] = field(default_factory=list)
    callbacks: dict[str, str | None] = field(default_factory=dict)
    chats_with_topics: set[int] = field(default_factory=set)
    webhook: dict[str, Any] = field(default_factory=dict)
    webhook_info: dict[str, Any] = field(default_factory=dict)
    """What Telegram says of it beside that."""
    webhook_answers: list[int] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    url: str = ""
    token: str = TOKEN
    bot: dict[str, Any] = field(default_factory=lambda: BOT)
    out_of_order_until: float = 0.0
    """Until then (time.monotonic) every request is answered 502."""

    def __post_init__(self) -> None:
        self._updates: list[dict[str, Any]] = []
        self._seen_updates: list[dict[str, Any]] = []
        self._next_update = 1000
        self._next_message = 1
        self._news = asyncio.Condition()
        self._writes: dict[int, deque[float]] = defaultdict(deque)
        self._held_until: dict[int, float] = {}
        self._polling = 0
        self._posting: asyncio.Task[None] | None = None
        self._listener = Listener()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/bot{token}/{method}", self._handle)
        self.url = f"http://{await self._listener.open(app)}"

    async def stop(self) -> None:
        if self._posting is not None:
            self._posting.cancel()
        await self._listener.close()

    # ---- what people do ----------------------------------------------------------------------------------

    async def say(
        self,
        text: str,
        *,
        user: int = 7,
        chat: int | None = None,
        reply_to: int | None = None,
        language: str = "en",
        thread: int | None = None,
        photo: bool = False,
    ) -> int:
        """A person writes; chat None is their private chat. Returns the message's id."""
        private = chat is None
        chat_id = user if chat is None else chat
        message: dict[str, Any] = {
            "message_id": self._new_message_id(),
            "date": int(time.time()),
            "from": _person(user, language),
            "chat": self._chat(chat_id, private=private),
        }
        name = "text"
        if photo:
            size = {"file_id": "photo", "file_unique_id": "p", "width": 90, "height": 90, "file_size": 1000}
            message["photo"], name = [size], "caption"
        if text:
            message[name] = text
            if entities := _entities(text):
                message["entities" if name == "text" else "caption_entities"] = entities
        if thread is not None:
            message |= {"message_thread_id": thread, "is_topic_message": True}
            # In a topic every message answers the one that opened it.
            opened = {"name": "Topic", "icon_color": 7322096}
            message["reply_to_message"] = {
                "message_id": thread, "date": 0, "chat": message["chat"], "from": _person(1, "en"),
                "message_thread_id": thread, "is_topic_message": True, "forum_topic_created": opened,
            }  # fmt: skip
        if reply_to is not None:
            known = self.messages[chat_id].get(reply_to) or self.said[chat_id, reply_to]
            message["reply_to_message"] = {k: v for k, v in known.items() if k != "reply_to_message"}
        self.said[chat_id, message["message_id"]] = message
        await self.tell({"message": message})
        return int(message["message_id"])

    async def edit(self, message_id: int, text: str, *, user: int = 7, chat: int | None = None) -> None:
        """A person edits what they wrote."""
        message = self.said[user if chat is None else chat, message_id]
        message = {key: value for key, value in message.items() if key != "entities"} | {"text": text}
        message["edit_date"] = int(time.time())
        if entities := _entities(text):
            message["entities"] = entities
        self.said[user if chat is None else chat, message_id] = message
        await self.tell({"edited_message": message})

    async def press(
        self,
        message_id: int,
        command: str,
        *,
        user: int = 7,
        chat: int | None = None,
        inaccessible: bool = False,
    ) -> str:
        """A person presses a button under a message of the bot's. Returns the callback query's id.

        inaccessible: of an old message Telegram tells no more than where it is.
        """
        message = self.messages[user if chat is None else chat][message_id]
        (data,) = [
            button["callback_data"]
            for row in message["reply_markup"]["inline_keyboard"]
            for button in row
            if button["callback_data"].startswith(command)
        ]
        query = f"query{self._next_update}"
        if inaccessible:
            message = {"message_id": message_id, "chat": message["chat"], "date": 0}
        await self.tell(
            {"callback_query": {"id": query, "from": _person(user, "en"), "message": message,
                                "chat_instance": "1", "data": data}}
        )  # fmt: skip
        return query

    async def shut_out(self, user: int = 7) -> None:
        """A person blocks the bot."""
        self.blocked_by.add(user)
        member = {"user": self.bot, "status": "member"}
        await self.tell(
            {"my_chat_member": {"chat": self._chat(user, private=True), "from": _person(user, "en"),
                                "date": int(time.time()), "old_chat_member": member,
                                "new_chat_member": {"user": self.bot, "status": "kicked", "until_date": 0}}}
        )  # fmt: skip

    async def tell(self, what: dict[str, Any]) -> None:
        """Something happened: what an update has besides its number."""
        update = {"update_id": self._next_update, **what}
        self._next_update += 1
        self._updates.append(update)
        async with self._news:
            self._news.notify_all()

    def buttons(self, chat: int, message_id: int) -> list[str]:
        markup = self.messages[chat][message_id].get("reply_markup") or {"inline_keyboard": []}
        return [
            button["callback_data"].partition(":")[0] for row in markup["inline_keyboard"] for button in row
        ]

    async def send_again(self, message_id: int) -> None:
        """What a lost confirmation leads to: the same update once more."""
        again = next(u for u in self._seen_updates if u.get("message", {}).get("message_id") == message_id)
        self._updates.insert(0, again)
        async with self._news:
            self._news.notify_all()

    def hold(self, chat: int, seconds: float) -> None:
        """Every write to this chat is answered 429 for so long."""
        self._held_until[chat] = time.monotonic() + seconds

    def texts(self, chat: int) -> list[str]:
        """What the bot's messages in a chat say now, in order; files and what says nothing yet left out."""
        said = [message.get("text", "…") for _, message in sorted(self.messages[chat].items())]
        return [text for text in said if text != "…"]

    @property
    def documents(self) -> list[tuple[int, str, bytes]]:
        """Chat, name and content of each file, in order."""
        return [(chat, *file) for (chat, _), file in sorted(self.files.items())]

    @property
    def unconfirmed(self) -> int:
        return len(self._updates)

    # ---- the Bot API ---------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        try:
            if request.match_info["token"] != self.token:
                raise _Refused(401, "Unauthorized")
            fields = await _fields(request)
            if time.monotonic() < self.out_of_order_until:
                raise _Refused(502, "Bad Gateway")
            self.calls.append((method, fields))
            for refusal in self.refusals:
                if refusal.meets(method, fields):
                    refusal.times -= 1
                    if refusal.page:
                        page = f"<html><h1>{refusal.code}</h1>{refusal.description}</html>"
                        return web.Response(status=refusal.code, text=page, content_type="text/html")
                    raise _Refused(refusal.code, refusal.description)
            if method in _METHODS_THAT_WRITE:
                self._enforce_pace(int(fields["chat_id"]))
            action = getattr(self, f"_{_snake(method)}", None)
            if action is None:
                raise _Refused(404, "Not Found: method not found")
            result = await action(fields)
        except _Refused as refused:
            body: dict[str, Any] = {
                "ok": False,
                "error_code": refused.code,
                "description": refused.description,
            }
            if refused.parameters:
                body["parameters"] = refused.parameters
            return web.json_response(body, status=refused.code)
        return web.json_response({"ok": True, "result": result})

    def _enforce_pace(self, chat: int) -> None:
        now = time.monotonic()
        if chat in self.migrated:
            # https://core.telegram.org/bots/api#responseparameters
            raise _Refused(
                400,
                "Bad Request: group chat was upgraded to a supergroup chat",
                migrate_to_chat_id=self.migrated[chat],
            )
        if chat in self.blocked_by:
            raise _Refused(403, "Forbidden: bot was blocked by the user")
        held = self._held_until.get(chat, 0.0) - now
        writes = self._writes[chat]
        while writes and writes[0] < now - 60 * self.seconds_per_message:
            writes.popleft()
        recent = sum(at > now - self.burst * self.seconds_per_message for at in writes)
        wait = held
        if recent >= self.burst:
            wait = max(wait, self.seconds_per_message)
        if chat < 0 and len(writes) >= 20:
            wait = max(wait, writes[0] + 60 * self.seconds_per_message - now)
        if wait > 0:
            retry_after = max(1, round(wait + 0.5))
            self.floods.append((chat, now))
            self.waits.tell(chat, retry_after, now)
            raise _Refused(429, f"Too Many Requests: retry after {retry_after}", retry_after=retry_after)
        writes.append(now)

    async def _get_me(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "can_join_groups": True,
            "can_read_all_group_messages": False,
            "supports_inline_queries": False,
            **self.bot,
        }

    async def _get_updates(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        if self.webhook:
            raise _Refused(
                409, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook first"
            )
        offset = int(fields.get("offset", 0))
        self._updates = [update for update in self._updates if update["update_id"] >= offset]
        self._polling += 1
        mine = self._polling
        async with self._news:
            # A newer poll ends an older one.
            self._news.notify_all()
            if not self._updates:
                try:
                    async with asyncio.timeout(float(fields.get("timeout", 0))):
                        await self._news.wait_for(lambda: self._updates or self._polling != mine)
                except TimeoutError:
                    return []
        if self._polling != mine:
            raise _Refused(409, "Conflict: terminated by other getUpdates request")
        self._seen_updates += [update for update in self._updates if update not in self._seen_updates]
        return self._updates[:100]

    async def _send_message(self, fields: dict[str, Any]) -> dict[str, Any]:
        text, entities = self._checked_text(fields)
        chat = int(fields["chat_id"])
        markup = self._checked_markup(fields)
        message: dict[str, Any] = {
            "message_id": self._new_message_id(),
            "date": int(time.time()),
            "from": self.bot,
            "chat": self._chat(chat, private=chat > 0),
            "text": text,
            "entities": entities,
        }
        if markup:
            message["reply_markup"] = markup
        if "message_thread_id" in fields:
            message |= {"message_thread_id": int(fields["message_thread_id"]), "is_topic_message": True}
        if "reply_parameters" in fields:
            message["replies_to"] = json.loads(fields["reply_parameters"])["message_id"]
        self.messages[chat][message["message_id"]] = message
        self.edits[chat, message["message_id"]].append(text)
        return message

    async def _edit_message_text(self, fields: dict[str, Any]) -> dict[str, Any]:
        text, entities = self._checked_text(fields)
        chat, message_id = int(fields["chat_id"]), int(fields["message_id"])
        message = self.messages[chat].get(message_id)
        if message is None:
            raise _Refused(400, "Bad Request: message to edit not found")
        markup = self._checked_markup(fields)
        if "document" in message:
            raise _Refused(400, "Bad Request: there is no text in the message to edit")
        if (message["text"], message["entities"], message.get("reply_markup")) == (text, entities, markup):
            raise _Refused(
                400,
                "Bad Request: message is not modified: specified new message content and reply markup are "
                "exactly the same as a current content and reply markup of the message",
            )
        message |= {"text": text, "entities": entities, "edit_date": int(time.time())}
        message.pop("reply_markup", None)
        if markup:
            message["reply_markup"] = markup
        self.edits[chat, message_id].append(text)
        return message

    async def _delete_message(self, fields: dict[str, Any]) -> bool:
        if self.messages[int(fields["chat_id"])].pop(int(fields["message_id"]), None) is None:
            raise _Refused(400, "Bad Request: message to delete not found")
        return True

    async def _send_document(self, fields: dict[str, Any]) -> dict[str, Any]:
        chat, document = int(fields["chat_id"]), fields["document"]
        # A file may come under another field's name (https://core.telegram.org/bots/api#sending-files).
        name, content = fields[document.removeprefix("attach://")] if isinstance(document, str) else document
        message: dict[str, Any] = {
            "message_id": self._new_message_id(),
            "date": int(time.time()),
            "from": self.bot,
            "chat": self._chat(chat, private=chat > 0),
            "document": {"file_id": "f", "file_unique_id": "u", "file_name": name},
        }
        self.messages[chat][message["message_id"]] = message
        self.files[chat, message["message_id"]] = (name, content)
        return message

    async def _edit_message_media(self, fields: dict[str, Any]) -> dict[str, Any]:
        chat, message_id = int(fields["chat_id"]), int(fields["message_id"])
        message = self.messages[chat].get(message_id)
        if message is None:
            raise _Refused(400, "Bad Request: message to edit not found")
        media = json.loads(fields["media"])
        if media["type"] != "document":
            raise _Refused(400, "Bad Request: can't parse InputMedia: unknown type")
        name, content = fields[media["media"].removeprefix("attach://")]
        for each in ("text", "entities", "reply_markup"):
            message.pop(each, None)
        message["document"] = {"file_id": "f", "file_unique_id": "u", "file_name": name}
        self.files[chat, message_id] = (name, content)
        return message

    async def _send_chat_action(self, fields: dict[str, Any]) -> bool:
        if fields["action"] != "typing":
            raise _Refused(400, "Bad Request: wrong parameter action in request")
        self.actions.append((int(fields["chat_id"]), time.monotonic()))
        return True

    async def _send_message_draft(self, fields: dict[str, Any]) -> bool:
        text, _ = self._checked_text(fields)
        chat, draft = int(fields["chat_id"]), int(fields["draft_id"])
        if chat < 0 or not draft:
            self.violations.append("a draft without an id, or not in a private chat")
            raise _Refused(400, "Bad Request: TEXTDRAFT_PEER_INVALID")
        self.drafts.append((chat, draft, text))
        return True

    async def _answer_callback_query(self, fields: dict[str, Any]) -> bool:
        if len(str(fields.get("text", ""))) > 200:
            raise _Refused(400, "Bad Request: MESSAGE_TOO_LONG")
        query = fields.get("callback_query_id")
        if not query or query in self.callbacks:
            raise _Refused(
                400, "Bad Request: query is too old and response timeout expired or query ID is invalid"
            )
        self.callbacks[query] = fields.get("text")
        return True

    async def _delete_webhook(self, _: dict[str, Any]) -> bool:
        self.webhook = {}
        return True

    async def _get_webhook_info(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "url": self.webhook.get("url", ""),
            "has_custom_certificate": False,
            "pending_update_count": len(self._updates),
            **self.webhook_info,
        }

    async def _set_webhook(self, fields: dict[str, Any]) -> bool:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", fields.get("secret_token", "")):
            self.violations.append("a webhook without a secret")
        self.webhook = fields
        if self._posting is None:
            self._posting = asyncio.create_task(self._post_updates())
        return True

    async def _post_updates(self) -> None:
        """One after the other; what is not answered with 2xx is posted again."""
        async with ClientSession() as client:
            while True:
                async with self._news:
                    await self._news.wait_for(lambda: self._updates and self.webhook)
                update = self._updates[0]
                headers = {"X-Telegram-Bot-Api-Secret-Token": self.webhook["secret_token"]}
                async with client.post(self.webhook["url"], json=update, headers=headers) as response:
                    self.webhook_answers.append(response.status)
                if response.status // 100 == 2:
                    self._updates.pop(0)
                else:
                    await asyncio.sleep(0.05)

    async def _get_my_commands(self, fields: dict[str, Any]) -> list[dict[str, str]]:
        scope = json.loads(fields.get("scope", '{"type": "default"}'))
        return self.scoped_commands.get((scope["type"], fields.get("language_code", "")), [])

    async def _get_chat_member(self, fields: dict[str, Any]) -> dict[str, Any]:
        chat, user = int(fields["chat_id"]), int(fields["user_id"])
        if chat not in self.administrators:
            raise _Refused(400, "Bad Request: chat not found")
        rights = (
            "can_be_edited", "is_anonymous", "can_manage_chat", "can_delete_messages", "can_manage_video_chats",
            "can_restrict_members", "can_promote_members", "can_change_info", "can_invite_users",
            "can_post_stories", "can_edit_stories", "can_delete_stories",
        )  # fmt: skip
        if user in self.administrators[chat]:
            return {"status": "administrator", "user": _person(user, "en"), **dict.fromkeys(rights, True)}
        return {"status": "member", "user": _person(user, "en")}

    async def _set_my_commands(self, fields: dict[str, Any]) -> bool:
        commands = json.loads(fields["commands"])
        for command in commands:
            if not _COMMAND.fullmatch(command["command"]) or not 1 <= len(command["description"]) <= 256:
                raise _Refused(400, "Bad Request: BOT_COMMAND_INVALID")
        scope = json.loads(fields.get("scope", '{"type": "default"}'))
        if scope["type"] not in ("default", "all_private_chats", "all_group_chats", "chat"):
            raise _Refused(400, "Bad Request: can't parse BotCommandScope")
        if scope["type"] == "chat" and scope["chat_id"] not in self.messages and scope["chat_id"] != 1:
            raise _Refused(400, "Bad Request: chat not found")
        language = fields.get("language_code", "")
        self.scoped_commands[scope["type"], language] = commands
        if scope["type"] == "default":
            self.commands[language] = commands
        return True

    def _checked_markup(self, fields: dict[str, Any]) -> dict[str, Any] | None:
        if not fields.get("reply_markup"):
            return None
        markup = json.loads(fields["reply_markup"])
        for row in markup["inline_keyboard"]:
            for button in row:
                if not button["text"] or not 1 <= len(button["callback_data"].encode()) <= 64:
                    self.violations.append(f"button {button}")
                    raise _Refused(400, "Bad Request: BUTTON_DATA_INVALID")
        return markup if markup["inline_keyboard"] else None

    def _checked_text(self, fields: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
        """Telegram's own checks; what it would silently drop is a violation that fails the test."""
        text = str(fields.get("text", "")).strip()
        entities = json.loads(fields.get("entities", "[]"))
        length = len(text.encode("utf-16-le")) // 2
        if not text:
            self.violations.append("empty text")
            raise _Refused(400, "Bad Request: message text is empty")
        if length > 4096:
            self.violations.append(f"text of {length} units")
            raise _Refused(400, "Bad Request: message is too long")
        if len(entities) > 100:
            self.violations.append(f"{len(entities)} entities")
        for entity in entities:
            if entity["offset"] < 0 or entity["length"] < 1 or entity["offset"] + entity["length"] > length:
                self.violations.append(f"entity {entity} outside a text of {length} units")
                raise _Refused(400, "Bad Request: entity ends after the end of the text")
        return text, entities

    def _new_message_id(self) -> int:
        self._next_message += 1
        return self._next_message

    def _chat(self, chat: int, *, private: bool) -> dict[str, Any]:
        if private:
            return {"id": chat, "type": "private", "first_name": f"User{chat}"}
        forum = {"is_forum": True} if chat in self.chats_with_topics else {}
        return {"id": chat, "type": "supergroup", "title": "Friends", **forum}


def _person(user: int, language: str) -> dict[str, Any]:
    return {"id": user, "is_bot": False, "first_name": f"User{user}", "language_code": language}


def _entities(text: str) -> list[dict[str, Any]]:
    return [
        {"type": kind, "offset": len(text[: match.start()].encode("utf-16-le")) // 2, "length": len(match[0])}
        for kind, pattern in (("bot_command", r"/\w+(@\w+)?"), ("mention", r"(?<![\w/])@\w+"))
        for match in re.finditer(pattern, text)
        if kind == "mention" or match.start() == 0
    ]


async def _fields(request: web.Request) -> dict[str, Any]:
    fields: dict[str, Any] = dict(request.query)
    for name, value in (await request.post()).items():
        fields[name] = (value.filename, value.file.read()) if isinstance(value, web.FileField) else str(value)
    if request.content_type == "application/json" and request.can_read_body:
        # Clients may send JSON, whose nested values are not strings in it.
        for name, value in (await request.json()).items():
            fields[name] = value if isinstance(value, str | int | float) else json.dumps(value)
    return fields


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
