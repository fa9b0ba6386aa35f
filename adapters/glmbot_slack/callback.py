"""What Slack posts: events, pressed buttons and slash commands, each signed with the app's secret.

https://docs.slack.dev/authentication/verifying-requests-from-slack: HMAC-SHA256 of "v0:time:body"; what is older
than five minutes, or comes a second time, is refused. What is not answered with 2xx is sent again, so an event is
confirmed only once it is stored: https://docs.slack.dev/apis/events-api#retries
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from glmbot.http.fields import as_object, parsed
from glmbot.http.quiet import Quiet
from glmbot.http.replays import Replays
from glmbot.http.routes import HttpAnswer, HttpCall, Route

__all__ = ["WINDOW_S", "callback_route", "signature_of"]

_log = logging.getLogger(__name__)

WINDOW_S = 300.0
_SIGNATURE, _TIMESTAMP = "X-Slack-Signature", "X-Slack-Request-Timestamp"
_MOST_FIELDS = 100

Take = Callable[[str, Mapping[str, Any]], Awaitable[bool]]
"""Stores what came, by its kind as Socket Mode names it; False when it can't yet. Raises StoreError."""


def signature_of(secret: str, timestamp: str, body: bytes) -> str:
    signed = b"v0:" + timestamp.encode() + b":" + body
    return f"v0={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def callback_route(path: str, secret: str, replays: Replays, take: Take) -> Route:
    quiet = Quiet()

    def complain(words: str) -> None:
        if quiet.lets(words):
            _log.warning("Slack: %s", words)

    def admits(headers: Mapping[str, str]) -> bool:
        """Whose clock is off hears nothing, and so is told in the log."""
        timestamp = headers.get(_TIMESTAMP, "")
        if _SIGNATURE not in headers or not timestamp:
            return False
        if not replays.fresh(timestamp):
            complain("a request of another time is refused; is this machine's clock right?")
            return False
        return True

    async def handle(call: HttpCall) -> HttpAnswer:
        given = call.headers.get(_SIGNATURE, "").encode("utf-8", "surrogateescape")
        signature = signature_of(secret, call.headers.get(_TIMESTAMP, ""), call.body)
        if not hmac.compare_digest(given, signature.encode()):
            complain("a request with a wrong signature is refused; is signing_secret that of this app?")
            return HttpAnswer(401, "a wrong signature")
        if replays.seen(signature):
            return HttpAnswer(403, "this was taken before")
        try:
            kind, payload = _read(call)
        except (ValueError, TypeError, RecursionError):
            return HttpAnswer(400, "not what Slack sends")
        if kind == "url_verification":
            challenge = payload.get("challenge")
            return HttpAnswer(text=challenge if isinstance(challenge, str) else "")
        if not await take(kind, payload):
            return HttpAnswer(503, "not yet")
        replays.take(signature)
        # A slash command's answer is a message of its own: words here would be another.
        return HttpAnswer(text="")

    return Route(path, admits, handle, most_s=3.0)


def _read(call: HttpCall) -> tuple[str, Mapping[str, Any]]:
    """The kind and what it says. Raises ValueError, TypeError."""
    if not call.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        payload = as_object(parsed(call.body))
        return ("url_verification" if payload.get("type") == "url_verification" else "events_api"), payload
    fields = parse_qs(call.body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    if "payload" in fields:
        return "interactive", as_object(parsed(fields["payload"][0]))
    return "slash_commands", {name: values[0] for name, values in fields.items()}
