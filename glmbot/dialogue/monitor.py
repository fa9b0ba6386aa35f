"""What the operator sees of the running bot: streams, people, recent errors, and the last hour as samples."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

import psutil

from glmbot.dialogue.lanes import Lanes, Ticket
from glmbot.dialogue.people import People
from glmbot.dialogue.quotas import limit_set
from glmbot.engine.named import ModelState
from glmbot.engine.pool import Engines
from glmbot.errors import StoreError
from glmbot.keys import UserKey
from glmbot.logs import RECENT_ERRORS
from glmbot.metrics import DialogueStats
from glmbot.overview import ModelInfo, Overview, Sample, StreamInfo, UserInfo
from glmbot.store.base import DeadLetters, QuotaCounts, Upkeep
from glmbot.store.records import Backlog

__all__ = ["Monitor"]

_SAMPLE_EVERY_S = 5.0
_SAMPLES = 720
_PEOPLE_AT_ONCE = 50


class _Watched(DeadLetters, QuotaCounts, Upkeep, Protocol):
    """What tells how the store does, and how much is to be done."""


class Monitor:
    def __init__(
        self, engines: Engines, lanes: Lanes, people: People, store: _Watched, clock: Callable[[], float]
    ) -> None:
        self._engines = engines
        self._lanes = lanes
        self._people = people
        self._store = store
        self._clock = clock
        self._process = psutil.Process()
        self._backlog = Backlog(0, 0)
        self._store_up = True
        self._samples: deque[Sample] = deque(maxlen=_SAMPLES)

    async def run(self) -> None:
        """Take a sample now and then, until cancelled."""
        while True:
            self.sample()
            await self.look()
            await asyncio.sleep(_SAMPLE_EVERY_S)

    def sample(self) -> None:
        loaded = self._engines.stats().values()
        cache = sum(stats.cache_tokens_total for stats in loaded)
        self._samples.append(
            Sample(
                at=self._clock(),
                memory=self._process.memory_info().rss,
                tokens_per_second=sum(stats.tokens_per_second for stats in loaded),
                running=sum(stats.running for stats in loaded),
                waiting=sum(stats.waiting for stats in loaded),
                cache_share=sum(stats.cache_tokens_used for stats in loaded) / max(1, cache),
            )
        )

    async def look(self) -> None:
        """Ask the store how much is to be done; a store that is away is found out here, and nothing is raised."""
        try:
            self._backlog = await self._store.backlog()
            # Also whether it takes anything.
            await self._store.check()
            self._store_up = True
        except StoreError:
            self._store_up = False

    def stats(self, held: Mapping[str, int]) -> DialogueStats:
        """For /metrics. `held`: see `DialogueStats`."""
        backlog = self._backlog
        return DialogueStats(held, self._store_up, backlog.open, backlog.dead, self._store.journaled)

    async def overview(self, after: str = "") -> Overview:
        """after: the key that the page of people before ended with. Raises StoreError."""
        states = self._engines.states()
        # The default.
        stats = states[0].stats
        now = time.monotonic()
        people = await self._people.listed(_PEOPLE_AT_ONCE, after)
        return Overview(
            model=stats.model,
            precision=str(stats.precision),
            precisions=[str(precision) for precision in states[0].precisions],
            switching=stats.switching,
            running=sum(state.stats.running for state in states),
            waiting=sum(state.stats.waiting for state in states),
            queue_limit=stats.queue_limit,
            weight_bytes=stats.weight_bytes,
            finished=sum(state.stats.requests_finished for state in states),
            refused=sum(state.stats.requests_refused for state in states),
            dead_letters=self._backlog.dead,
            waiting_users=[user for state in states for user in state.stats.waiting_users],
            streams=[_stream(ticket, now) for ticket in self._lanes.all()],
            users=[await self._person(user, settings) for user, settings in people],
            next_users=str(people[-1][0]) if len(people) >= _PEOPLE_AT_ONCE else "",
            errors=[(record.at, record.level, record.text) for record in RECENT_ERRORS],
            samples=list(self._samples),
            models=[_model(state) for state in states],
            memory_budget=self._engines.budget,
        )

    async def _person(self, user: UserKey, settings: Mapping[str, str]) -> UserInfo:
        return UserInfo(
            user=str(user),
            name=settings.get("name", ""),
            access=settings.get("access", "") or ("waiting" if settings.get("pairing") else ""),
            code=settings.get("pairing", "").partition(" ")[0],
            hourly_limit=limit_set(settings),
            asked_this_hour=await self._store.counted(str(user), self._clock()),
        )


def _stream(ticket: Ticket, now: float) -> StreamInfo:
    """now: by the monotonic clock."""
    return StreamInfo(
        conversation=str(ticket.conversation),
        user=str(ticket.user),
        state=str(ticket.reply.state),
        characters=len(ticket.reply.text),
        age_s=now - ticket.since,
    )


def _model(state: ModelState) -> ModelInfo:
    return ModelInfo(
        name=state.name,
        loaded=state.loaded,
        share=state.share,
        precision=str(state.stats.precision) if state.loaded else "",
        precisions=[str(precision) for precision in state.precisions],
        switching=state.stats.switching,
        running=state.stats.running,
        waiting=state.stats.waiting,
        bytes=state.bytes,
        trouble=bool(state.trouble),
    )
