"""What WeCom posts for an application: the address is tried with GET, messages come with POST.

https://developer.work.weixin.qq.com/document/path/90930. What is older than five minutes, or comes a second time,
is refused; but while a message's answer may not have arrived the same request gets the same answer.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from glmbot.http.quiet import Quiet
from glmbot.http.replays import Replays
from glmbot.http.routes import HttpAnswer, HttpCall, Route
from glmbot_wecom.crypt import Crypt
from glmbot_wecom.envelope import fields_in, written

__all__ = ["WINDOW_S", "callback_route"]

_log = logging.getLogger(__name__)

WINDOW_S = 300.0
_LARGEST_BODY = 64 * 2**10
_LONGEST_NONCE = 128

Take = Callable[[Mapping[str, str]], Awaitable[Mapping[str, str | int] | None]]
"""Stores a message; returns the fields of the passive reply to it, if there is one. Raises StoreError."""

Again = Callable[[Mapping[str, str]], Mapping[str, str | int] | None]
"""The passive reply to a message that was taken a moment ago, which may not have arrived."""


def callback_route(
    path: str, crypt: Crypt, replays: Replays, take: Take, again: Again, ready: Callable[[], bool]
) -> Route:
    """ready: whether messages can be taken yet."""
    # No header tells whose it is: the signature stands in the address.
    return Route(
        path,
        lambda headers: True,
        _Callback(crypt, replays, take, again, ready).handle,
        methods=frozenset({"GET", "POST"}),
        most_bytes=_LARGEST_BODY,
        most_s=10.0,
    )


@dataclass(frozen=True, slots=True)
class _Callback:
    crypt: Crypt
    replays: Replays
    take: Take
    again: Again
    ready: Callable[[], bool]
    quiet: Quiet = field(default_factory=Quiet)

    async def handle(self, call: HttpCall) -> HttpAnswer:
        try:
            encrypted = call.query["echostr"] if call.method == "GET" else fields_in(call.body)["Encrypt"]
        except (ValueError, KeyError):
            return HttpAnswer(401, "not what WeCom sends")
        if (refusal := self._refusal(call.query, encrypted)) is not None:
            return refusal
        signature = call.query["msg_signature"]
        try:
            content = self.crypt.decrypted(encrypted)
            if call.method == "GET":
                return self._tried(content, signature)
            fields = fields_in(content)
        except ValueError:
            self._complain(
                "a request can't be read; are encoding_aes_key and corp_id those of this application?"
            )
            return HttpAnswer(400, "it can't be read")
        if not self.ready():
            return HttpAnswer(503, "not yet")
        if self.replays.seen(signature):
            answer = self.again(fields)
            if answer is None:
                return HttpAnswer(403, "this was taken before")
        else:
            answer = await self.take(fields)
            self.replays.take(signature)
        if answer is None:
            return HttpAnswer(text="")
        return HttpAnswer(text=_sealed(self.crypt, written(answer)), media_type="application/xml")

    def _refusal(self, query: Mapping[str, str], encrypted: str) -> HttpAnswer | None:
        """None for a request that is WeCom's, and of now."""
        stamp, nonce = query.get("timestamp", ""), query.get("nonce", "")
        if len(nonce) > _LONGEST_NONCE or not self.crypt.signed(
            query.get("msg_signature", ""), stamp, nonce, encrypted
        ):
            self._complain(
                "a request with a wrong signature is refused; is callback_token that of this application?"
            )
            return HttpAnswer(401, "a wrong signature")
        if not self.replays.fresh(stamp):
            self._complain("a request of another time is refused; is this machine's clock right?")
            return HttpAnswer(401, "of another time")
        return None

    def _tried(self, content: bytes, signature: str) -> HttpAnswer:
        """Raises ValueError."""
        if self.replays.seen(signature):
            return HttpAnswer(403, "this was taken before")
        words = content.decode("ascii")
        self.replays.take(signature)
        return HttpAnswer(text=words)

    def _complain(self, words: str) -> None:
        if self.quiet.lets(words):
            _log.warning("WeCom: %s", words)


def _sealed(crypt: Crypt, xml: str) -> str:
    stamp, nonce = str(int(time.time())), secrets.token_hex(8)
    encrypted = crypt.encrypted(xml.encode())
    return written(
        {
            "Encrypt": encrypted,
            "MsgSignature": crypt.signature(stamp, nonce, encrypted),
            "TimeStamp": stamp,
            "Nonce": nonce,
        }
    )
