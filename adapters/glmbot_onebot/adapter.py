"""QQ through implementations of OneBot 11 (NapCat, Lagrange): groups and private chats.

https://github.com/botuniverse/onebot-11. What happens there is told once and never again, so whoever asked is told
when it could not be stored. Nothing that was sent can be changed: an answer comes in paragraphs, or as a whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from glmbot.background import Background, together
from glmbot.delivery.abilities import Profile
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.outlet import NotWritten
from glmbot.delivery.pace import Pace
from glmbot.delivery.paces import Paces
from glmbot.delivery.removal import remove_each
from glmbot.delivery.thoughts import without_thoughts
from glmbot.errors import AdapterError, StoreError
from glmbot.http.quiet import Quiet
from glmbot.http.routes import HttpCall, Route, RouteWish, Talk
from glmbot.keys import ConversationKey
from glmbot.listening import listening_error
from glmbot.messages import Message, Reply
from glmbot.ports import Chats, Deliver
from glmbot_onebot.connecting import connected, reverse_route
from glmbot_onebot.delivery import PROFILE, OneBotOutlet, recall, send_text
from glmbot_onebot.lanes import Lanes
from glmbot_onebot.line import Line
from glmbot_onebot.normalize import (
    PLATFORM,
    Quoted,
    Recalled,
    Said,
    forwarded_words,
    quoted_from,
    read_event,
    to_message,
)
from glmbot_onebot.session import Failed, Implementation, Session
from glmbot_onebot.settings import OneBotSettings

__all__ = ["OneBotAdapter", "OneBotSettings"]

_log = logging.getLogger(__name__)

_DRAIN_S = 8.0
_PATIENCE_S = 60.0
# All chats of an account together; QQ publishes no limit, and freezes accounts that write like a machine.
_OVERALL_S = 0.2


class _Wanted(Deliver, Chats, Protocol): ...


class OneBotAdapter:
    Settings: ClassVar[type[BaseModel]] = OneBotSettings
    profile: ClassVar[Profile] = PROFILE

    def __init__(self, settings: OneBotSettings, dialogue: _Wanted) -> None:
        self._settings = settings
        self._dialogue = dialogue = without_thoughts(dialogue)
        self._deliveries = Deliveries(dialogue)
        self._line = Line()
        self._lanes = Lanes()
        self._leaving = Background()
        self._quiet = Quiet()
        self._paces = Paces(within=_OVERALL_S)
        self._connecting: asyncio.Task[str] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._closing = False

    @staticmethod
    def check(settings: OneBotSettings, running: OneBotSettings | None) -> None:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        door = settings.door
        if door is None or (running is not None and running.door == door):
            return
        if (error := listening_error(door.host, door.port)) is not None:
            raise AdapterError(
                f"[onebot] listen_port: {door} can't be listened on: {error.strerror or error}; set it to another"
                " number, or to 0, where [web] answers path"
            ) from error

    @staticmethod
    def route_wishes(settings: OneBotSettings) -> Sequence[RouteWish]:
        """See `glmbot.ports.Adapter`."""
        if settings.url:
            return ()
        words = "set [onebot] listen_port to a port of its own"
        return [RouteWish("[onebot] path", settings.path, settings.door, words)]

    def routes(self) -> Sequence[Route]:
        """See `glmbot.ports.Adapter`."""
        if self._settings.url:
            return ()
        return [reverse_route(self._settings, self._settings.read_token(PLATFORM), self._take_caller)]

    @staticmethod
    async def identify(settings: OneBotSettings) -> str:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        if not settings.url:
            return ""
        async with connected(settings, settings.read_token(PLATFORM)) as talk:
            session = Session(talk)
            async with _reading(session):
                return _title(await session.introduce())

    @staticmethod
    async def examine(settings: OneBotSettings) -> Sequence[tuple[bool, str]]:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        if not settings.url:
            return ()
        async with connected(settings, settings.read_token(PLATFORM)) as talk:
            session = Session(talk)
            async with _reading(session):
                name = _title(await session.introduce())
                well = await session.is_online()
        words = f"{name} answers at url"
        return [(well, words if well else f"{words}, and is logged out of QQ: log in there again")]

    async def start(self) -> None:
        if self._settings.url:
            await self._connect()

    async def run(self) -> None:
        """Both what hears and what answers end with whichever of them fails, so that both are started again."""
        async with together() as group:
            self._serving = group.create_task(self._serve())
            group.create_task(self._listen())

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        self._closing = True
        if self._serving is not None:
            self._serving.cancel()
        await self._lanes.drain(1.0)
        await asyncio.gather(self._deliveries.drain(_DRAIN_S), self._leaving.drain(_DRAIN_S))
        await self._line.close()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)

    # ---- the connection ----------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Raises AdapterError once nothing can be heard."""
        if self._settings.url:
            if self._connecting is None or self._connecting.done():
                await self._connect()
            if self._connecting is not None:
                why = await asyncio.shield(self._connecting)
                await self._unless_closing(f"OneBot: the connection ended: {why}")
        while True:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._line.come()
            except TimeoutError:
                where = self._settings.door or "[web]"
                await self._unless_closing(
                    f"OneBot: no implementation has connected to {where}{self._settings.path}: see glmbot doctor"
                )
            await self._line.gone()

    async def _unless_closing(self, words: str) -> None:
        if self._closing:
            await asyncio.Event().wait()
        raise AdapterError(words)

    async def _connect(self) -> None:
        """Forward WebSocket: return once it is known who is there. Raises AdapterError."""
        there: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connecting = asyncio.create_task(self._stay(there))
        await asyncio.wait({self._connecting, there}, return_when=asyncio.FIRST_COMPLETED)
        if not there.done():
            there.cancel()
            # It says what went wrong.
            self._connecting.result()
            raise AdapterError("OneBot: the connection ended at once")

    async def _stay(self, there: asyncio.Future[None]) -> str:
        async with connected(self._settings, self._settings.read_token(PLATFORM)) as talk:
            return await self._attend(talk, there)

    async def _take_caller(self, call: HttpCall, talk: Talk) -> None:
        """Reverse WebSocket."""
        if call.headers.get("X-Client-Role", "Universal").lower() != "universal":
            _log.warning(
                "OneBot: a connection for events or calls alone is left out: set one up for both (/)"
            )
            return
        try:
            why = await self._attend(talk, asyncio.get_running_loop().create_future())
        except AdapterError as error:
            why = str(error)
        _log.info("OneBot: a connection ended: %s", why)

    async def _attend(self, talk: Talk, there: asyncio.Future[None]) -> str:
        """Until it ends: why it did. `there` is done once it is known who it is. Raises AdapterError."""
        session = Session(talk)
        async with _reading(session, self._hear) as reading:
            implementation = await session.introduce()
            before = self._line.take(session, implementation)
            try:
                if before is not None:
                    await before.close()
                _log.info("OneBot: %s is connected", _title(implementation))
                there.set_result(None)
                return await asyncio.shield(reading)
            finally:
                self._line.drop(session)

    # ---- what is heard -----------------------------------------------------------------------------------------

    def _hear(self, event: dict[str, Any]) -> None:
        try:
            read = read_event(event)
        except Exception as error:  # whatever a malformed event trips over
            # Neither what was said nor by whom: an error's words may hold it.
            self._complain(f"an event that could not be read is left out ({type(error).__name__})")
            return
        if read is None or self._closing:
            return
        lane = read.chat if isinstance(read, Said) else read.chat.id
        if not self._lanes.begin(lane, lambda: self._take(read)):
            self._complain("more is said than can be taken in, and left out")

    async def _take(self, read: Said | Recalled) -> None:
        try:
            if isinstance(read, Recalled):
                # It waits for what is being written, and what is said meanwhile (a stop) does not.
                where, ref = read.conversation, read.ref
                self._leaving.begin(
                    self._deliveries.take_away(PLATFORM, self._dialogue, ref, where, self._remove)
                )
                return
            quoted, forwarded = await self._beside(read)
            settings = self._settings
            message = to_message(
                read, quoted, forwarded, keywords=settings.keywords, language=settings.language
            )
            if message is not None:
                await self._accept(message)
        except Exception as error:
            self._complain(f"an event that can't be taken is left out ({type(error).__name__})")

    async def _beside(self, said: Said) -> tuple[Quoted | None, str]:
        """What it replies to, and what was forwarded in either; nothing where that is not told."""
        quoted, forward = None, said.forward
        if said.replies_to:
            number = int(said.replies_to)
            quoted = await self._told(
                "get_msg", lambda data: quoted_from(data, said.self_id), message_id=number
            )
            forward = forward or (quoted.forward if quoted is not None else "")
        words = await self._told("get_forward_msg", forwarded_words, id=forward) if forward else None
        return quoted, words or ""

    async def _told(self, action: str, read: Any, **params: object) -> Any:
        """None where the implementation does not tell, or nonsense."""
        try:
            return read(await self._line.ask(action, **params))
        except (Failed, NotWritten, ValueError) as error:
            _log.info("OneBot: %s was not answered (%s)", action, type(error).__name__)
            return None

    async def _accept(self, message: Message) -> None:
        try:
            await self._dialogue.accept(message)
        except StoreError as error:
            _log.error("OneBot: what was asked in %s could not be stored: %s", message.conversation, error)
            with suppress(NotWritten, Failed, ValueError):
                words = self._dialogue.text(message.language, "answer.store_failed")
                await send_text(self._line, message, words)

    async def _remove(self, conversation: ConversationKey, message_ids: Sequence[str]) -> None:
        pace = self._pace_of(conversation.chat)
        await remove_each("OneBot", pace, message_ids, lambda each: recall(self._line, each))

    # ---- answering ---------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Once connected: answer what is assigned to this process."""
        await self._line.come()
        await self._deliveries.serve(PLATFORM, self._begin, self._stopped, self._remove)

    def _begin(self, message: Message, earlier: Earlier) -> None:
        settings = self._settings
        outlet = OneBotOutlet(self._line, message, flood_pause_s=settings.flood_pause_s)
        pace = self._pace_of(message.conversation.chat)
        self._deliveries.begin(message, outlet, pace, earlier, whole=settings.whole)

    def _pace_of(self, chat: str) -> Pace:
        settings = self._settings
        return self._paces.of(
            chat, settings.group_interval_s if chat.startswith("g") else settings.interval_s
        )

    async def _stopped(self, message: Message, reply: Reply | None) -> None:
        """There are no buttons."""

    def _complain(self, words: str) -> None:
        if self._quiet.lets(words):
            _log.warning("OneBot: %s", words)


@asynccontextmanager
async def _reading(session: Session, hear: Any = lambda event: None) -> AsyncGenerator[asyncio.Task[str]]:
    reading = asyncio.create_task(session.read(hear))
    try:
        yield reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _title(there: Implementation) -> str:
    return f"{there.nickname} ({there.self_id}, {there.app or 'OneBot'})"
