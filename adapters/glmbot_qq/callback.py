"""What QQ posts: events, signed with a key that is made of the AppSecret, and the trial of the address (op 13).

https://bot.q.qq.com/wiki/develop/api-v2/dev-prepare/interface-framework/sign.html: Ed25519 of time and body; the
seed is the secret, repeated to 32 bytes. What is older than five minutes, or comes a second time, is refused.

The trial asks, without a signature, for one of a time and a token. Whoever asked for that of a time and a whole
event would have what that event needs; so nothing is signed but a number and letters, which no event can be.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from glmbot.http.fields import Fields, as_object, fields_of, matching, parsed
from glmbot.http.quiet import Quiet
from glmbot.http.replays import Replays
from glmbot.http.routes import HttpAnswer, HttpCall, Route

__all__ = ["WINDOW_S", "callback_route", "private_key"]

_log = logging.getLogger(__name__)

WINDOW_S = 300.0
_APP, _SIGNATURE, _TIMESTAMP = "X-Bot-Appid", "X-Signature-Ed25519", "X-Signature-Timestamp"
_TRIAL, _TAKEN = 13, {"op": 12, "d": 0}
_SEED, _SIGNED = 32, 64
_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)
# Anybody can send one.
_LARGEST_TRIAL = 4096
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,128}")

Take = Callable[[Fields], Awaitable[None]]
"""Stores an event. Raises StoreError."""


def private_key(secret: str) -> Ed25519PrivateKey:
    """Raises ValueError for an empty secret."""
    seed = secret.encode()
    if not seed:
        raise ValueError("an empty secret")
    return Ed25519PrivateKey.from_private_bytes((seed * _SEED)[:_SEED])


def callback_route(
    path: str, app_id: str, secret: str, replays: Replays, take: Take, ready: Callable[[], bool]
) -> Route:
    """ready: whether events can be taken yet."""
    key = private_key(secret)
    public = key.public_key()
    complain = partial(_complain, quiet := Quiet())

    def admits(headers: Mapping[str, str]) -> bool:
        """Only the trial of the address has no signature."""
        if not hmac.compare_digest(_ascii(headers.get(_APP, app_id)), app_id.encode()):
            complain("a request for another bot is refused; is app_id that of this callback address?")
            return False
        if _SIGNATURE in headers and not replays.fresh(headers.get(_TIMESTAMP, "")):
            complain("a request of another time is refused; is this machine's clock right?")
            return False
        return True

    async def handle(call: HttpCall) -> HttpAnswer:
        signature = call.headers.get(_SIGNATURE, "")
        if signature and not _holds(signature, call):
            complain("a request with a wrong signature is refused; is token the bot's AppSecret?")
            return HttpAnswer(401, "a wrong signature")
        if signature and replays.seen(signature.lower()):
            return HttpAnswer(403, "this was taken before")
        if not signature and len(call.body) > _LARGEST_TRIAL:
            return HttpAnswer(401, "without a signature")
        try:
            payload = as_object(parsed(call.body))
            if payload.get("op") == _TRIAL:
                answer = _trial(key, fields_of(payload, "d"))
                if quiet.lets("trial"):
                    _log.info("QQ has tried the callback address")
                return _json(answer)
        except ValueError:
            return (
                HttpAnswer(400, "not what QQ sends") if signature else HttpAnswer(401, "without a signature")
            )
        if not signature:
            return HttpAnswer(401, "without a signature")
        if not ready():
            return HttpAnswer(503, "not yet")
        await take(payload)
        replays.take(signature.lower())
        return _json(_TAKEN)

    def _holds(signature: str, call: HttpCall) -> bool:
        try:
            given = bytes.fromhex(signature)
            if len(given) != _SIGNED or len(signature) != 2 * _SIGNED:
                return False
            public.verify(given, _ascii(call.headers.get(_TIMESTAMP, "")) + call.body)
        except (ValueError, InvalidSignature):
            return False
        return True

    # "机器人服务端需要在 3 秒内响应".
    return Route(path, admits, handle, most_s=3.0)


def _trial(key: Ed25519PrivateKey, asked: Fields) -> Mapping[str, Any]:
    """Raises ValueError for what is no trial."""
    token, stamp = matching(_PLAIN, asked.get("plain_token")), matching(_TIME, asked.get("event_ts"))
    return {"plain_token": token, "signature": key.sign(f"{stamp}{token}".encode()).hex()}


def _complain(quiet: Quiet, words: str) -> None:
    if quiet.lets(words):
        _log.warning("QQ: %s", words)


def _ascii(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _json(answer: Mapping[str, Any]) -> HttpAnswer:
    return HttpAnswer(text=json.dumps(answer), media_type="application/json")
