"""A model server on the chat interface that calls what a test wants, in pieces as servers send them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from platforms.listener import Listener

__all__ = ["ToolServer", "piece", "tool_server", "words"]

Delta = dict[str, Any]


def words(text: str) -> Delta:
    return {"content": text}


def piece(arguments: Any = None, name: str = "", id: str = "", index: int | None = 0) -> Delta:
    function = {
        key: value for key, value in (("name", name), ("arguments", arguments)) if value not in ("", None)
    }
    told: dict[str, Any] = {"function": function, **({"id": id, "type": "function"} if id else {})}
    return {"tool_calls": [told if index is None else {**told, "index": index}]}


class ToolServer:
    """Plays `rounds`, one to each request, the last to all that follow. `no_tools`: the status with which it refuses
    any tool. `refuses`: what a tool's description may not hold."""

    def __init__(self, *rounds: Sequence[Delta], finish: str = "tool_calls") -> None:
        self.rounds: list[Sequence[Any]] = list(rounds)
        self.finish = finish
        self.chats: list[dict[str, Any]] = []
        self.no_tools: int | None = None
        self.refuses = ""
        self.url = ""

    @property
    def refused(self) -> list[dict[str, Any]]:
        return [chat for chat in self.chats if "tools" in chat]

    def says(self, fields: dict[str, Any]) -> Sequence[Delta]:
        """What it answers to such a body."""
        if fields.get("tools", [{}])[0].get("function", {}).get("name") == "ping":
            return [words("pong")]
        return self.rounds.pop(0) if len(self.rounds) > 1 else self.rounds[0]

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m"}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        fields = await request.json()
        self.chats.append(fields)
        if self.no_tools is not None and (
            "tools" in fields or any(message["role"] == "tool" for message in fields["messages"])
        ):
            return self._refusal(self.no_tools, "tools param requires --jinja flag")
        if self.refuses and self.refuses in json.dumps(fields.get("tools")):
            return self._refusal(400, "that tool is none")
        says = self.says(fields)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for delta in says:
            await answer.write(self._event(delta, None))
        calls = any("tool_calls" in delta for delta in says)
        await answer.write(self._event({}, self.finish if calls else "stop"))
        await answer.write(b"data: [DONE]\n\n")
        return answer

    def _refusal(self, status: int, text: str) -> web.Response:
        return web.json_response({"error": {"message": text}}, status=status)

    def _event(self, delta: Delta, finish: str | None) -> bytes:
        event = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        return b"data: " + json.dumps(event).encode() + b"\n\n"


@asynccontextmanager
async def tool_server(
    *rounds: Sequence[Delta], finish: str = "tool_calls", made: ToolServer | None = None
) -> AsyncGenerator[ToolServer]:
    server = made or ToolServer(*rounds, finish=finish)
    app = web.Application()
    app.router.add_get("/v1/models", server.models)
    app.router.add_post("/v1/chat/completions", server.chat)
    listener = Listener()
    server.url = f"http://{await listener.open(app)}/v1"
    try:
        yield server
    finally:
        await listener.close()
