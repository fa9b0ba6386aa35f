"""What Feishu posts: events and pressed buttons, encrypted and signed with the app's Encrypt Key.

https://open.feishu.cn/document/event-subscription-guide/event-subscriptions/event-subscription-configure-/encrypt-key-encryption-configuration-case:
AES-256-CBC under the SHA-256 of the key, the first block is the initial vector; the signature is the SHA-256 of
time, nonce, key and body. What is older than five minutes, or comes a second time, is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from glmbot.http.fields import as_object, parsed
from glmbot.http.quiet import Quiet
from glmbot.http.replays import Replays
from glmbot.http.routes import HttpAnswer, HttpCall, Route

__all__ = ["WINDOW_S", "callback_route", "decrypted", "signature_of"]

_log = logging.getLogger(__name__)

WINDOW_S = 300.0
_SIGNATURE, _TIMESTAMP, _NONCE = "X-Lark-Signature", "X-Lark-Request-Timestamp", "X-Lark-Request-Nonce"
_BLOCK = 16

Take = Callable[[bytes], Awaitable[Mapping[str, Any] | None]]


def signature_of(key: str, timestamp: str, nonce: str, body: bytes) -> str:
    return hashlib.sha256((timestamp + nonce + key).encode("utf-8", "surrogateescape") + body).hexdigest()


def decrypted(key: str, encrypted: str) -> bytes:
    """Raises ValueError."""
    content = base64.b64decode(encrypted, validate=True)
    if len(content) < 2 * _BLOCK or len(content) % _BLOCK:
        raise ValueError("not what was encrypted")
    cipher = Cipher(
        algorithms.AES(hashlib.sha256(key.encode()).digest()), modes.CBC(content[:_BLOCK])
    ).decryptor()
    padded = cipher.update(content[_BLOCK:]) + cipher.finalize()
    unpadder = PKCS7(8 * _BLOCK).unpadder()
    return unpadder.update(padded) + unpadder.finalize()


def callback_route(path: str, key: str, replays: Replays, take: Take, ready: Callable[[], bool]) -> Route:
    """ready: whether events can be taken yet."""
    quiet = Quiet()

    def complain(words: str) -> None:
        if quiet.lets(words):
            _log.warning("Feishu: %s", words)

    def admits(headers: Mapping[str, str]) -> bool:
        """Only the request that tries the address has no signature; it must be encrypted all the same."""
        if _SIGNATURE not in headers:
            return True
        if not replays.fresh(headers.get(_TIMESTAMP, "")):
            complain("a request of another time is refused; is this machine's clock right?")
            return False
        return True

    async def handle(call: HttpCall) -> HttpAnswer:
        signature = call.headers.get(_SIGNATURE, "").encode("utf-8", "surrogateescape")
        stamp, nonce = call.headers.get(_TIMESTAMP, ""), call.headers.get(_NONCE, "")
        expected = signature_of(key, stamp, nonce, call.body)
        signed = hmac.compare_digest(signature, expected.encode())
        if signature and not signed:
            complain("a request with a wrong signature is refused; is encrypt_key that of this app?")
            return HttpAnswer(401, "a wrong signature")
        if signed and replays.seen(expected):
            return HttpAnswer(403, "this was taken before")
        try:
            content = decrypted(key, as_object(parsed(call.body))["encrypt"])
            event = as_object(parsed(content))
        except (ValueError, TypeError, KeyError, RecursionError):
            # Without a signature nothing tells why: it would be known what can be decrypted.
            return (
                HttpAnswer(400, "not what Feishu sends") if signed else HttpAnswer(401, "without a signature")
            )
        if event.get("type") == "url_verification":
            return _json({"challenge": str(event.get("challenge", ""))[:1000]})
        if not signed:
            return HttpAnswer(401, "without a signature")
        if not ready():
            return HttpAnswer(503, "not yet")
        answer = await take(content)
        replays.take(expected)
        return _json(answer or {})

    return Route(path, admits, handle, most_s=3.0)


def _json(answer: Mapping[str, Any]) -> HttpAnswer:
    return HttpAnswer(text=json.dumps(answer), media_type="application/json")
