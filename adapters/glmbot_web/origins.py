"""Which other sites' pages may call the interfaces for programs (CORS).

https://fetch.spec.whatwg.org/#http-cors-protocol. Cookies are not among what such a page may send: it brings a
token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web

__all__ = ["Origins", "check_host", "check_origin"]

_REMEMBERED_S = "600"
_HOST = re.compile(r"[a-z0-9._-]{1,253}")
_HEADERS = "Authorization, Content-Type"
_LONGEST_SHOWN = 100


def check_origin(text: str) -> str:
    """Raises ValueError for what is no origin, such as https://chat.example.org."""
    parts = urlsplit(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or f"{parts.scheme}://{parts.netloc}" != text
    ):
        raise ValueError("an origin is a scheme, a name and a port, such as https://chat.example.org")
    if parts.username is not None or parts.netloc != parts.netloc.lower():
        raise ValueError("an origin is written in small letters and holds no user")
    return text


def check_host(text: str) -> str:
    """Raises ValueError for what is no host name alone."""
    if not _HOST.fullmatch(text):
        raise ValueError("a host is a name in small letters without a port, such as host.docker.internal")
    return text


class Origins:
    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = frozenset(allowed)

    def allows(self, request: web.Request) -> bool:
        """Whether another site's page may make this request."""
        programs = request.path.startswith("/v1/") or (request.path == "/" and request.method != "GET")
        return programs and request.headers.get("Origin", "") in self._allowed

    def refusal(self, request: web.Request) -> web.HTTPForbidden:
        origin = request.headers.get("Origin", "")[:_LONGEST_SHOWN]
        return web.HTTPForbidden(
            text=f"requests from other sites are refused; pages of {origin!r} may call /v1 and POST / when it"
            " stands in [web] allowed_origins"
        )

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks before a request of another site's page; None when it does not ask.
        Raises 403."""
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        if not self.allows(request):
            raise self.refusal(request)
        headers = {
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": _REMEMBERED_S,
        }
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers)

    async def sign(self, request: web.Request, response: web.StreamResponse) -> None:
        """Before any response begins, streams and refusals included: let the page that asked read it."""
        if not self._allowed:
            return
        response.headers["Vary"] = "Origin"
        if self.allows(request):
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
