"""Who may use the web interfaces, and as what.

Two tokens: one for chatting and for programs, one for administrators. Without a token the server listens on
loopback only, and answers only to loopback names, so that a foreign page can't reach it by pointing its own name
here (DNS rebinding), and not through a proxy. Programs send `Authorization: Bearer`, pages log in once and keep a
cookie. What changes anything also needs to come from this very site.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

from glmbot.messages import Role
from glmbot_web.attempts import Attempts, TooManyAttempts
from glmbot_web.origins import Origins
from glmbot_web.peers import Peers, is_loopback

__all__ = ["DERIVED_BELOW", "ROLE", "STALE", "Guard", "person_of"]

# What a request may do, once it is known.
ROLE: web.RequestKey[Role] = web.RequestKey("role", Role)
# Its login holds no longer, and counts as a wrong token as long as the browser shows it.
STALE: web.RequestKey[bool] = web.RequestKey("stale", bool)

SESSION = "glmbot_session"
LOGIN = "glmbot_login"
_YEAR_S = 365 * 86400
_LONGEST_CREDENTIAL = 1000
# Decimal digits, as the cookies of earlier releases; that many hold 128 bits.
_SESSION_DIGITS = 39
DERIVED_BELOW = 2**62


def person_of(session: str) -> str:
    """The person whom a session cookie stands for: a number, in digits, that does not tell the cookie."""
    digest = hashlib.sha256(b"glmbot session " + session.encode()).digest()
    return str(int.from_bytes(digest[:8], "big") % (DERIVED_BELOW - 1) + 1)


def _parsed(address: str) -> SplitResult:
    """Nothing at all for what is no address."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _digest(credential: str) -> bytes:
    """Of equal length for all, so that comparing takes equally long; headers may hold bytes that are no text."""
    return hashlib.sha256(credential.encode("utf-8", "surrogateescape")).digest()


class Guard:
    def __init__(
        self,
        token: str | None,
        admin_token: str | None,
        peers: Peers,
        *,
        origins: Origins | None = None,
        hosts: Collection[str] = (),
        everybody_is_admin: bool = False,
    ) -> None:
        """everybody_is_admin: counts only while there is no token at all."""
        self.peers = peers
        self.origins = origins or Origins(())
        self._hosts = hosts
        self._open = token is None
        self._admin_by_token = admin_token is not None
        self._everybody = Role.ADMIN if everybody_is_admin and token is admin_token is None else Role.USER
        self._attempts = Attempts(time.monotonic)
        self._roles: list[tuple[bytes, Role]] = []
        self._cookies: dict[str, str] = {}
        for known, role in ((admin_token, Role.ADMIN), (token, Role.USER)):
            if known is not None:
                cookie = hmac.new(known.encode(), b"glmbot login", hashlib.sha256).hexdigest()
                self._cookies[known] = cookie
                self._roles += [(_digest(known), role), (_digest(cookie), role)]

    @property
    def has_login(self) -> bool:
        return bool(self._roles)

    @property
    def has_administrators(self) -> bool:
        """Whether anybody can be an administrator here."""
        return self._admin_by_token or self._everybody is Role.ADMIN

    def check_site(self, request: web.Request) -> None:
        """Raises 403 for a foreign host name, a browser's request that another site made, and without a token for
        what comes through a proxy."""
        named = request.headers.get("Host", "")
        host = _parsed(f"//{named}").hostname or ""
        # A browser always sends a name; a probe may not.
        if self._open and named and not is_loopback(host) and host not in self._hosts:
            raise web.HTTPForbidden(
                text=f"{host[:100]!r} is not this server's name; names other than this machine's own need a"
                " token ([web] token, GLMBOT_WEB__TOKEN), or stand in [web] allowed_hosts"
            )
        if self._open and self.peers.unknown_proxy(request):
            raise web.HTTPForbidden(
                text="this came through a proxy, and no token is set: set [web] token (GLMBOT_WEB__TOKEN),"
                " or name the proxy in trusted_proxies if it asks who somebody is"
            )
        origin = request.headers.get("Origin")
        ours = not origin or _parsed(origin).netloc == named or self.origins.allows(request)
        if request.method not in ("GET", "HEAD") and not ours:
            raise self.origins.refusal(request)

    async def role(self, request: web.Request) -> Role | None:
        """What this request may do; None: nothing. Raises 429 after too many wrong tokens."""
        fallback = self._everybody if self._open else None
        # Clients of an open interface send whatever they like as their key.
        if self._open and not request.path.startswith("/api/"):
            return fallback
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else ""
        given = given or request.cookies.get(LOGIN, "")
        if not given or not self._roles:
            return fallback
        role = await self._compared(request, given)
        request[STALE] = role is None
        return role or fallback

    async def log_in(self, request: web.Request, given: str, response: web.StreamResponse) -> Role | None:
        """Keep the login in a cookie when `given` is a token. Raises 429 after too many wrong ones."""
        role = await self._compared(request, given)
        cookie = self._cookies.get(given)
        if role is None or cookie is None:
            return None
        self._set(request, response, LOGIN, cookie)
        return role

    def log_out(self, request: web.Request, response: web.StreamResponse, *, person: bool = False) -> None:
        """person: who comes next in this browser is somebody else, too."""
        secure = self.peers.is_https(request)
        for name in (LOGIN, SESSION) if person else (LOGIN,):
            response.del_cookie(name, httponly=True, samesite="Strict", secure=secure)

    def needed_session(self, request: web.Request) -> str:
        """Raises 403 for a browser that has not opened a page yet."""
        session = self.session(request)
        if session is None:
            raise web.HTTPForbidden(text="open the page first; it sets a cookie")
        return session

    def session(self, request: web.Request, response: web.StreamResponse | None = None) -> str | None:
        """This browser's person, from its cookie; made and set when `response` is given and it has none."""
        cookie = self.cookie(request)
        if cookie:
            return person_of(cookie)
        if response is None:
            return None
        made = str(secrets.randbelow(9 * 10 ** (_SESSION_DIGITS - 1)) + 10 ** (_SESSION_DIGITS - 1))
        self._set(request, response, SESSION, made)
        return person_of(made)

    @staticmethod
    def cookie(request: web.Request) -> str:
        """Digits, or "" without a session."""
        cookie = request.cookies.get(SESSION, "")
        return cookie if cookie.isascii() and cookie.isdigit() and len(cookie) <= _SESSION_DIGITS else ""

    async def _compared(self, request: web.Request, given: str) -> Role | None:
        if not self._roles or len(given) > _LONGEST_CREDENTIAL:
            return None
        address = self.peers.address(request)
        try:
            wait = self._attempts.reserve(address)
        except TooManyAttempts as error:
            raise web.HTTPTooManyRequests(
                text=str(error), headers={"Retry-After": str(round(error.wait_s) + 1)}
            ) from error
        if wait:
            await asyncio.sleep(wait)
        digest, found = _digest(given), None
        for known, role in self._roles:
            if hmac.compare_digest(known, digest):
                found = found or role
        if found is not None:
            self._attempts.right(address)
        return found

    def _set(self, request: web.Request, response: web.StreamResponse, name: str, value: str) -> None:
        secure = self.peers.is_https(request)
        response.set_cookie(
            name, value, max_age=_YEAR_S, httponly=True, samesite="Strict", secure=secure, path="/"
        )
