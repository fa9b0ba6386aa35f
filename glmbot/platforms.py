"""The platforms of one bot: each is started, kept running and changed by itself, and keeps no other from its work.

A platform that can't be reached is tried again, ever more patiently, and named in /readyz until it is there. One
that refuses us (a wrong token) is tried again too, since that may be mended while the others work; where it is the
only one, the process ends with what it said.

Several bots of one platform are several platforms here, by names such as "telegram.support".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from pydantic import BaseModel

from glmbot.background import Troubles
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.registry import Routes
from glmbot.http.routes import Address, Route, RouteWish
from glmbot.keys import kind_of
from glmbot.named_bot import routes_of, spoken_as, under_name, with_name
from glmbot.ports import Adapter, Dialogue
from glmbot.tokens import TokenSettings

__all__ = [
    "Platforms",
    "check",
    "check_accounts",
    "check_routes",
    "check_settings",
    "keep_running",
    "plugin_route_complaints",
]

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_BEFORE_CHANGE_S = 1.0
_STOPS_S = 30.0

Makers = Mapping[str, Any]
"""The adapters' classes, by the names of their platforms."""


def check(
    makers: Makers, wanted: Mapping[str, BaseModel], running: Mapping[str, BaseModel] | None = None
) -> None:
    """See before the model is loaded, or a running platform is stopped, what can be known without any network.

    Raises AdapterError.
    """
    check_accounts(wanted)
    check_routes(makers, wanted)
    for name, settings in wanted.items():
        if running is None or running.get(name) != settings:
            _check(makers, name, settings, None if running is None else running.get(name))


def check_settings(makers: Makers, name: str, settings: BaseModel) -> None:
    """The same of one platform, but for what it takes from the machine (a port), which it may have already."""
    _check(makers, name, settings, settings)


def check_accounts(wanted: Mapping[str, BaseModel]) -> None:
    """Whether two bots of one platform can be in one process: with one token each would answer what is said to
    both. Raises AdapterError that names them, and no token."""
    for (name, other), (later, settings) in combinations(wanted.items(), 2):
        look = getattr(settings, "trouble_beside", None)
        if kind_of(name) == kind_of(later) and look is not None and (words := look(other, name)):
            raise AdapterError(f"[{later}] {words}")


def check_routes(makers: Makers, wanted: Mapping[str, BaseModel]) -> None:
    """Whether what adapters want answered over HTTP can be. Raises AdapterError, with what to write instead."""
    servers = [name for name in wanted if hasattr(makers[kind_of(name)], "serve_routes")]
    owners: dict[str, str] = {}
    doors: dict[Address, str] = {}
    for name, settings in wanted.items():
        for wish in _wishes(makers, name, settings):
            if wish.door is not None and (other := doors.setdefault(wish.door, name)) != name:
                raise AdapterError(
                    f"{wish.key}: {wish.door} is where [{other}] listens as well; set another port, or 0"
                )
            if (other := owners.setdefault(wish.path, name)) != name:
                raise AdapterError(f"{wish.key}: its path is that of [{other}] as well; take another")
            for server in servers:
                if wish.door is not None and (wish.door.host, wish.door.port) == _listens_at(wanted[server]):
                    raise AdapterError(
                        f"{wish.key}: {wish.door} is where [{server}] listens, which answers it there by itself:"
                        f" set the port of [{name}] to 0"
                    )
            if wish.door is not None:
                continue
            if not servers:
                raise AdapterError(
                    f"{wish.key} is answered by the HTTP server of [web], which is not configured: write the"
                    f" section [web] and let your proxy go to its port, or {wish.otherwise}"
                )
            if all(makers[kind_of(server)].owns(wish.path) for server in servers):
                raise AdapterError(
                    f"{wish.key}: its path is one of [{servers[0]}]'s own; take another, such as /{name}, or"
                    f" {wish.otherwise}"
                )


def plugin_route_complaints(
    makers: Makers, wanted: Mapping[str, BaseModel], routes: Mapping[str, Route]
) -> list[str]:
    """What keeps the routes of plug-ins from being answered. That is nobody else's harm."""
    if not routes or any(hasattr(makers[kind_of(name)], "serve_routes") for name in wanted):
        return []
    return [
        f"{', '.join(sorted(routes))}: routes of plug-ins are answered by the HTTP server of [web], which is not"
        " configured: write the section [web]"
    ]


