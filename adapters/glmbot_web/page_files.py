"""The files of the two pages: the chat and the operator's."""

from __future__ import annotations

import functools
import hashlib
from importlib.resources import files

from aiohttp import web

from glmbot_web.guard import Guard

__all__ = ["PAGES", "PageFiles"]

PAGES = {"/": "index.html", "/admin": "admin.html"}
_STATIC = (
    *("app.js", "blocks.js", "branches.js", "chats.js", "editing.js", "keys.js", "kept.js", "words.js"),
    *("admin.js", "plot.js", "servers.js", "toollog.js"),
    *("style.css", "icon.svg", "math.woff2"),
)


class PageFiles:
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def routes(self) -> list[web.RouteDef]:
        return [*(web.get(path, self.page) for path in PAGES), web.get("/static/{name}", self.static)]

    async def page(self, request: web.Request) -> web.Response:
        response = _file(request, PAGES[request.path])
        self._guard.session(request, response)
        return response

    async def static(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _STATIC:
            raise web.HTTPNotFound(text="no such file")
        return _file(request, name)


@functools.cache
def _content(name: str) -> tuple[bytes, str]:
    """A static file and its ETag, read once."""
    content = (files("glmbot_web") / "static" / name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:32]


def _file(request: web.Request, name: str) -> web.Response:
    content, etag = _content(name)
    known = [each.value for each in request.if_none_match or ()]
    kind = {
        "html": "text/html",
        "js": "text/javascript",
        "css": "text/css",
        "svg": "image/svg+xml",
        "woff2": "font/woff2",
    }
    response = web.Response(
        body=None if etag in known else content,
        status=304 if etag in known else 200,
        headers={"Cache-Control": "no-cache"},
    )
    if etag not in known:
        response.content_type = kind[name.rpartition(".")[2]]
        if response.content_type != "font/woff2":
            response.charset = "utf-8"
    response.etag = etag
    return response
