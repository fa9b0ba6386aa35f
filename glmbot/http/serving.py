"""Answering a request by a route, from the cheapest question to the dearest, whatever its adapter does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

from aiohttp import WSCloseCode, web

from glmbot.errors import StoreError
from glmbot.http.quiet import Quiet
from glmbot.http.routes import HttpAnswer, HttpCall, Route, Talk
from glmbot.http.talk import PING_S, SocketTalk

__all__ = ["Serving"]

_log = logging.getLogger(__name__)


class Serving:
    def __init__(self) -> None:
        self._quiet = Quiet()
        self._sockets: set[web.WebSocketResponse] = set()

    async def hang_up(self) -> None:
        """End all WebSockets: who waits for them to end by themselves waits for ever."""
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in list(self._sockets)))

    async def answer(
        self,
        request: web.Request,
        route: Route,
        room: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> web.StreamResponse:
        """room: holds memory for a body of so many bytes while it is worked on."""
        if request.method not in route.methods:
            refused = _refused(405, "this address takes other methods")
            refused.headers["Allow"] = ", ".join(sorted(route.methods))
            return refused
        if not self._admits(route, request):
            return _refused(401, "wrong secret")
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            return _refused(415, "send it as it is, not packed")
        if route.talk is not None and request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._talked(request, route, route.talk)
        length = request.content_length
        if length is not None and length > route.most_bytes:
            return _refused(413, f"the body has {length} bytes, and may have {route.most_bytes}")
        with room(route.most_bytes if length is None else length):
            try:
                async with asyncio.timeout(route.most_s):
                    body = await _body(request, route.most_bytes)
            except TimeoutError:
                return _refused(408, "the body did not come in time")
            if body is None:
                return _refused(413, f"the body may have {route.most_bytes} bytes")
            answered = await self._handled(
                route, HttpCall(request.method, request.headers, request.query, body)
            )
        return web.Response(status=answered.status, text=answered.text, content_type=answered.media_type)

    async def _talked(
        self,
        request: web.Request,
        route: Route,
        talk: Callable[[HttpCall, Talk], Awaitable[None]],
    ) -> web.StreamResponse:
        """Raises what aiohttp answers to who speaks no WebSocket."""
        socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=route.most_bytes, compress=False)
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            await talk(HttpCall(request.method, request.headers, request.query, b""), SocketTalk(socket))
        except Exception as error:
            self._complain(route, error)
        finally:
            self._sockets.discard(socket)
            await socket.close()
        return socket

    def _admits(self, route: Route, request: web.Request) -> bool:
        try:
            return route.admits(request.headers)
        except Exception as error:
            self._complain(route, error)
            return False

    async def _handled(self, route: Route, call: HttpCall) -> HttpAnswer:
        try:
            async with asyncio.timeout(route.most_s):
                return await route.handle(call)
        except StoreError as error:
            _log.warning("a request could not be stored, and will come again: %s", error)
            return HttpAnswer(503, "try again")
        except TimeoutError:
            _log.warning("a request took more than %g s, and will come again", route.most_s)
            return HttpAnswer(503, "try again")
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # also a panic of a library in Rust
            self._complain(route, error)
            return HttpAnswer(500, "something went wrong here; the log has it")

    def _complain(self, route: Route, error: BaseException) -> None:
        """Not the path: people write secrets into it."""
        if self._quiet.lets(f"{type(error).__name__} {route.handle!r}"):
            _log.error("a route of an adapter failed", exc_info=error)


async def _body(request: web.Request, most: int) -> bytes | None:
    """None for one that is too long."""
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > most:
            return None
        parts.append(part)
    return b"".join(parts)


def _refused(status: int, words: str) -> web.Response:
    """Nothing more is read from whom this goes to."""
    response = web.Response(status=status, text=words)
    response.force_close()
    return response
