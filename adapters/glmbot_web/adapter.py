"""The web: a chat page and the operator's, the OpenAI-compatible interface, ChatGLM-6B's POST /, and what machines
ask: /healthz (is the process alive), /readyz (can it answer) and /metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import ClassVar, Protocol, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel

from glmbot.delivery.abilities import Ability, Profile
from glmbot.delivery.thoughts import without_thoughts
from glmbot.errors import AdapterError, StoreError
from glmbot.http.quiet import Quiet
from glmbot.http.registry import Routes
from glmbot.http.serving import Serving
from glmbot.keys import UserKey
from glmbot.listening import listening_error
from glmbot.ports import Chats, Completions, Condition, Deliver, Menus, Operator, Pages
from glmbot_web.bodies import LARGEST_BODY
from glmbot_web.chatglm_api import ChatGlmApi
from glmbot_web.connections import BodyRoom, Connections, affordable
from glmbot_web.delivery import Streams
from glmbot_web.events import Listeners, Renderer
from glmbot_web.guard import ROLE, STALE, Guard, person_of
from glmbot_web.machine_api import MachineApi
from glmbot_web.normalize import PLATFORM
from glmbot_web.openai_api import OpenAiApi
from glmbot_web.openai_errors import openai_error
from glmbot_web.operator_api import OperatorApi
from glmbot_web.origins import Origins
from glmbot_web.page_api import PageApi
from glmbot_web.page_files import PAGES, PageFiles
from glmbot_web.peers import Peers
from glmbot_web.persons import Persons
from glmbot_web.program import Program
from glmbot_web.settings import WebSettings, refuse_what_is_open, secret_of

__all__ = ["WebAdapter", "WebSettings"]

_log = logging.getLogger(__name__)
_protocol_log = logging.getLogger(f"{__name__}.protocol")

_DRAIN_S = 5.0
_BODY_S = 30.0
_IDLE_S = 30.0
_LINGERING_S = 2.0
_LARGEST_LOGIN = 128 * 1024
_ROOM_FOR_BODIES = 16 * LARGEST_BODY
_OWN = (*PAGES, "/healthz", "/readyz", "/metrics")
_OWN_BELOW = ("/api/", "/v1/", "/static/")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class _Wanted(Deliver, Chats, Menus, Pages, Condition, Operator, Completions, Protocol): ...


class WebAdapter:
    Settings: ClassVar[type[BaseModel]] = WebSettings
    profile: ClassVar[Profile] = Profile(frozenset(Ability) - {Ability.APPEND, Ability.DRAFT}, visited=True)

    def __init__(self, settings: WebSettings, dialogue: _Wanted) -> None:
        self._settings = settings
        self._dialogue = dialogue = dialogue if settings.show_thoughts else without_thoughts(dialogue)
        token, admin_token = secret_of(settings.token), secret_of(settings.admin_token)
        # A source counts over all processes, so its key is what they have in common.
        peers = Peers(settings.trusted_proxies, (token or admin_token or "").encode())
        self._guard = Guard(
            token,
            admin_token,
            peers,
            origins=Origins(settings.allowed_origins),
            hosts=settings.allowed_hosts,
            everybody_is_admin=settings.admin,
        )
        self._streams = Streams(dialogue)
        self._renderer = Renderer()
        self._listeners = Listeners(self._renderer)
        self._routes = Routes()
        self._serving = Serving()
        self._bodies = BodyRoom(_ROOM_FOR_BODIES)
        self._quiet = Quiet()
        self._runner: web.AppRunner | None = None
        self._connections: Connections | None = None
        self._listening: asyncio.Server | None = None
        self.url = ""

    @staticmethod
    def check(settings: WebSettings, running: WebSettings | None) -> None:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        refuse_what_is_open(settings)
        if settings.port and (running is None or running.port != settings.port):
            error = listening_error(settings.host.strip("[]"), settings.port)
            if error is not None:
                raise _not_listening(settings, error) from error

    @staticmethod
    def owns(path: str) -> bool:
        """Whether no other adapter may have a route there."""
        return path in _OWN or path.startswith(_OWN_BELOW)

    def serve_routes(self, routes: Routes) -> None:
        """See `glmbot.ports.Adapter`."""
        self._routes = routes

    async def start(self) -> None:
        settings = self._settings
        refuse_what_is_open(settings)
        for well, words in settings.advice():
            if not well:
                _log.warning("[web] %s", words)
        persons = Persons(self._guard, self._dialogue)
        app = web.Application(client_max_size=LARGEST_BODY, middlewares=[self._protect])
        app.on_response_prepare.append(self._guard.origins.sign)
        app.add_routes(
            [
                *PageFiles(self._guard).routes(),
                *MachineApi(self._dialogue).routes(),
                *ChatGlmApi(self._dialogue, self._program).routes(),
                *PageApi(self._dialogue, self._guard, persons, self._streams, self._listeners).routes(),
                *OperatorApi(self._dialogue, self._guard, persons, self._streams).routes(),
                *OpenAiApi(self._dialogue, self._program).routes(),
            ]
        )
        # With handler_cancellation a client that goes away cancels its generation. What is compressed is refused
        # by its header, so nothing unpacks it. keepalive_timeout is also the time that a request's head may take.
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=2,
            logger=_protocol_log,
            auto_decompress=False,
            keepalive_timeout=_IDLE_S,
            lingering_time=_LINGERING_S,
        )
        await self._runner.setup()
        self._connections = Connections(self._runner, affordable(settings.max_connections))
        try:
            self._listening = await asyncio.get_running_loop().create_server(
                self._connections, settings.host, settings.port, backlog=self._connections.backlog
            )
        except OSError as error:
            await self._runner.cleanup()
            raise _not_listening(settings, error) from error
        host, port = self._listening.sockets[0].getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _log.info("web page at %s", self.url)

    async def run(self) -> None:
        async with aclosing(self._dialogue.assigned(PLATFORM)) as assigned:
            async for entry in assigned:
                self._streams.begin(entry.message)

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        if self._listening is not None:
            self._listening.close()
        await self._streams.drain(_DRAIN_S)
        self._listeners.end()
        await self._serving.hang_up()
        if self._runner is not None:
            await self._runner.cleanup()
        self._renderer.close()

    # ---- every request ------------------------------------------------------------------------------------

    @web.middleware
    async def _protect(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            response = await self._admitted(request, handler)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            kept = {name: error.headers[name] for name in ("Retry-After", "Allow") if name in error.headers}
            response = openai_error(error.status, (error.text or error.reason)[:500], headers=kept)
        except (ConnectionResetError, asyncio.CancelledError):
            raise
        except StoreError as error:
            self._complain("the store", "%s %r: %s", request.method, request.path, error)
            language = request.headers.get("Accept-Language", "")
            response = openai_error(503, self._dialogue.text(language, "answer.store_failed"))
        except Exception as error:
            words = "%s %r failed"
            self._complain(type(error).__name__, words, request.method, request.path, exc_info=error)
            response = openai_error(500, "something went wrong here; the log has it")
        if not response.prepared:
            response.headers.update(_HEADERS)
            if request.get(STALE, False):
                self._guard.log_out(request, response)
        return response

    async def _admitted(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """From the cheapest question to the dearest: nothing of a body is read for who may not send one."""
        connections = cast(Connections, self._connections)
        route = None if self.owns(request.path) else self._routes.find(request.path)
        with connections.busy(request, self._guard.peers.address(request)):
            if route is not None:
                # It knows its callers by what they carry, whatever name they know us by.
                return await self._serving.answer(request, route, self._bodies.taken)
            if (permission := self._guard.origins.preflight(request)) is not None:
                return permission
            self._guard.check_site(request)
            login = request.path in ("/api/login", "/api/logout")
            if not login and not _is_open_to_all(request):
                role = await self._guard.role(request)
                if role is None:
                    words = (
                        "this token is wrong, or holds no longer"
                        if request.get(STALE, False)
                        else "a token is needed: Authorization: Bearer …"
                    )
                    return openai_error(401, words, code="invalid_api_key")
                request[ROLE] = role
            if not request.can_read_body:
                return await handler(request)
            most = _LARGEST_LOGIN if login else LARGEST_BODY
            with self._bodies.taken(_length(request, most)):
                await _read_body(request)
                return await handler(request)

    def _complain(self, kind: str, words: str, *values: object, exc_info: Exception | None = None) -> None:
        if self._quiet.lets(kind):
            _log.error(words, *values, exc_info=exc_info)

    # ---- programs -------------------------------------------------------------------------------------------

    def _program(self, request: web.Request) -> Program:
        """A person for each address and token, so that one program's requests wait for its own."""
        role = request[ROLE]
        source = self._guard.peers.source(request, role)
        return Program(UserKey(PLATFORM, person_of(f"program {source}")), source)


