"""What the chat page talks to: conversations, messages, and streams that can be come back to."""

from __future__ import annotations

import time
from math import isfinite
from typing import Protocol

from aiohttp import web

from glmbot.delivery.split import utf16_length
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Role
from glmbot.ports import Condition, Deliver, Menus, Pages
from glmbot_web.bodies import BadRequest, parse, parsed
from glmbot_web.delivery import Streams, TooManyStreams
from glmbot_web.events import Listeners
from glmbot_web.guard import ROLE, Guard
from glmbot_web.normalize import PLATFORM, BranchChoice, Login, PageMessage, page_id, page_message
from glmbot_web.openai_errors import openai_error
from glmbot_web.persons import Persons
from glmbot_web.render import to_blocks

__all__ = ["PageApi"]

_LONGEST_TITLE = 200
_LONGEST_NUMBER = 30


class _Wanted(Deliver, Menus, Pages, Condition, Protocol): ...


class PageApi:
    def __init__(
        self, dialogue: _Wanted, guard: Guard, persons: Persons, streams: Streams, listeners: Listeners
    ) -> None:
        self._dialogue = dialogue
        self._guard = guard
        self._persons = persons
        self._streams = streams
        self._listeners = listeners

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/hello", self._hello),
            web.post("/api/login", self._log_in),
            web.post("/api/logout", self._log_out),
            web.get("/api/conversations", self._conversations),
            web.get("/api/conversations/{id:[^/]+}", self._history),
            web.get("/api/conversations/{id:[^/]+}/outline", self._outline),
            web.post("/api/branch", self._choose),
            web.post("/api/messages", self._take_message),
            web.get("/api/streams/{name}", self._events),
        ]

    async def _hello(self, request: web.Request) -> web.Response:
        health = self._dialogue.health()
        role = request[ROLE]
        language = request.query.get("language", "en")
        return web.json_response(
            {
                "model": health.model,
                "precision": health.precision,
                "admin": role is Role.ADMIN,
                "operator": self._guard.has_administrators,
                "login": self._guard.has_login,
                "commands": [
                    {"name": info.name, "argument": info.argument, "description": info.description}
                    for info in self._dialogue.commands(language, role)
                ],
            }
        )

    async def _log_in(self, request: web.Request) -> web.Response:
        response = web.json_response({"ok": True})
        try:
            given = parse(Login, await request.read()).token
        except BadRequest as error:
            return openai_error(400, str(error), param=error.field or None)
        if await self._guard.log_in(request, given, response) is None:
            return openai_error(401, "wrong token", code="invalid_api_key")
        return response

    async def _log_out(self, request: web.Request) -> web.Response:
        """Whoever logs in there next sees nothing of this person's."""
        response = web.json_response({"ok": True})
        self._guard.log_out(request, response, person=True)
        return response

    async def _conversations(self, request: web.Request) -> web.Response:
        user = UserKey(PLATFORM, await self._persons.of(request))
        try:
            before = _page_before(request, user)
        except ValueError:
            return openai_error(400, "before is a time, and id a conversation's id", param="before")
        kept = [
            {
                "id": page_id(summary.conversation.chat),
                "title": summary.title[:_LONGEST_TITLE],
                "at": summary.at,
            }
            for summary in await self._dialogue.conversations(user, before=before)
        ]
        if before is not None:
            return web.json_response(kept)
        # One whose first answer is still being written has no turn yet.
        known = {entry["id"] for entry in kept}
        begun = {
            page_id(message.conversation.chat): message.text[:_LONGEST_TITLE]
            for message in self._streams.running_of(user)
            if page_id(message.conversation.chat) not in known and not message.text.startswith("/")
        }
        new = [{"id": chat, "title": title, "at": time.time()} for chat, title in begun.items()]
        return web.json_response([*new, *kept])

    async def _outline(self, request: web.Request) -> web.Response:
        """What is there, without a word of it: whether a page shows it all costs little to know."""
        conversation = await self._conversation(request)
        turns = [
            {
                "ref": turn.ref,
                "number": turn.number,
                "branches": list(turn.branches),
                "length": utf16_length(turn.answer),
            }
            for turn in await self._dialogue.history(conversation)
        ]
        return web.json_response({"turns": turns, "running": self._running(conversation)})

    async def _history(self, request: web.Request) -> web.Response:
        conversation = await self._conversation(request)
        kept = await self._dialogue.history(conversation)
        turns = await self._listeners.renderer.off_loop(
            lambda: [
                {
                    "ref": turn.ref,
                    "question": turn.question,
                    "text": turn.answer,
                    "thought": turn.thought,
                    "blocks": to_blocks(turn.answer),
                    "number": turn.number,
                    "branches": list(turn.branches),
                }
                for turn in kept
            ],
            sum(len(turn.answer) for turn in kept),
        )
        return web.json_response({"turns": turns, "running": self._running(conversation)})

    async def _conversation(self, request: web.Request) -> ConversationKey:
        """That of this browser's person. Raises 403, and 404 for what can't be one's id."""
        person = await self._persons.of(request)
        try:
            return ConversationKey(PLATFORM, request.match_info["id"], person)
        except ValueError as error:
            raise web.HTTPNotFound(text=f"no such conversation: {error}") from None

    def _running(self, conversation: ConversationKey) -> list[dict[str, str]]:
        user = UserKey(PLATFORM, conversation.user)
        return [
            {"ref": message.ref or message.about, "question": message.text, "stream": message.update_id}
            for message in self._streams.running_of(user, conversation)
        ]

    async def _choose(self, request: web.Request) -> web.Response:
        session = await self._persons.of(request)
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send application/json")
        try:
            choice = parse(BranchChoice, await request.read())
        except BadRequest as error:
            return openai_error(400, str(error), param=error.field or None)
        conversation = ConversationKey(PLATFORM, choice.conversation, session)
        if not await self._dialogue.choose_branch(conversation, choice.turn):
            words = self._dialogue.text(request.query.get("language", ""), "branch.refused")
            return openai_error(409, words)
        return web.json_response({"ok": True})

    async def _take_message(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send application/json")
        session = await self._persons.of(request)
        try:
            wish = await parsed(PageMessage, await request.read())
        except BadRequest as error:
            return openai_error(400, str(error), param=error.field or None)
        language = request.query.get("language", "")
        role = request[ROLE]
        source = self._guard.peers.source(request, role)
        message = page_message(wish, session, language=language, vouched=role, source=source)
        # Before it is accepted: its answer may begin before this request has ended.
        try:
            (stream, new), accepted = self._streams.expect(message), False
        except TooManyStreams:
            words = self._dialogue.text(
                language, "answer.too_many", count=self._streams.open_of(message.user)
            )
            return openai_error(429, words, code="too_many")
        try:
            accepted = await self._dialogue.accept(message, here=True)
        finally:
            # A question of before a restart may be known already, and its answer have begun meanwhile.
            if new and not accepted and not stream.begun:
                self._streams.forget(message)
        # What says nothing new, such as an edit to the same words, has no stream: the conversation has its answer.
        there = accepted or await self._streams.find(message.update_id, session) is not None
        return web.json_response({"stream": message.update_id}, status=202 if there else 200)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        session = self._guard.session(request)
        stream = await self._streams.find(request.match_info["name"], session or "")
        if stream is None:
            raise web.HTTPNotFound(text="no such stream; it ended a while ago")
        return await self._listeners.send(request, stream)


def _page_before(request: web.Request, user: UserKey) -> tuple[float, str] | None:
    """Where the page of conversations before ended; None for the first one. Raises ValueError."""
    if "before" not in request.query:
        return None
    at = float(request.query["before"][:_LONGEST_NUMBER])
    if not isfinite(at):
        raise ValueError
    return at, str(ConversationKey(PLATFORM, request.query.get("id", ""), user.id))
