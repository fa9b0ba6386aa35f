"""DingTalk: mentions in groups, direct messages, answers as AI cards that stream, buttons.

https://open.dingtalk.com/document/orgapp/stream
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from glmbot.background import Running
from glmbot.delivery.abilities import Profile
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.paces import Paces
from glmbot.delivery.thoughts import without_thoughts
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.quiet import Quiet
from glmbot.messages import Message, PressedButton, Reply
from glmbot.ports import Deliver
from glmbot_dingtalk.client import CARDS_TOPIC, MESSAGES_TOPIC, Client
from glmbot_dingtalk.delivery import PROFILE, DingTalkOutlet
from glmbot_dingtalk.normalize import PLATFORM, from_callback, from_message
from glmbot_dingtalk.settings import DingTalkSettings
from glmbot_dingtalk.stream import Stream

__all__ = ["DingTalkAdapter", "DingTalkSettings"]

_log = logging.getLogger(__name__)

_DRAIN_S = 8.0


class DingTalkAdapter:
    Settings: ClassVar[type[BaseModel]] = DingTalkSettings
    profile: ClassVar[Profile] = PROFILE

    def __init__(self, settings: DingTalkSettings, dialogue: Deliver) -> None:
        self._settings = settings
        self._dialogue = dialogue = without_thoughts(dialogue)
        self._deliveries = Deliveries(dialogue)
        self._quiet = Quiet()
        self._paces = Paces(within=1 / settings.requests_per_second)
        self._running = Running()
        self._client: Client | None = None
        self._stream: Stream | None = None

    @staticmethod
    def check(settings: DingTalkSettings, running: DingTalkSettings | None) -> None:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        if not settings.client_id:
            raise PlatformRefused(
                "[dingtalk] client_id is not set: copy it from https://open-dev.dingtalk.com"
            )

    @staticmethod
    async def identify(settings: DingTalkSettings) -> str:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        client = Client(settings)
        try:
            await client.log_in()
            return settings.client_id
        finally:
            await client.close()

    @staticmethod
    async def examine(settings: DingTalkSettings) -> Sequence[tuple[bool, str]]:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        client = Client(settings)
        try:
            await client.log_in()
            found = [(True, "DingTalk knows the app")]
            try:
                await client.open_stream()
                found.append((True, "a connection of Stream mode may be opened"))
            except AdapterError as error:
                found.append((False, str(error)))
            if words := await client.missing_permission():
                found.append((False, words))
            return found
        finally:
            await client.close()

    async def start(self) -> None:
        self._client = client = Client(self._settings)
        await client.log_in()
        self._stream = Stream(client, self._take)
        await self._stream.open()
        _log.info("DingTalk: robot %s is listening", client.robot)

    async def run(self) -> None:
        if self._stream is None:
            raise AdapterError("DingTalk: not started")
        serving = self._deliveries.serve(PLATFORM, self._begin, self._stopped)
        await self._running.run(serving, self._stream.run())

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        await self._stop_receiving()
        await self._deliveries.drain(_DRAIN_S)
        if self._client is not None:
            await self._client.close()

    async def _stop_receiving(self) -> None:
        self._running.end()
        if self._stream is not None:
            await self._stream.close()

    async def _take(self, topic: str, data: Mapping[str, Any], message_id: str) -> None:
        """Raises StoreError when it could not be stored."""
        try:
            taken = _read(topic, data, message_id)
        except Exception as error:  # whatever a malformed message trips over
            # Neither what was said nor by whom: an error's words may hold it.
            if self._quiet.lets(type(error).__name__):
                _log.warning("DingTalk: what could not be read is left out (%s)", type(error).__name__)
            return
        match taken:
            case Message():
                await self._dialogue.accept(taken)
            # Nor does a vote of others count: a card may be forwarded, and where it was pressed is not told.
            case PressedButton() if taken.by_asker:
                await self._dialogue.accept(taken.message)
            case PressedButton():
                _log.debug("DingTalk: a button of somebody else's was pressed")
            case None:
                pass

    def _begin(self, message: Message, earlier: Earlier) -> None:
        if self._client is None:
            return
        pace = self._paces.of(message.conversation.chat, self._settings.edit_interval_s)
        outlet = DingTalkOutlet(self._client, message, self._settings.card_template)
        self._deliveries.begin(message, outlet, pace, earlier)

    async def _stopped(self, message: Message, reply: Reply | None) -> None:
        """The answer that was stopped says so itself."""


def _read(topic: str, data: Mapping[str, Any], message_id: str) -> Message | PressedButton | None:
    match topic:
        case _ if topic == MESSAGES_TOPIC:
            return from_message(data)
        case _ if topic == CARDS_TOPIC:
            return from_callback(data, message_id)
        case _:
            return None