def _not_listening(settings: WebSettings, error: OSError) -> AdapterError:
    return AdapterError(
        f"[web] {settings.host}:{settings.port} can't be listened on: {error.strerror or error};"
        " is another glmbot running? Take another port ([web] port, --port), or 0 for any"
    )


def _is_open_to_all(request: web.Request) -> bool:
    if request.method not in ("GET", "HEAD"):
        return False
    return request.path in (*PAGES, "/healthz", "/readyz") or request.path.startswith("/static/")


def _length(request: web.Request, most: int) -> int:
    """Of the body, as it will be at most. Raises 413 and 415."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        raise web.HTTPUnsupportedMediaType(text="send the body as it is: Content-Encoding is not supported")
    length = request.content_length
    if length is None:
        if most < LARGEST_BODY:
            raise web.HTTPLengthRequired(text="send Content-Length")
        return most
    if length > most:
        raise web.HTTPRequestEntityTooLarge(
            max_size=most, actual_size=length, text=f"the body has {length} bytes, and may have {most}"
        )
    return length


async def _read_body(request: web.Request) -> None:
    """Handlers get what is read here. Raises HTTPRequestTimeout for a body that comes a byte at a time."""
    try:
        async with asyncio.timeout(_BODY_S):
            await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text="the body of the request took too long") from error


def _is_our_fault(record: logging.LogRecord) -> bool:
    """What is no HTTP at all is answered with a 400, and who goes away is gone; neither may fill the log."""
    return not (
        record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | ConnectionResetError)
    )


_protocol_log.addFilter(_is_our_fault)
