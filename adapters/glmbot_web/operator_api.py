"""What the operator's page talks to. It shows what runs, and acts by the commands of administrators."""

from __future__ import annotations

import json
import secrets
from contextlib import aclosing
from dataclasses import asdict
from typing import Protocol

from aiohttp import web

from glmbot.messages import Role
from glmbot.ports import Deliver, Operator
from glmbot_web.bodies import BadRequest, parse
from glmbot_web.delivery import Streams, TooManyStreams
from glmbot_web.guard import ROLE, Guard
from glmbot_web.normalize import OperatorCommand, PageMessage, PanelWish, page_message
from glmbot_web.openai_errors import openai_error
from glmbot_web.persons import Persons

__all__ = ["OperatorApi"]

# A conversation of its own, which no page's random number is likely to be.
_CONVERSATION = "1"
_LONGEST_KEY = 200
_LARGEST_WISH = 64 * 1024
_LONGEST_COMPLAINT = 500


class _Wanted(Deliver, Operator, Protocol): ...


class OperatorApi:
    def __init__(self, dialogue: _Wanted, guard: Guard, persons: Persons, streams: Streams) -> None:
        self._dialogue = dialogue
        self._guard = guard
        self._persons = persons
        self._streams = streams

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/admin/overview", self._overview),
            web.post("/api/admin/command", self._command),
            web.get("/api/admin/tools", self._tool_calls),
            web.get("/api/admin/tools/all", self._all_tool_calls),
            web.get("/api/admin/panels/{name}", self._panel),
            web.post("/api/admin/panels/{name}", self._panel_does),
        ]

    async def _overview(self, request: web.Request) -> web.Response:
        self._only_administrators(request)
        after = request.query.get("after", "")[:_LONGEST_KEY]
        return web.json_response(asdict(await self._dialogue.overview(after)))

    async def _command(self, request: web.Request) -> web.Response:
        """Have one command obeyed as any other message is, and answer with the bot's words."""
        role = self._only_administrators(request)
        session = await self._persons.of(request)
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send application/json")
        try:
            text = parse(OperatorCommand, await request.read()).text
        except BadRequest as error:
            return openai_error(400, str(error), param=error.field or None)
        wish = PageMessage(id=secrets.token_hex(16), conversation=_CONVERSATION, text=text)
        language = request.query.get("language", "")
        source = self._guard.peers.source(request, role)
        message = page_message(wish, session, language=language, vouched=role, source=source)
        try:
            stream, _ = self._streams.expect(message)
        except TooManyStreams:
            raise web.HTTPTooManyRequests(text="too many commands are not answered yet") from None
        accepted = False
        try:
            accepted = await self._dialogue.accept(message, here=True)
        finally:
            if not accepted:
                self._streams.forget(message)
        reply = await stream.ended()
        return web.json_response({"state": reply.state, "notice": reply.notice})

    async def _tool_calls(self, request: web.Request) -> web.Response:
        self._only_administrators(request)
        before, matching = (request.query.get(name, "")[:_LONGEST_KEY] for name in ("before", "matching"))
        return web.json_response(asdict(await self._dialogue.tool_calls(before, matching)))

    async def _all_tool_calls(self, request: web.Request) -> web.Response:
        """As `glmbot toollog` prints them."""
        self._only_administrators(request)
        lines: list[str] = []
        async with aclosing(
            self._dialogue.all_tool_calls(request.query.get("matching", "")[:_LONGEST_KEY])
        ) as calls:
            async for call in calls:
                lines.append(json.dumps(asdict(call), ensure_ascii=False) + "\n")
        headers = {"Content-Disposition": 'attachment; filename="toollog.jsonl"'}
        return web.Response(text="".join(lines), content_type="application/x-ndjson", headers=headers)

    async def _panel(self, request: web.Request) -> web.Response:
        """What a plug-in shows here; null where there is none of this name."""
        self._only_administrators(request)
        try:
            return web.json_response({"panel": await self._dialogue.panel(request.match_info["name"])})
        except ValueError as error:
            return openai_error(503, str(error)[:_LONGEST_COMPLAINT])

    async def _panel_does(self, request: web.Request) -> web.Response:
        self._only_administrators(request)
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send application/json")
        body = await request.read()
        if len(body) > _LARGEST_WISH:
            raise web.HTTPRequestEntityTooLarge(max_size=_LARGEST_WISH, actual_size=len(body))
        try:
            wish = parse(PanelWish, body).model_extra or {}
            language = request.query.get("language", "")[:_LONGEST_KEY]
            words = await self._dialogue.panel_does(request.match_info["name"], wish, language)
        except BadRequest as error:
            return openai_error(400, str(error), param=error.field or None)
        except ValueError as error:
            return openai_error(400, str(error)[:_LONGEST_COMPLAINT])
        return web.json_response({"notice": words})

    def _only_administrators(self, request: web.Request) -> Role:
        """Raises 401 where logging in helps, else 403."""
        role = request[ROLE]
        if role is Role.ADMIN:
            return role
        if self._guard.has_administrators:
            raise web.HTTPUnauthorized(text="this is for administrators: log in with [web] admin_token")
        raise web.HTTPForbidden(
            text="this page is for administrators: set [web] admin_token (GLMBOT_WEB__ADMIN_TOKEN)"
        )
