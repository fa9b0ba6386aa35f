"""A platform that takes a message and shows it for ever, and its adapter: the least that one has to be."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import BaseModel

from glmbot.delivery.abilities import Ability, Profile
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.outlet import Flooded, Outlet, Piece
from glmbot.delivery.pace import Pace
from glmbot.delivery.pieces import cut_reply
from glmbot.delivery.settings import OnceSettings
from glmbot.errors import StoreError
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Attachment, Message, Reply
from glmbot.ports import Deliver

__all__ = ["PLATFORM", "ToyAdapter", "ToyPlatform", "ToySettings"]

PLATFORM = "toy"
_LONGEST = 300
_NOTICE_ROOM = 120


@dataclass
class ToyPlatform:
    """What people said and see. It sends an update again until it is confirmed."""

    updates: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])
    shown: defaultdict[int, list[Piece]] = field(default_factory=lambda: defaultdict[int, list[Piece]](list))
    news: asyncio.Event = field(default_factory=asyncio.Event)
    _held: dict[int, float] = field(default_factory=dict[int, float])
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def say(self, user: int, text: str) -> int:
        number = next(self._numbers)
        self.updates.append((number, user, text))
        self.news.set()
        return number

    def hold(self, user: int, seconds: float) -> None:
        self._held[user] = asyncio.get_running_loop().time() + seconds

    def take(self, user: int, piece: Piece) -> str:
        now = asyncio.get_running_loop().time()
        if (wait := self._held.get(user, 0.0) - now) > 0:
            raise Flooded(wait)
        if max(len(piece.text), len(piece.notice)) > _LONGEST:
            raise AssertionError("a message is too long")
        if piece.actions:
            raise AssertionError("there are no buttons")
        self.shown[user].append(piece)
        return str(next(self._numbers))


class ToySettings(OnceSettings):
    """Nothing of its own."""


class ToyOutlet(Outlet):
    def __init__(self, platform: ToyPlatform, user: int) -> None:
        self._platform = platform
        self._user = user

    @property
    def abilities(self) -> frozenset[Ability]:
        return ToyAdapter.profile.abilities

    def cut(self, reply: Reply) -> Sequence[Piece]:
        return cut_reply(reply, _LONGEST, notice_room=_NOTICE_ROOM, measure=len, accepts=lambda _: True)

    async def send(self, item: Piece | Attachment, place: str) -> str:
        if isinstance(item, Attachment):
            raise AssertionError("there are no files")
        await asyncio.sleep(0)
        return self._platform.take(self._user, item)

    async def typing(self) -> None:
        """Nobody looks."""


class ToyAdapter:
    Settings: ClassVar[type[BaseModel]] = ToySettings
    profile: ClassVar[Profile] = Profile(frozenset({Ability.TYPING}), longest=_LONGEST)
    platform: ClassVar[ToyPlatform]

    def __init__(self, settings: ToySettings, dialogue: Deliver) -> None:
        self._settings = settings
        self._dialogue = dialogue
        self._deliveries = Deliveries(dialogue)
        self._paces: defaultdict[int, Pace] = defaultdict(lambda: Pace(0.01))
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        return

    async def run(self) -> None:
        serve = self._deliveries.serve(PLATFORM, self._begin, self._stopped)
        self._tasks = [asyncio.create_task(self._receive()), asyncio.create_task(serve)]
        await asyncio.gather(*self._tasks)

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        await self.end(5.0)

    async def end(self, grace_s: float) -> None:
        for task in self._tasks:
            task.cancel()
        await self._deliveries.drain(grace_s)

    async def _receive(self) -> None:
        while True:
            self.platform.news.clear()
            for update in list(self.platform.updates):
                with suppress(StoreError):
                    await self._dialogue.accept(_message(*update))
                    self.platform.updates.remove(update)
            await self.platform.news.wait()

    def _begin(self, message: Message, earlier: Earlier) -> None:
        user = int(message.user.id)
        outlet = ToyOutlet(self.platform, user)
        self._deliveries.begin(message, outlet, self._paces[user], earlier, whole=self._settings.whole)

    async def _stopped(self, message: Message, reply: Reply | None) -> None:
        """There are no buttons."""


def _message(number: int, user: int, text: str) -> Message:
    where, who = ConversationKey(PLATFORM, str(user)), UserKey(PLATFORM, str(user))
    return Message(str(number), where, who, text, ref=str(number))
