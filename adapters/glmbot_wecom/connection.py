"""A smart bot's long connection: what people say comes through it, and answers go out, each confirmed.

https://developer.work.weixin.qq.com/document/path/101463: a bot has one connection, and a new one ends the one
before; it says `ping` every half minute. WeCom sends nothing again.

Two packages for Python speak it, that of WeCom's own team (wecom-aibot-python-sdk) and another's
(wecom-aibot-sdk). Both hand each message to a task of its own, so that their order is lost, and log what
people say.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count

import aiohttp

from glmbot.background import reconnecting
from glmbot.delivery.outlet import NotWritten, Unreachable, Unsent
from glmbot.errors import AdapterError, PlatformRefused, outage
from glmbot.http.fields import Fields, as_object, fields_of, parsed
from glmbot.http.quiet import Quiet
from glmbot_wecom.client import code_in, words_in
from glmbot_wecom.refusals import WRONG_SECRET, refused
from glmbot_wecom.settings import WeComSettings

__all__ = ["Connection"]

_log = logging.getLogger(__name__)

_OPENS_S = 30.0
_ANSWER_S = 15.0
_BEAT_S = 30.0
_MISSING_BEATS = 2
_LARGEST_FRAME = 2**20
_MOST_WAITING = 1000
_MOST_EARLY = 100
# Two that displace each other without end would hear nothing, and WeCom refuses who logs in too often (45009).
_DISPLACED_S, _DISPLACED_AGAIN_S, _AGAIN_WITHIN_S = 10.0, 60.0, 600.0
_MESSAGE, _EVENT = "aibot_msg_callback", "aibot_event_callback"

Take = Callable[[Fields, Fields], Awaitable[None]]
"""Stores what was said: its headers, its body."""


class Connection:
    def __init__(self, settings: WeComSettings, take: Take) -> None:
        """Raises PlatformRefused where the Secret is missing, AdapterError for no proxy."""
        self._bot, self._url = settings.bot_id, settings.ws_url
        self._secret = settings.read_token("wecom")
        self._proxy = settings.proxy_for(self._url.replace("ws", "http", 1))
        self._take = take
        self._session = aiohttp.ClientSession()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._waiting: dict[str, asyncio.Future[Fields]] = {}
        self._early: list[Fields] = []
        self._name, self._numbers = secrets.token_hex(4), count(1)
        self._displaced_at = float("-inf")
        self._pause_s = 0.0
        self._quiet = Quiet()

    async def open(self) -> None:
        """Connect and log in. Raises AdapterError."""
        socket, pause, self._pause_s = None, self._pause_s, 0.0
        await asyncio.sleep(pause)
        try:
            async with asyncio.timeout(_OPENS_S):
                socket = await self._session.ws_connect(
                    self._url, proxy=self._proxy, max_msg_size=_LARGEST_FRAME
                )
                await self._log_in(socket)
                self._socket = socket
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AdapterError(f"WeCom: no long connection ({outage(error)})") from error
        finally:
            if socket is not None and self._socket is not socket:
                await _closed(socket)

    async def run(self) -> None:
        """Listen for ever, and connect again when the connection ends. Raises PlatformRefused."""
        await reconnecting(self._attend, self._open_again)

    async def close(self) -> None:
        if self._socket is not None:
            await _closed(self._socket)
        await self._session.close()

    def new_request(self, command: str) -> str:
        """A name for a request that answers nothing."""
        return f"{command}_{self._name}_{next(self._numbers)}"

    async def ask(self, command: str, body: Fields | None = None, request: str = "") -> Fields:
        """The body of the confirmation. request: what this replies to.

        Raises what `glmbot.delivery.outlet` names.
        """
        socket, name = self._socket, request or self.new_request(command)
        while (before := self._waiting.get(name)) is not None:
            # What is confirmed is known by the name of the request alone.
            await asyncio.wait({before})
        if socket is None or socket.closed or len(self._waiting) >= _MOST_WAITING:
            raise Unsent("WeCom: there is no connection, or too many requests wait for their answers")
        answer = self._waiting[name] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_ANSWER_S):
                frame = {"cmd": command, "headers": {"req_id": name}}
                await socket.send_json(frame if body is None else {**frame, "body": body})
                found = await answer
        except TimeoutError as error:
            raise Unreachable(f"WeCom: no answer to {command} within {_ANSWER_S:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"WeCom: {outage(error)}") from error
        finally:
            self._waiting.pop(name, None)
            answer.cancel()
        if found.get("errcode") != 0:
            raise refused(code_in(found), words_in(found))
        return fields_of(found, "body")

    # ---- the connection ----------------------------------------------------------------------------------

    async def _log_in(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Raises AdapterError."""
        name = self.new_request("aibot_subscribe")
        body = {"bot_id": self._bot, "secret": self._secret}
        await socket.send_json({"cmd": "aibot_subscribe", "headers": {"req_id": name}, "body": body})
        self._early.clear()
        while True:
            message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise AdapterError("WeCom: the long connection was closed before it had begun")
            frame = _frame(message.data)
            if fields_of(frame, "headers").get("req_id") == name:
                break
            if len(self._early) < _MOST_EARLY:
                self._early.append(frame)
        code = code_in(frame)
        if code in WRONG_SECRET:
            raise PlatformRefused(
                f"[wecom] bot_id and token: WeCom does not know this Bot ID with this Secret ({code}); copy both"
                " from the smart bot's page, where API mode and the long connection are chosen"
            )
        if frame.get("errcode") != 0:
            raise AdapterError(f"WeCom gives no long connection: {code} {words_in(frame)}")

    async def _open_again(self) -> None:
        await self.open()
        _log.info("WeCom: connected again")

    async def _attend(self) -> bool:
        socket = self._socket
        if socket is None or socket.closed:
            return False
        beating = asyncio.create_task(self._beat(socket))
        try:
            for frame in self._early:
                await self._hear(frame, socket)
            self._early.clear()
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    await self._hear(_frame(message.data), socket)
        except (aiohttp.ClientError, OSError):
            pass
        finally:
            beating.cancel()
            await _closed(socket)
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(Unreachable("WeCom: the connection ended before the answer came"))
        return True

    async def _hear(self, frame: Fields, socket: aiohttp.ClientWebSocketResponse) -> None:
        headers, body = fields_of(frame, "headers"), fields_of(frame, "body")
        match frame.get("cmd"):
            case command if command == _MESSAGE:
                await self._take(headers, body)
            case command if command == _EVENT:
                if fields_of(body, "event").get("eventtype") == "disconnected_event":
                    self._displaced()
                    await _closed(socket)
            case None | "":
                name = headers.get("req_id")
                answer = self._waiting.get(name) if isinstance(name, str) else None
                if answer is not None and not answer.done():
                    answer.set_result(frame)
            case _:
                if self._quiet.lets("frame"):
                    _log.warning("WeCom: a frame that is not known is left out")

    def _displaced(self) -> None:
        now = asyncio.get_running_loop().time()
        again = now - self._displaced_at < _AGAIN_WITHIN_S
        self._displaced_at = now
        self._pause_s = _DISPLACED_AGAIN_S if again else _DISPLACED_S
        _log.warning(
            "WeCom: another connection of this bot has taken over: run it in one place; trying again in a while"
        )

    async def _beat(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        missing = 0
        while missing < _MISSING_BEATS:
            await asyncio.sleep(_BEAT_S)
            try:
                await self.ask("ping")
                missing = 0
            except NotWritten:
                missing += 1
        await _closed(socket)


def _frame(text: str) -> Fields:
    """None of what is no JSON object."""
    with suppress(ValueError):
        return as_object(parsed(text))
    return {}


async def _closed(socket: aiohttp.ClientWebSocketResponse) -> None:
    with suppress(aiohttp.ClientError, OSError):
        await socket.close()
