"""Several engines by name: each is loaded at the start or when it is first asked, and those of this machine share
its memory.

When a model needs room, the least recently used one gives way: nobody begins with it any more, those who are
being answered are answered to their end, and then it is unloaded. Models are loaded, unloaded and switched one at
a time, since what loading does to the libraries holds for the whole process; answers of others go on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from glmbot.engine.base import (
    Engine,
    EngineStats,
    Precision,
    PrecisionChange,
    TokenEngine,
    Waits,
    tunable,
)
from glmbot.engine.named import Memory, Model, ModelState
from glmbot.engine.templated import answering_conversations
from glmbot.errors import (
    EngineError,
    EngineStopped,
    GlmbotError,
    ModelTooLarge,
    ModelUnavailable,
    PrecisionError,
)

__all__ = ["Engines"]

_log = logging.getLogger(__name__)

_LOOKS_EVERY_S = 5.0
# A model that could not be loaded is not tried again for everybody who asks.
_TRIES_AGAIN_AFTER_S = 20.0
_ENDS = "the engine is shutting down"


@dataclass(slots=True, eq=False)
class _Place:
    model: Model
    engine: Engine | None = None
    users: int = 0
    used_at: float = 0.0
    bytes: int = 0
    leaving: bool = False
    """Still in use, and wanted gone: nobody else may begin with it."""
    memory: Memory | None = None
    loading: asyncio.Task[None] | None = None
    share: float = 0.0
    waiting: list[asyncio.Future[Engine]] = field(default_factory=list[asyncio.Future[Engine]])
    failure: ModelUnavailable | None = None
    failed_at: float = float("-inf")

    @property
    def name(self) -> str:
        return self.model.name or ("" if self.engine is None else self.engine.model_name)

    @property
    def ready(self) -> bool:
        return self.engine is not None and not self.leaving

    def put(self, engine: Engine | TokenEngine) -> Engine:
        self.engine = answering_conversations(engine)
        return self.engine

    @property
    def trouble(self) -> str:
        return "" if self.failure is None else str(self.failure)


class Engines:
    """The first of `models` is the default. `budget`: bytes that those of this machine may take together, None for
    no bound. `idle_s`: after so long without a question what was not loaded at the start is unloaded; 0: never.
    `patience_s`: so long a model is waited for that must give way and is still in use."""

    def __init__(
        self,
        models: Sequence[Model],
        *,
        budget: int | None = None,
        idle_s: float = 0.0,
        patience_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = [_Place(model) for model in models]
        self._budget = budget
        self._idle_s = idle_s
        self._patience_s = patience_s
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._freed = asyncio.Event()
        self._closed = False

    @classmethod
    def of(cls, engine: Engine | TokenEngine) -> Engines:
        """One that is there already, under its own name."""

        async def start(_: Callable[[float], None]) -> Engine | TokenEngine:
            return engine

        engines = cls([Model("", start, queue_limit=engine.stats().queue_limit)])
        engines._places[0].put(engine)
        return engines

    async def start(self, on_progress: Callable[[float], None] | None = None) -> None:
        """Load what is to be loaded at the start. on_progress gets the share done of all, in any thread.

        Raises what loading the default raises; another one that can't be loaded is logged, and tried when asked.
        """
        first = [place for place in self._places if place.model.at_start and place.model.alone]
        for place in self._places:
            if place.model.at_start and not place.model.alone:
                # Nobody else waits for it.
                place.loading = asyncio.create_task(self._bring(place))
        for number, place in enumerate(first):

            def report(share: float, number: int = number) -> None:
                if on_progress is not None:
                    on_progress((number + share) / len(first))

            try:
                async with self._one_at_a_time:
                    await self._load(place, report)
            except GlmbotError as error:
                if place is self._places[0]:
                    raise
                self._failed(place, error)
            report(1.0)

    # ---- names -----------------------------------------------------------------------------------------------

    @property
    def default(self) -> str:
        return self._places[0].name

    @property
    def names(self) -> Sequence[str]:
        return [place.name for place in self._places]

    def find(self, name: str) -> str | None:
        """The model of that name, in whatever case it is written."""
        exact = next((each for each in self.names if each == name), None)
        return exact or next((each for each in self.names if each.lower() == name.lower()), None)

    def queue_limit(self, name: str) -> int:
        return self._place(name).model.queue_limit

    def ready(self, name: str) -> bool:
        """Whether it can be asked at once."""
        return self._place(name).ready

    def engine(self, name: str) -> Engine | None:
        """For a question of a moment; it may be unloaded at any `await`. None where it is not loaded."""
        place = self._place(name)
        return place.engine if place.ready else None

    # ---- use -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def use(self, name: str) -> AsyncGenerator[Engine]:
        """The engine, which stays until this ends. Loads it first where it is not there.

        Raises ModelUnavailable.
        """
        place = self._place(name)
        engine = await self._taken(place)
        try:
            yield engine
        finally:
            self._give_back(place)

    async def check(self, name: str) -> None:
        """Raises ModelTooLarge for a model that the memory for models could not hold even alone, and
        ModelUnavailable for one whose folder can't be read."""
        place = self._place(name)
        if not place.ready:
            self._refuse_too_large(place, (await self._memory(place)).loaded)

    async def set_precision(
        self, name: str, precision: Precision, on_progress: Callable[[float], None] | None = None
    ) -> PrecisionChange:
        """See `Tunable.set_precision`. Raises ModelUnavailable too, when there is no room for it."""
        place = self._place(name)
        elsewhere = PrecisionError("the model runs elsewhere, where its precision is decided")
        if not place.model.alone:
            raise elsewhere
        async with self._one_at_a_time:
            engine = place.engine or await self._load(place, lambda _: None)
            if (tuned := tunable(engine)) is None:
                raise elsewhere
            needed = place.bytes
            if self._budget is not None:
                needed = (await self._memory(place)).at.get(precision, place.bytes)
                self._refuse_too_large(place, needed)
            place.users += 1
            try:
                await self._make_room(max(0, needed - place.bytes), place)
                return await tuned.set_precision(precision, on_progress)
            finally:
                self._give_back(place)
                place.bytes = _bytes_of(engine.stats()) or needed

    async def forget(self, user: str) -> None:
        """See `Engine.forget`."""
        for place in self._places:
            if place.engine is not None:
                await place.engine.forget(user)

    # ---- what there is ---------------------------------------------------------------------------------------

    @property
    def bytes(self) -> int:
        """What models take of this machine now."""
        return sum(place.bytes for place in self._places)

    @property
    def budget(self) -> int | None:
        return self._budget

    def stats(self) -> Mapping[str, EngineStats]:
        """Of those that are loaded."""
        # Also asked from other threads.
        loaded = [(place.name, engine) for place in self._places if (engine := place.engine) is not None]
        return {name: engine.stats() for name, engine in loaded}

    def states(self) -> Sequence[ModelState]:
        """Of all, the default first."""
        return [
            ModelState(
                name=place.name,
                loaded=place.engine is not None,
                stats=_asleep(place) if place.engine is None else place.engine.stats(),
                precisions=tuned.precisions if (tuned := tunable(place.engine)) is not None else (),
                bytes=place.bytes,
                share=place.share if place.loading is not None else None,
                trouble=place.trouble,
            )
            for place in self._places
        ]

    # ---- the life of it --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Unload what nobody has asked for a while, until cancelled."""
        while True:
            await asyncio.sleep(_LOOKS_EVERY_S)
            await self.unload_idle()

    async def unload_idle(self) -> None:
        for place in self._places:
            if not self._idle_s or place.model.at_start or not self._is_idle(place):
                continue
            async with self._turn_of(place):
                if self._is_idle(place):
                    _log.info("model %s was not asked for a while", place.name)
                    await self._unload(place)

    async def close(self) -> None:
        """What still runs gets EngineStopped."""
        self._closed = True
        for place in self._places:
            if place.loading is not None:
                place.loading.cancel()
                await asyncio.wait({place.loading})
        for place in self._places:
            if place.engine is not None:
                await place.engine.close()

    def _is_idle(self, place: _Place) -> bool:
        idle = place.ready and not place.users
        return idle and self._clock() - place.used_at > self._idle_s

    def _place(self, name: str) -> _Place:
        return next((place for place in self._places if place.name == name), self._places[0])

    async def _taken(self, place: _Place) -> Engine:
        """The engine, and one user of it more. What loads it goes on when who asked first goes away.

        Raises ModelUnavailable, and EngineStopped while the bot ends.
        """
        if self._closed:
            raise EngineStopped(_ENDS)
        if place.engine is not None and place.ready:
            place.users += 1
            return place.engine
        if place.failure is not None and self._clock() - place.failed_at < _TRIES_AGAIN_AFTER_S:
            raise place.failure.with_traceback(None)
        waiter: asyncio.Future[Engine] = asyncio.get_running_loop().create_future()
        place.waiting.append(waiter)
        if place.loading is None:
            place.loading = asyncio.create_task(self._bring(place))
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_back(place)
            raise
        finally:
            if waiter in place.waiting:
                place.waiting.remove(waiter)

    def _turn_of(self, place: _Place) -> AbstractAsyncContextManager[object]:
        return self._one_at_a_time if place.model.alone else nullcontext()

    def _give_back(self, place: _Place) -> None:
        place.users -= 1
        place.used_at = self._clock()
        if not place.users:
            self._freed.set()

    async def _bring(self, place: _Place) -> None:
        def report(share: float) -> None:
            place.share = share

        failure: EngineError = EngineStopped(_ENDS)
        try:
            async with self._turn_of(place):
                await self._load(place, report)
        except GlmbotError as error:
            failure = self._failed(place, error)
        except Exception as error:
            _log.exception("model %s", place.name)
            failure = self._failed(place, ModelUnavailable(place.name, f"{type(error).__name__}: {error}"))
        finally:
            place.loading, place.share = None, 0.0
            for waiter in place.waiting:
                if not waiter.done():
                    waiter.set_exception(failure)

    async def _load(self, place: _Place, report: Callable[[float], None]) -> Engine:
        """Those who wait for it are its users before anybody can want its room. Raises GlmbotError."""
        engine = place.engine
        if engine is None:
            engine = await self._loaded(place, report)
        self._grant(place)
        return engine

    def _grant(self, place: _Place) -> None:
        for waiter in place.waiting:
            if place.engine is not None and not waiter.done():
                waiter.set_result(place.engine)
                place.users += 1

    async def _loaded(self, place: _Place, report: Callable[[float], None]) -> Engine:
        needed = 0
        if self._budget is not None:
            needed = (await self._memory(place)).loaded
            self._refuse_too_large(place, needed)
            await self._make_room(needed, place)
        began = self._clock()
        engine = place.put(await place.model.start(report))
        place.bytes = (_bytes_of(engine.stats()) or needed) if place.model.memory else 0
        place.used_at, place.failure = self._clock(), None
        _log.info("model %s is there after %.1f s", place.name, place.used_at - began)
        return engine

    def _failed(self, place: _Place, error: GlmbotError) -> ModelUnavailable:
        _log.error("model %s: %s", place.name, error)
        known = isinstance(error, ModelUnavailable)
        place.failure = error if known else ModelUnavailable(place.name, str(error))
        place.failed_at = self._clock()
        return place.failure

    async def _memory(self, place: _Place) -> Memory:
        """Raises ModelUnavailable."""
        if place.model.memory is None:
            return Memory(0)
        if place.memory is None:
            try:
                place.memory = await asyncio.to_thread(place.model.memory)
            except GlmbotError as error:
                raise ModelUnavailable(place.name, str(error)) from error
        return place.memory

    def _refuse_too_large(self, place: _Place, needed: int) -> None:
        if self._budget is not None and needed > self._budget:
            raise ModelTooLarge(place.name, needed, self._budget)

    async def _make_room(self, needed: int, wanting: _Place) -> None:
        """Have others give way until so many bytes more are within the budget. Raises ModelUnavailable when those
        in use do not end."""
        deadline = asyncio.get_running_loop().time() + self._patience_s
        while self._budget is not None and self.bytes + needed > self._budget:
            others = [place for place in self._places if place.bytes and place is not wanting]
            if not others:
                raise ModelTooLarge(wanting.name, self.bytes + needed, self._budget)
            oldest = min(others, key=lambda place: (place.users > 0, place.used_at))
            if not oldest.users:
                await self._unload(oldest)
                continue
            # Who is being answered loses nothing; whoever comes next waits. But another may be free sooner.
            oldest.leaving = True
            self._freed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._freed.wait()
            except TimeoutError:
                raise ModelUnavailable(wanting.name, f"{oldest.name} is in use and has its memory") from None
            finally:
                oldest.leaving = False
                if any(not place.users for place in others if place is not oldest):
                    self._grant(oldest)

    async def _unload(self, place: _Place) -> None:
        """Nobody can begin with it from the first moment on."""
        engine, place.engine = place.engine, None
        if engine is not None:
            await engine.close()
        del engine
        await asyncio.to_thread(place.model.release)
        _log.info("model %s was unloaded; %.1f GB are free again", place.name, place.bytes / 1e9)
        place.bytes = 0


def _bytes_of(stats: EngineStats) -> int:
    return stats.weight_bytes + stats.cache_bytes


def _asleep(place: _Place) -> EngineStats:
    """What a model that is not loaded has to tell."""
    waits = Waits((), (), 0, 0.0, None)
    return EngineStats(
        place.name,
        Precision.SERVED,
        0,
        0,
        place.model.queue_limit,
        0,
        0,
        0,
        0,
        0,
        0,
        waits,
        0.0,
        0,
        alive=True,
    )
