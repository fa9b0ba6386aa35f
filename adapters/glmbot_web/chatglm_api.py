"""ChatGLM-6B's POST /, for programs that were written for its api.py.

https://github.com/zai-org/ChatGLM-6B/blob/main/api.py
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any

from aiohttp import web

from glmbot.ports import Completions
from glmbot_web.bodies import BadRequest, parsed
from glmbot_web.normalize import ChatGlmRequest, chatglm_completion
from glmbot_web.openai_errors import failure
from glmbot_web.program import Program

__all__ = ["ChatGlmApi"]


class ChatGlmApi:
    def __init__(self, dialogue: Completions, program: Callable[[web.Request], Program]) -> None:
        self._dialogue = dialogue
        self._program = program

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/", self.answer)]

    async def answer(self, request: web.Request) -> web.Response:
        try:
            wish = await parsed(ChatGlmRequest, await request.read())
        except BadRequest as error:
            return _answered(str(error), [], 400)
        try:
            completion, prompt, history = chatglm_completion(wish, *self._program(request))
            text = ""
            async with aclosing(self._dialogue.complete(completion)) as replies:
                async for reply in replies:
                    text = reply.text
        except Exception as error:
            found = failure(error)
            if found is None:
                raise
            return _answered(found.message, [], found.status)
        return _answered(text, [*history, (prompt, text)], 200)


def _answered(text: str, history: list[tuple[str, str]], status: int) -> web.Response:
    answer: dict[str, Any] = {
        "response": text,
        "history": history,
        "status": status,
        "time": datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
    }
    return web.json_response(answer, status=status)
