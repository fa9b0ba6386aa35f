"""One connection to an implementation of OneBot 11: its events, and our calls with their answers.

https://github.com/botuniverse/onebot-11/blob/master/communication/ws.md: on one WebSocket come events and, for
each call, one answer with the call's `echo`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

from glmbot.delivery.outlet import Unreachable, Unsent
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.quiet import Quiet
from glmbot.http.routes import Talk

__all__ = ["LARGEST_TEXT", "Failed", "Implementation", "Session"]

_log = logging.getLogger(__name__)

LARGEST_TEXT = 1 << 20
"""Bytes of one event or answer: pictures come as addresses."""
_ANSWER_S = 30.0
_INTRODUCTION_S = 10.0
_MOST_WAITING = 1000
# So many heartbeats may be missing; how often they come is the implementation's setting.
_MISSING_BEATS = 3
_SHORTEST_BEAT_S, _LONGEST_BEAT_S = 0.05, 600.0
# https://github.com/botuniverse/onebot-11/blob/master/communication/ws.md#正向-websocket: what HTTP says with 401
# and 403 is 1401 and 1403 here.
_WRONG_TOKEN = frozenset({1401, 1403})


class Failed(Exception):
    """The implementation did not do it."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"{words or 'it failed'} ({code})")
        self.code, self.words = code, words


@dataclass(frozen=True, slots=True)
class Implementation:
    """The account's number, its name, and the program that is logged in with it."""

    self_id: str
    nickname: str
    app: str

    @property
    def takes_files(self) -> bool:
        """Whether a message may hold a file's content; the protocol has none."""
        return self.app.lower().startswith(("napcat", "llonebot", "llbot"))

    @property
    def shows_typing(self) -> bool:
        """NapCat alone: https://napcat.apifox.cn/226659225e0"""
        return self.app.lower().startswith("napcat")


class Session:
    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._name = secrets.token_hex(4)
        self._numbers = count(1)
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._beat_s: float | None = None
        self._refusal = ""
        self._online = True
        self._ended = False
        self._quiet = Quiet()

    async def read(self, heard: Callable[[dict[str, Any]], None]) -> str:
        """Until the connection ends: why it did. Events but for heartbeats go to `heard`."""
        try:
            while True:
                patience = None if self._beat_s is None else _MISSING_BEATS * self._beat_s
                try:
                    async with asyncio.timeout(patience):
                        text = await self._talk.receive()
                except TimeoutError:
                    return f"no heartbeat came for {patience:.0f} s"
                if text is None:
                    return self._refusal or "it was closed"
                self._take(text, heard)
        finally:
            self._ended = True
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(Unreachable("OneBot: the connection ended before the answer came"))

    async def ask(self, action: str, **params: object) -> Any:
        """The answer's data. Raises Failed, Unreachable, Unsent."""
        if self._ended or len(self._waiting) >= _MOST_WAITING:
            raise Unsent("OneBot: the connection has ended, or too many calls wait for their answers")
        echo = f"{self._name}-{next(self._numbers)}"
        answer = self._waiting[echo] = asyncio.get_running_loop().create_future()
        try:
            try:
                await self._talk.send(json.dumps({"action": action, "params": params, "echo": echo}))
            except ConnectionError as error:
                raise Unsent("OneBot: the connection has ended") from error
            try:
                async with asyncio.timeout(_ANSWER_S):
                    return await answer
            except TimeoutError as error:
                raise Unreachable(f"OneBot: no answer to {action} within {_ANSWER_S:.0f} s") from error
        finally:
            self._waiting.pop(echo, None)
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def introduce(self) -> Implementation:
        """Who is logged in there. `read` runs meanwhile. Raises AdapterError."""
        try:
            async with asyncio.timeout(_INTRODUCTION_S):
                login = await self.ask("get_login_info")
                try:
                    version = await self.ask("get_version_info")
                except Failed:
                    version = {}
            number = login["user_id"]
            if isinstance(number, bool) or not isinstance(number, int | str) or not str(number).isdecimal():
                raise ValueError
            app = version.get("app_name") if isinstance(version, dict) else ""
            return Implementation(str(int(number)), str(login.get("nickname", ""))[:100], str(app)[:100])
        except (Unreachable, TimeoutError) as error:
            if self._refusal:
                raise PlatformRefused(
                    f"[onebot] token: the implementation refuses it: {self._refusal}"
                ) from error
            raise AdapterError(
                f"[onebot] the implementation does not say who it is: {error or 'no answer'}"
            ) from error
        except (Failed, ValueError, TypeError, KeyError, AttributeError) as error:
            raise AdapterError("[onebot] who answers is not logged in, or speaks no OneBot 11") from error

    async def is_online(self) -> bool:
        """Whether QQ hears who is logged in there; True where the implementation does not say."""
        try:
            status = await self.ask("get_status")
        except (Failed, Unreachable):
            return True
        return _is_online(status)

    async def close(self) -> None:
        await self._talk.close()

    def _take(self, text: str, heard: Callable[[dict[str, Any]], None]) -> None:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            self._complain("what came is no JSON object, and left out")
            return
        fields = cast(dict[str, Any], said)
        if "post_type" not in fields:
            self._answer(fields)
        elif fields["post_type"] == "meta_event":
            self._beat(fields)
        else:
            heard(fields)

    def _answer(self, fields: dict[str, Any]) -> None:
        echo, status, code = fields.get("echo"), fields.get("status"), fields.get("retcode")
        code = code if type(code) is int else -1
        words = str(fields.get("wording") or fields.get("message") or fields.get("msg") or "")[:500]
        waiting = self._waiting.get(echo) if isinstance(echo, str) else None
        if waiting is None:
            if code in _WRONG_TOKEN:
                self._refusal = words or "it gives no reason"
            return
        if waiting.done():
            return
        if status in ("ok", "async"):
            waiting.set_result(fields.get("data"))
        else:
            waiting.set_exception(Failed(code, words))

    def _beat(self, fields: dict[str, Any]) -> None:
        if fields.get("meta_event_type") != "heartbeat":
            return
        interval, status = fields.get("interval"), fields.get("status")
        if isinstance(interval, int | float) and interval > 0:
            self._beat_s = min(max(interval / 1000, _SHORTEST_BEAT_S), _LONGEST_BEAT_S)
        online = _is_online(status)
        if self._online and not online:
            _log.warning("OneBot: the account is logged out of QQ: log in again at the implementation")
        self._online = online

    def _complain(self, words: str) -> None:
        if self._quiet.lets(words):
            _log.warning("OneBot: %s", words)


def _is_online(status: object) -> bool:
    return not isinstance(status, dict) or cast(dict[str, Any], status).get("online") is not False