def _wishes(makers: Makers, name: str, settings: BaseModel) -> Sequence[RouteWish]:
    wishes = getattr(makers[kind_of(name)], "route_wishes", None)
    return [
        replace(wish, key=with_name(name, wish.key), otherwise=with_name(name, wish.otherwise))
        for wish in (() if wishes is None else wishes(settings))
    ]


def _listens_at(settings: BaseModel) -> tuple[object, object]:
    return getattr(settings, "host", None), getattr(settings, "port", None)


def _check(makers: Makers, name: str, settings: BaseModel, running: BaseModel | None) -> None:
    look = getattr(makers[kind_of(name)], "check", None)
    with under_name(name):
        if isinstance(settings, TokenSettings):
            settings.read_token(kind_of(name))
        if look is not None:
            look(settings, running)


async def keep_running(
    adapter: Adapter,
    on_trouble: Callable[[str], Awaitable[None]] | None = None,
    on_calm: Callable[[], None] = lambda: None,
) -> None:
    """Run a started adapter again as often as it fails; return when it has ended by itself.

    on_trouble is told what went wrong, and waits before the next try; on_calm that it has run for a while.
    """
    wait = on_trouble or _Patience(type(adapter).__name__).wait
    while True:
        calm = asyncio.get_running_loop().call_later(_FIRST_PAUSE_S, on_calm)
        try:
            await adapter.run()
            return
        except AdapterError as error:
            await wait(str(error))
        except Exception as error:
            _log.exception("%s failed", type(adapter).__name__)
            await wait(f"it failed ({type(error).__name__})")
        finally:
            calm.cancel()


