"""How much may be asked, at once and within an hour: of a person, a chat, a source, and all together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from math import ceil
from typing import Protocol
from uuid import uuid4

from glmbot.completions import Completion
from glmbot.dialogue.pending import Pending
from glmbot.dialogue.people import Standing
from glmbot.dialogue.settings import DialogueSettings
from glmbot.errors import LimitReached
from glmbot.messages import ChatKind, Message
from glmbot.store.base import Histories, QuotaCounts

__all__ = ["Quotas", "check_pending", "hourly_limit", "limit_set", "most_pending", "program_of"]

_EVERYBODY = "all"
# What is told to a program that has too much in progress, which ends nobody knows when.
_SOON_S = 5.0


class _Kept(Histories, QuotaCounts, Protocol):
    """What was asked of late, and whether somebody asks for the first time."""


class Quotas:
    def __init__(self, store: _Kept, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def wait_of(self, message: Message, standing: Standing, settings: DialogueSettings) -> float:
        """Count a question. Returns 0, or the seconds until it may be asked. Raises StoreError."""
        now = self._clock()
        if message.source and settings.strangers_per_hour:
            wait = await self._wait_of_stranger(message, settings.strangers_per_hour, now)
            if wait:
                return wait
        limits = {str(message.user): hourly_limit(standing.user, settings.user_per_hour)}
        if message.chat_kind is ChatKind.GROUP:
            limits[str(message.chat)] = hourly_limit(standing.chat, settings.chat_per_hour)
        limits |= _limits_of_all(message.source, settings)
        return await self._store.count(f"{message.user.platform}:{message.update_id}", limits, now)

    async def admit(self, request: Completion, settings: DialogueSettings) -> None:
        """Count a program's request. Raises LimitReached and StoreError."""
        limits = {program_of(request): settings.user_per_hour, **_limits_of_all(request.source, settings)}
        if not any(limits.values()):
            return
        wait = await self._store.count(f"program:{uuid4().hex}", limits, self._clock())
        if wait:
            raise LimitReached("no more requests are allowed within this hour", wait)

    async def _wait_of_stranger(self, message: Message, limit: int, now: float) -> float:
        # Kept for an hour whatever the person has forgotten, or the limit could be asked away: so not by name.
        person = blake2b(str(message.user).encode(), digest_size=16).hexdigest()
        wait = await self._store.count(person, {f"strangers:{message.source}": limit}, now)
        if wait and await self._store.last_turns(message.conversation, 1):
            return 0.0
        return wait


def program_of(request: Completion) -> str:
    """Programs have no names of their own: each source is one."""
    return f"{request.user} {request.source}".strip()


def most_pending(settings: DialogueSettings, queue_limit: int) -> int:
    """However many a source may have in progress, the other half of the line is for others."""
    if not queue_limit:
        return settings.pending_per_source
    return min(settings.pending_per_source, ceil(queue_limit / 2))


def check_pending(pending: Pending, request: Completion, most: int) -> None:
    """Raises LimitReached."""
    if max(pending.of(program_of(request)), pending.of(request.source)) >= most:
        raise LimitReached(f"{most} requests from here are in progress already, and no more may be", _SOON_S)


def limit_set(settings: Mapping[str, str]) -> int | None:
    """What an administrator set for a person or a chat, in questions an hour."""
    # Kept by an earlier release it may be any number of digits.
    given = settings.get("limit", "")
    return int(given[:9]) if given.isascii() and given.isdigit() else None


def hourly_limit(settings: Mapping[str, str], configured: int) -> int:
    """What was set, or what is configured."""
    own = limit_set(settings)
    return configured if own is None else own


def _limits_of_all(source: str, settings: DialogueSettings) -> dict[str, int]:
    limits: dict[str, int] = {}
    if settings.total_per_hour:
        limits[_EVERYBODY] = settings.total_per_hour
    of_source = settings.source_per_hour or ceil(settings.total_per_hour / 2)
    if source and of_source:
        limits[f"source:{source}"] = of_source
    return limits
