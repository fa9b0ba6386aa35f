"""What the operator's page talks to. It shows what runs, and acts by the commands of administrators."""

from __future__ import annotations

import secrets
from dataclasses import asdict

from aiohttp import web

from glmbot.delivery.deliveries import obey
from glmbot.messages import Dialogue, Message, Reply, ReplyState, Role
from glmbot_web.guard import Guard
from glmbot_web.normalize import BadRequest, OperatorCommand, PageMessage, page_message, parse
from glmbot_web.openai_api import openai_error

__all__ = ["OperatorApi"]

# A conversation of its own, which no page's random number is likely to be.
_CONVERSATION = 1


class OperatorApi:
    def __init__(self, dialogue: Dialogue, guard: Guard, role: Role) -> None:
        self._dialogue = dialogue
        self._guard = guard
        self._role = role

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/admin/overview", self._overview),
            web.post("/api/admin/command", self._command),
        ]

    async def _overview(self, request: web.Request) -> web.Response:
        self._only_administrators()
        return web.json_response(asdict(await self._dialogue.overview(request.query.get("after", ""))))

    async def _command(self, request: web.Request) -> web.Response:
        """Run one command to its end, and answer with the bot's words."""
        self._only_administrators()
        session = self._guard.needed_session(request)
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send application/json")
        try:
            text = parse(OperatorCommand, await request.read()).text
        except BadRequest as error:
            return openai_error(400, str(error), param=error.field or None)
        wish = PageMessage(id=secrets.token_hex(16), conversation=_CONVERSATION, text=text)
        language = request.query.get("language", "")
        message: Message = page_message(wish, session, language=language, vouched=self._role)
        await self._dialogue.accept(message)
        reply = await obey(self._dialogue, message) or Reply("", ReplyState.FINAL)
        return web.json_response({"state": reply.state, "notice": reply.notice})

    def _only_administrators(self) -> None:
        if self._role is not Role.ADMIN:
            raise web.HTTPForbidden(text="this page is for administrators: set [web] admin = true")
