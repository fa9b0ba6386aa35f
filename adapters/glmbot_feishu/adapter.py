"""Feishu and Lark: mentions, topics, direct messages, answers as cards that stream, buttons.

Events come through a connection that the bot opens, or are posted to a route of [web].
https://open.feishu.cn/document/server-docs/event-subscription-guide/overview
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from glmbot.background import Background, Running
from glmbot.delivery.abilities import Profile
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.paces import Paces
from glmbot.delivery.removal import remove_each
from glmbot.delivery.thoughts import without_thoughts
from glmbot.errors import PlatformRefused
from glmbot.http.fields import as_object, parsed
from glmbot.http.quiet import Quiet
from glmbot.http.replays import Replays
from glmbot.http.routes import Route, RouteWish
from glmbot.keys import ChatKey, ConversationKey
from glmbot.messages import Message, PressedButton, Reply
from glmbot.ports import Chats, Deliver
from glmbot_feishu.callback import WINDOW_S, callback_route
from glmbot_feishu.client import Client
from glmbot_feishu.connection import Connection
from glmbot_feishu.delivery import PROFILE, FeishuOutlet, Sequences
from glmbot_feishu.examination import examine
from glmbot_feishu.normalize import PLATFORM, Deleted, from_event
from glmbot_feishu.settings import FeishuSettings

__all__ = ["FeishuAdapter", "FeishuSettings"]

_log = logging.getLogger(__name__)

_DRAIN_S = 8.0
# https://open.feishu.cn/document/server-docs/im-v1/message/delete: what is older is not recalled.
_ASKED_WITHIN_S = 24 * 3600.0


class _Wanted(Deliver, Chats, Protocol): ...


class FeishuAdapter:
    Settings: ClassVar[type[BaseModel]] = FeishuSettings
    profile: ClassVar[Profile] = PROFILE

    def __init__(self, settings: FeishuSettings, dialogue: _Wanted) -> None:
        self._settings = settings
        self._dialogue = dialogue = without_thoughts(dialogue)
        self._deliveries = Deliveries(dialogue)
        self._quiet = Quiet()
        self._aside = Background()
        self._paces = Paces(within=1 / settings.requests_per_second)
        self._replays = Replays(time.time, WINDOW_S)
        self._sequences = Sequences()
        self._running = Running()
        self._client: Client | None = None
        self._connection: Connection | None = None
        self._bot = ""

    @staticmethod
    def check(settings: FeishuSettings, running: FeishuSettings | None) -> None:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        if not settings.app_id:
            raise PlatformRefused("[feishu] app_id is not set: copy it from https://open.feishu.cn/app")
        settings.read_encrypt_key()

    @staticmethod
    def route_wishes(settings: FeishuSettings) -> Sequence[RouteWish]:
        """See `glmbot.ports.Adapter`."""
        if not settings.posted:
            return ()
        words = "leave [feishu] encrypt_key out: then events come through a connection that the bot opens"
        return [RouteWish("[feishu] events_path", settings.events_path, None, words)]

    def routes(self) -> Sequence[Route]:
        """See `glmbot.ports.Adapter`."""
        if not self._settings.posted:
            return ()
        key = self._settings.read_encrypt_key()
        path = self._settings.events_path
        return [callback_route(path, key, self._replays, self._take, lambda: bool(self._bot))]

    @staticmethod
    async def identify(settings: FeishuSettings) -> str:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        client = Client(settings)
        try:
            return str((await client.log_in()).get("app_name") or settings.app_id)
        finally:
            await client.close()

    @staticmethod
    async def examine(settings: FeishuSettings) -> Sequence[tuple[bool, str]]:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        return await examine(settings)

    async def start(self) -> None:
        self._client = client = Client(self._settings)
        bot = await client.log_in()
        open_id = bot.get("open_id")
        if not isinstance(open_id, str) or not open_id:
            raise PlatformRefused(
                "[feishu] the app has no bot: add the ability at https://open.feishu.cn/app"
            )
        self._bot = open_id
        if not self._settings.posted:
            self._connection = Connection(client, self._take)
            await self._connection.open()
        _log.info("Feishu: %s is listening", bot.get("app_name") or self._settings.app_id)

    async def run(self) -> None:
        serving = self._deliveries.serve(PLATFORM, self._begin, self._stopped, self._remove)
        hearing = () if self._connection is None else (self._connection.run(),)
        await self._running.run(serving, *hearing)

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        await self._stop_receiving()
        await asyncio.gather(self._deliveries.drain(_DRAIN_S), self._aside.drain(_DRAIN_S))
        if self._client is not None:
            await self._client.close()

    async def _stop_receiving(self) -> None:
        self._bot = ""
        self._running.end()
        if self._connection is not None:
            await self._connection.close()

    # ---- receiving -------------------------------------------------------------------------------------------

    async def _take(self, content: bytes) -> Mapping[str, Any] | None:
        """Raises StoreError when it could not be stored."""
        try:
            taken = from_event(as_object(parsed(content)), self._bot)
        except Exception as error:  # whatever a malformed event trips over
            # Neither what was said nor by whom: an error's words may hold it.
            if self._quiet.lets(type(error).__name__):
                _log.warning("Feishu: an event that could not be read is left out (%s)", type(error).__name__)
            return None
        match taken:
            case None:
                return None
            case Message():
                await self._dialogue.accept(taken)
            case Deleted():
                self._take_away(taken)
            case PressedButton() if taken.counts:
                await self._dialogue.accept(taken.message)
            case PressedButton():
                words = self._dialogue.text(taken.message.language, "button.not_yours")
                return {"toast": {"type": "info", "content": words}}
        return None

    def _take_away(self, deleted: Deleted) -> None:
        chat, ref = ChatKey(PLATFORM, deleted.chat), deleted.ref
        self._deliveries.take_back(ref)
        where = partial(self._dialogue.asked_in, chat, ref, deleted.at - _ASKED_WITHIN_S)
        self._aside.begin(self._deliveries.take_away(PLATFORM, self._dialogue, ref, where, self._remove))

    async def _remove(self, conversation: ConversationKey, message_ids: Sequence[str]) -> None:
        client = self._client
        if client is not None:
            pace = self._paces.of(conversation.chat, self._settings.edit_interval_s)
            path = "/open-apis/im/v1/messages"
            await remove_each(
                "Feishu", pace, message_ids, lambda message_id: client.call("DELETE", f"{path}/{message_id}")
            )

    # ---- answering -------------------------------------------------------------------------------------------

    def _begin(self, message: Message, earlier: Earlier) -> None:
        if self._client is None:
            return
        pace = self._paces.of(message.conversation.chat, self._settings.edit_interval_s)
        outlet = FeishuOutlet(self._client, message, self._sequences)
        self._deliveries.begin(message, outlet, pace, earlier)

    async def _stopped(self, message: Message, reply: Reply | None) -> None:
        """The answer that was stopped says so itself."""