class _Patience:
    """Pauses between tries, each twice as long as the one before, up to a bound."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pause = _FIRST_PAUSE_S

    async def wait(self, words: str) -> None:
        _log.error("%s: %s; trying again in %.0f s", self._name, words, self._pause)
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)

    def end(self) -> None:
        self._pause = _FIRST_PAUSE_S


class Platforms:
    def __init__(self, makers: Makers, dialogue: Dialogue, troubles: Troubles) -> None:
        self._makers = makers
        self._dialogue = dialogue
        self._troubles = troubles
        self._routes = Routes()
        self._running: dict[str, _Platform] = {}
        self._wanted: Mapping[str, BaseModel] = {}
        self._changing: asyncio.Task[None] | None = None
        self._refusals: dict[str, AdapterError] = {}
        self._any_came = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        """Done when a platform has ended by itself (the terminal was closed); an AdapterError when each of them
        has refused us and none was there before."""

    @property
    def adapters(self) -> list[Adapter]:
        return [platform.adapter for platform in self._running.values() if platform.adapter is not None]

    def begin(self, wanted: Mapping[str, BaseModel]) -> None:
        """Start them all, each in its own time."""
        self._wanted = wanted
        for name, settings in wanted.items():
            self._begin(name, settings)

    async def open_routes(self, routes: Mapping[str, Route]) -> None:
        """Those of plug-ins, by their paths; they stay open."""
        await self._routes.open("plugins", list(routes.values()))

    def change(self, wanted: Mapping[str, BaseModel]) -> None:
        """Have those run that are wanted now, a moment later. Asked again meanwhile, the later wish counts."""
        self._wanted = wanted
        if self._changing is None:
            self._changing = asyncio.create_task(self._change())
            self._changing.add_done_callback(self._changed)

    async def stop(self) -> None:
        if self._changing is not None:
            self._changing.cancel()
            await asyncio.gather(self._changing, return_exceptions=True)
        platforms, self._running = list(self._running.values()), {}
        # At the same time: each lets its answers end, and who stops us waits for the slowest alone.
        await asyncio.gather(*(platform.stop() for platform in platforms))

    async def _change(self) -> None:
        # The answer to /reload goes out through a platform that is about to change.
        await asyncio.sleep(_BEFORE_CHANGE_S)
        while names := self._differing():
            # All that end do so first: another may have been given what one of them still uses (a token, a port).
            ending = [old for name in names if (old := self._running.pop(name, None)) is not None]
            await asyncio.gather(*(old.stop() for old in ending))
            for old in ending:
                self._troubles.end(old.name)
            for name in names:
                if name in self._wanted:
                    self._begin(name, self._wanted[name])

    def _differing(self) -> Sequence[str]:
        return [
            name
            for name in sorted({*self._running, *self._wanted})
            if (name not in self._running or self._running[name].settings != self._wanted.get(name))
        ]

    def _changed(self, task: asyncio.Task[None]) -> None:
        self._changing = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("the platforms could not be changed", exc_info=error)

    def _begin(self, name: str, settings: BaseModel) -> None:
        platform = _Platform(
            name,
            settings,
            lambda: self._makers[kind_of(name)](settings, spoken_as(name, self._dialogue)),
            self._troubles,
            self._routes,
            on_start=self._came,
            on_refusal=self._refused,
        )
        self._running[name] = platform
        platform.task.add_done_callback(lambda _: self._end(platform))

    def _came(self, name: str) -> None:
        self._any_came = True
        self._refusals.pop(name, None)

    def _refused(self, name: str, error: AdapterError) -> None:
        self._refusals[name] = error
        if not self._any_came and self._refusals.keys() >= self._running.keys() and not self.ended.done():
            self.ended.set_exception(AdapterError("\n".join(map(str, self._refusals.values()))))

    def _end(self, platform: _Platform) -> None:
        if self._running.get(platform.name) is not platform or self.ended.done():
            return
        error = None if platform.task.cancelled() else platform.task.exception()
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


class _Platform:
    """One platform, from its first start until it is stopped."""

    def __init__(
        self,
        name: str,
        settings: BaseModel,
        make: Callable[[], Adapter],
        troubles: Troubles,
        routes: Routes,
        *,
        on_start: Callable[[str], None],
        on_refusal: Callable[[str, AdapterError], None],
    ) -> None:
        self.name = name
        self.settings = settings
        self.adapter: Adapter | None = None
        self._make = make
        self._troubles = troubles
        self._routes = routes
        self._on_start = on_start
        self._on_refusal = on_refusal
        self._patience = _Patience(name)
        self.task = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        await self._routes.close(self.name)
        with under_name(self.name):
            if self.adapter is not None:
                await _stop(self.name, self.adapter)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _keep_running(self) -> None:
        """Return when it has ended by itself."""
        with under_name(self.name):
            self.adapter = await self._started()
            await keep_running(self.adapter, self._trouble, self._is_back)

    async def _started(self) -> Adapter:
        while True:
            adapter: Adapter | None = None
            try:
                adapter = self._make()
                await self._join(adapter)
                await adapter.start()
            except AdapterError as error:
                if isinstance(error, PlatformRefused):
                    self._on_refusal(self.name, PlatformRefused(with_name(self.name, str(error))))
                await self._given_up(adapter)
                await self._trouble(str(error))
            except Exception as error:
                _log.exception("%s can't be started", self.name)
                await self._given_up(adapter)
                await self._trouble(f"it can't be started ({type(error).__name__})")
            except asyncio.CancelledError:
                await self._given_up(adapter)
                raise
            else:
                self._on_start(self.name)
                self._is_back()
                return adapter

    async def _join(self, adapter: Adapter) -> None:
        """What is answered over HTTP: its own routes are open now, or it answers all. Raises AdapterError."""
        if (serve := getattr(adapter, "serve_routes", None)) is not None:
            serve(self._routes)
        if (routes := getattr(adapter, "routes", None)) is not None:
            await self._routes.open(self.name, routes_of(self.name, routes()))

    async def _given_up(self, adapter: Adapter | None) -> None:
        """What a start has half done (a listening port, a connection) is undone."""
        await self._routes.close(self.name)
        if adapter is not None:
            await _stop(self.name, adapter, quietly=True)

    async def _trouble(self, words: str) -> None:
        words = with_name(self.name, words)
        self._troubles.begin(self.name, words, partial=True)
        await self._patience.wait(words)

    def _is_back(self) -> None:
        if self.name in {each.part for each in self._troubles.now}:
            _log.info("%s is there", self.name)
        self._troubles.end(self.name)
        self._patience.end()


async def _stop(name: str, adapter: Adapter, *, quietly: bool = False) -> None:
    """Nothing that goes wrong here keeps the others from their end."""
    try:
        async with asyncio.timeout(_STOPS_S):
            await adapter.stop()
    except Exception as error:
        if not quietly:
            _log.warning("%s could not be stopped: %s", name, str(error) or type(error).__name__)
