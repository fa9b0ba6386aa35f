"""Who may use the web interfaces.

Without a token the server listens on loopback only, and answers only to loopback names, so that a foreign
page can't reach it by pointing its own name here (DNS rebinding). With a token everything needs it: programs
send `Authorization: Bearer`, pages log in once and keep a cookie. What changes anything also needs to come
from this very site.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

__all__ = ["Guard", "is_loopback"]

_SESSION = "glmbot_session"
_LOGIN = "glmbot_login"
_YEAR_S = 365 * 86400


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _parsed(address: str) -> SplitResult:
    """Nothing at all for what is no address."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


class Guard:
    def __init__(self, token: str | None) -> None:
        self._token = token
        self._login = hmac.new(token.encode(), b"glmbot login", hashlib.sha256).hexdigest() if token else ""

    def check_site(self, request: web.Request) -> None:
        """Raises 403 for a foreign host name, or for a browser's request that another site made."""
        host = _parsed(f"//{request.host}").hostname or ""
        if self._token is None and not is_loopback(host):
            raise web.HTTPForbidden(text=f"{host} is not this server's name")
        origin = request.headers.get("Origin")
        if request.method != "GET" and origin and _parsed(origin).netloc != request.host:
            raise web.HTTPForbidden(text="requests from other sites are refused")

    def allowed(self, request: web.Request) -> bool:
        if self._token is None:
            return True
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode()):
            return True
        return hmac.compare_digest(request.cookies.get(_LOGIN, "").encode(), self._login.encode())

    def log_in(self, given: str, response: web.StreamResponse) -> bool:
        """Keep the login in a cookie when `given` is the token."""
        if self._token is None or not hmac.compare_digest(given.encode(), self._token.encode()):
            return False
        response.set_cookie(_LOGIN, self._login, max_age=_YEAR_S, httponly=True, samesite="Strict")
        return True

    def needed_session(self, request: web.Request) -> int:
        """Raises 403 for a browser that has not opened a page yet."""
        session = self.session(request)
        if session is None:
            raise web.HTTPForbidden(text="open the page first; it sets a cookie")
        return session

    def session(self, request: web.Request, response: web.StreamResponse | None = None) -> int | None:
        """This browser's numeric id, from its cookie; made and set when `response` is given and it has none."""
        cookie = request.cookies.get(_SESSION, "")
        if cookie.isascii() and cookie.isdigit() and 0 < int(cookie[:20]) < 2**63:
            return int(cookie[:20])
        if response is None:
            return None
        made = secrets.randbelow(2**62) + 2**62
        response.set_cookie(_SESSION, str(made), max_age=_YEAR_S, httponly=True, samesite="Strict")
        return made
