"""The web: a chat page and the operator's, the OpenAI-compatible interface, ChatGLM-6B's POST /, and what machines
ask: /healthz (is the process alive), /readyz (can it answer) and /metrics."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from importlib.resources import files
from typing import Any, ClassVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from glmbot.errors import (
    AdapterError,
    ContentRefused,
    EngineError,
    LimitReached,
    PlatformRefused,
    QueueFull,
    StoreError,
)
from glmbot.messages import Dialogue, Role, UserKey
from glmbot_web.delivery import Streams
from glmbot_web.guard import Guard, is_loopback
from glmbot_web.normalize import PLATFORM, BadRequest, chatglm_completion
from glmbot_web.openai_api import OpenAiApi, openai_error
from glmbot_web.operator_api import OperatorApi
from glmbot_web.page_api import PageApi

__all__ = ["WebAdapter", "WebSettings"]

_log = logging.getLogger(__name__)
_protocol_log = logging.getLogger(f"{__name__}.protocol")

_LARGEST_BODY = 8 * 2**20
_DRAIN_S = 5.0
_BODY_S = 30.0
_PAGES = {"/": "index.html", "/admin": "admin.html"}
_STATIC = ("app.js", "admin.js", "words.js", "style.css", "icon.svg")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class WebSettings(BaseModel):
    """The chat page and the HTTP interfaces."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        default="127.0.0.1", description="127.0.0.1 is this machine alone; others need a token."
    )
    port: int = Field(default=8080, ge=0, le=65535, description="0 takes any free port.")
    token: SecretStr | None = Field(
        default=None, description="Asked for by every interface. Better in GLMBOT_WEB__TOKEN."
    )
    admin: bool = Field(default=False, description="Whether whoever uses the page is an administrator.")


class WebAdapter:
    Settings: ClassVar[type[BaseModel]] = WebSettings

    def __init__(self, settings: WebSettings, dialogue: Dialogue) -> None:
        self._settings = settings
        self._dialogue = dialogue
        self._guard = Guard(settings.token.get_secret_value() if settings.token else None)
        self._streams = Streams(dialogue)
        self._runner: web.AppRunner | None = None
        self.url = ""

    @staticmethod
    def check(settings: WebSettings, running: WebSettings | None) -> None:
        """See `glmbot.messages.Adapter`. Raises AdapterError."""
        _refuse_strangers(settings)
        if settings.port and (running is None or running.port != settings.port):
            try:
                family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
                socket.create_server((settings.host.strip("[]"), settings.port), family=family).close()
            except OSError as error:
                raise _not_listening(settings, error) from error

    async def start(self) -> None:
        settings = self._settings
        _refuse_strangers(settings)
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._protect])
        app.add_routes(
            [
                *(web.get(path, self._page) for path in _PAGES),
                web.post("/", self._chatglm),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/static/{name}", self._static),
                *PageApi(self._dialogue, self._guard, self._streams, self._role()).routes(),
                *OperatorApi(self._dialogue, self._guard, self._role()).routes(),
                *OpenAiApi(self._dialogue).routes(),
            ]
        )
        # With handler_cancellation a client that goes away cancels its generation.
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=2, logger=_protocol_log
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, settings.host, settings.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise _not_listening(settings, error) from error
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _log.info("web page at %s", self.url)

    async def run(self) -> None:
        async with aclosing(self._dialogue.assigned(PLATFORM)) as assigned:
            async for entry in assigned:
                self._streams.begin(entry.message)

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        await self._streams.drain(_DRAIN_S)
        if self._runner is not None:
            await self._runner.cleanup()

    # ---- every request ------------------------------------------------------------------------------------

    @web.middleware
    async def _protect(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            self._guard.check_site(request)
            open_to_all = request.path in (*_PAGES, "/healthz", "/readyz") and request.method == "GET"
            open_to_all = open_to_all or request.path == "/api/login" or request.path.startswith("/static/")
            if not open_to_all and not self._guard.allowed(request):
                return openai_error(401, "a token is needed: Authorization: Bearer …", code="invalid_api_key")
            await _read_body(request)
            response = await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            response = openai_error(error.status, error.text or error.reason)
        except (ConnectionResetError, asyncio.CancelledError):
            raise
        except StoreError as error:
            _log.error("%s %s: %s", request.method, request.path, error)
            language = request.headers.get("Accept-Language", "")
            response = openai_error(503, self._dialogue.text(language, "answer.store_failed"))
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            response = openai_error(500, "something went wrong here; the log has it")
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    # ---- files ------------------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.Response:
        response = _file(_PAGES[request.path])
        self._guard.session(request, response)
        return response

    async def _static(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _STATIC:
            raise web.HTTPNotFound(text="no such file")
        return _file(name)

    # ---- programs -------------------------------------------------------------------------------------------

    async def _chatglm(self, request: web.Request) -> web.Response:
        try:
            completion, prompt, history = chatglm_completion(await request.read(), UserKey(PLATFORM, 0))
            text = ""
            async with aclosing(self._dialogue.complete(completion)) as replies:
                async for reply in replies:
                    text = reply.text
        except (BadRequest, ContentRefused, ValueError) as error:
            return _chatglm_answer(str(error), [], 400)
        except (LimitReached, QueueFull) as error:
            return _chatglm_answer(str(error), [], 429)
        except EngineError as error:
            return _chatglm_answer(str(error), [], 500)
        return _chatglm_answer(text, [*history, (prompt, text)], 200)

    async def _healthz(self, _: web.Request) -> web.Response:
        health = self._dialogue.health()
        body = {
            "status": "ok" if health.ok else "failed",
            "model": health.model,
            "precision": health.precision,
            "running": health.running,
            "waiting": health.waiting,
            **({"detail": health.detail} if health.detail else {}),
        }
        return web.json_response(body, status=200 if health.ok else 503)

    async def _readyz(self, _: web.Request) -> web.Response:
        """503 where nobody can be answered; what keeps only some from it is named all the same."""
        missing = await self._dialogue.obstacles()
        ready = all(obstacle.partial for obstacle in missing)
        body = {"status": "ready" if ready else "not ready", "missing": [str(each) for each in missing]}
        return web.json_response(body, status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        """For Prometheus, which sends the token as a bearer where one is set."""
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=self._dialogue.metrics(), headers={"Content-Type": kind})

    def _role(self) -> Role:
        return Role.ADMIN if self._settings.admin else Role.USER


def _refuse_strangers(settings: WebSettings) -> None:
    if settings.token is None and not is_loopback(settings.host):
        raise PlatformRefused(
            f"[web] host {settings.host} can be reached from other machines: set token"
            " (GLMBOT_WEB__TOKEN), or host to 127.0.0.1"
        )


def _not_listening(settings: WebSettings, error: OSError) -> AdapterError:
    return AdapterError(
        f"[web] {settings.host}:{settings.port} can't be listened on: {error.strerror or error};"
        " is another glmbot running? Take another port ([web] port, --port), or 0 for any"
    )


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


def _chatglm_answer(text: str, history: list[tuple[str, str]], status: int) -> web.Response:
    answer: dict[str, Any] = {
        "response": text,
        "history": history,
        "status": status,
        "time": datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
    }
    return web.json_response(answer, status=status)


def _file(name: str) -> web.Response:
    content = (files("glmbot_web") / "static" / name).read_bytes()
    kind = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    return web.Response(
        body=content,
        content_type=kind[name.rpartition(".")[2]],
        charset="utf-8",
        headers={"Cache-Control": "no-cache"},
    )
