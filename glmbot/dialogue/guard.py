"""What plug-ins do to an exchange: one that raises, or hangs, fails that exchange alone."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any, cast

from glmbot.bot import Bot
from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.lanes import Ticket
from glmbot.dialogue.replies import failed, kept, stopped
from glmbot.errors import GlmbotError
from glmbot.in_time import begun, in_time, result_of
from glmbot.messages import Reply
from glmbot.registered import PlacedStep, RegisteredBackground
from glmbot.store.base import Answers

__all__ = ["Clock", "complain", "guarded", "hurried", "in_the_background", "obeyed"]

# That a plug-in has to hand on the end of an answer that was stopped.
_STOPS_S = 1.0
# That it has to clean up.
_ENDS_S = 1.0


class Clock:
    """The time that somebody else's code may take; what it waits for us does not count."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._timeout: asyncio.Timeout | None = None
        self._ours = False

    async def run(self, work: Awaitable[Any]) -> Any:
        """What does not end when it is cancelled is left behind. Raises TimeoutError, and what
        `glmbot.in_time.result_of` raises."""
        loop = asyncio.get_running_loop()
        task = begun(work)
        try:
            async with asyncio.timeout(self._left) as self._timeout:
                try:
                    await asyncio.wait({task})
                finally:
                    until, self._timeout = self._timeout.when(), None
                    self._left = max(0.0, self._left if until is None else until - loop.time())
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=None if self._ours else _ENDS_S)
        return result_of(task)

    def hurry(self, seconds: float) -> None:
        """From now on there are so many left, at most."""
        self._left = min(self._left, seconds)
        timeout = self._timeout
        if timeout is None or timeout.expired() or (until := timeout.when()) is None:
            return
        timeout.reschedule(min(until, asyncio.get_running_loop().time() + seconds))

    @contextmanager
    def stopped(self) -> Generator[None]:
        timeout, loop = self._timeout, asyncio.get_running_loop()
        if timeout is not None and not timeout.expired():
            self._left = max(0.0, (timeout.when() or loop.time()) - loop.time())
            timeout.reschedule(None)
        self._ours = True
        try:
            yield
        finally:
            self._ours = False
            if timeout is not None and self._timeout is timeout and not timeout.expired():
                timeout.reschedule(loop.time() + self._left)


@asynccontextmanager
async def hurried(clock: Clock, ticket: Ticket | None) -> AsyncGenerator[None]:
    """Once the answer is stopped, what runs by this clock has a moment to end."""

    if ticket is None:
        yield
        return

    async def hurry() -> None:
        await ticket.stop.wait()
        clock.hurry(_STOPS_S)

    hurrying = asyncio.create_task(hurry())
    try:
        yield
    finally:
        hurrying.cancel()


class _Rest:
    """What follows a plug-in's step, as it is handed to it: what it raises is no fault of the plug-in's."""

    def __init__(self, exchange: Exchange, following: Follows, clock: Clock) -> None:
        self._exchange = exchange
        self._following = following
        self._clock = clock
        self.passed: Reply | None = None
        self.failure: BaseException | None = None
        self._opened: list[AsyncGenerator[Reply, None]] = []
        self._closed = False

    def __call__(self, exchange: object = None) -> AsyncGenerator[Reply, None]:
        if self._closed:
            raise RuntimeError("this exchange has ended")
        replies = self._replies()
        self._opened.append(replies)
        return replies

    async def close(self) -> None:
        """Also for a step that goes on although it was ended."""
        self._closed = True
        for replies in self._opened:
            await replies.aclose()

    async def _replies(self) -> AsyncGenerator[Reply, None]:
        async with aclosing(self._following(self._exchange)) as replies:
            while True:
                with self._clock.stopped():
                    try:
                        self.passed = await anext(replies)
                    except StopAsyncIteration:
                        return
                    except BaseException as error:
                        self.failure = error
                        raise
                yield self.passed


async def guarded(
    placed: PlacedStep, store: Answers, exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    """A plug-in's step in the chain. It has the time in all that an answer may take, and a moment once that is
    stopped."""
    clock = Clock(exchange.settings.deadline_s)
    rest = _Rest(exchange, following, clock)
    replies: Any = None
    last: Reply | None = None
    try:
        async with hurried(clock, exchange.ticket):
            replies = placed.step(exchange, rest)
            while True:
                try:
                    given = await clock.run(anext(replies))
                except StopAsyncIteration:
                    break
                if not isinstance(given, Reply):
                    raise TypeError(f"the step {placed.name} yielded {type(given).__name__}, and no Reply")
                last = given
                if last.state.ended:
                    await _record(store, exchange, rest, last)
                yield last
                if last.state.ended:
                    return
        if last is None and exchange.reply is None:
            # Nothing has been said yet, and silence may be right.
            return
        placed.log.error("the step %s ended before its answer did", placed.name)
    except Exception as error:
        if error is rest.failure:
            raise
        complain(placed.log, f"the step {placed.name}", exchange, error)
    finally:
        with suppress(Exception):
            if replies is not None:
                await in_time(replies.aclose, _ENDS_S)
        await rest.close()
    if exchange.recorded is not None:
        # The answer stands, whatever was to be done with it.
        yield exchange.recorded
        return
    end = _end(exchange, placed.plugin)
    await store.finish(exchange.message, kept(replace(end, text="")))
    yield end


async def _record(store: Answers, exchange: Exchange, rest: _Rest, reply: Reply) -> None:
    """An end of the plug-in's own making is as good as any other."""
    if reply is not rest.passed and exchange.recorded is None and not reply.resumes:
        await store.finish(exchange.message, kept(reply))


async def in_the_background(registered: RegisteredBackground, bot: Bot) -> None:
    """A plug-in's own work, until this is cancelled. Raises what it raises."""
    task = begun(registered.work(bot))
    try:
        await asyncio.wait({task})
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_ENDS_S)
    result_of(task)


async def obeyed(
    plugin: str, log: logging.Logger, exchange: Exchange, name: str, obey: Callable[[], Any]
) -> AsyncGenerator[Reply, None]:
    """The replies of a command, which returns one to be awaited, or yields snapshots of one that grows."""
    clock = Clock(exchange.settings.deadline_s)
    ended, outcome = False, cast(Any, None)
    try:
        outcome = obey()
        if inspect.isawaitable(outcome):
            yield _checked(await clock.run(outcome), name)
            return
        while not ended:
            try:
                reply = _checked(await clock.run(anext(outcome)), name)
            except StopAsyncIteration:
                break
            ended = reply.state.ended
            yield reply
        if ended:
            return
        log.error("/%s ended without an answer", name)
    except GlmbotError:
        raise
    except Exception as error:
        complain(log, f"/{name}", exchange, error)
    finally:
        if isinstance(outcome, AsyncGenerator):
            with suppress(Exception):
                await in_time(outcome.aclose, _ENDS_S)
    yield _end(exchange, plugin)


def _checked(reply: object, name: str) -> Reply:
    if not isinstance(reply, Reply):
        raise TypeError(f"/{name} answered with {type(reply).__name__}, and no Reply")
    return reply


def _end(exchange: Exchange, plugin: str) -> Reply:
    """With what has been seen of the answer. Raises ClaimLost."""
    ticket, language = exchange.ticket, exchange.language
    failure = failed(language, "answer.plugin_failed", plugin=plugin)
    if ticket is None:
        return failure
    ticket.check()
    return replace(stopped(language) if ticket.stop.is_set() else failure, text=ticket.reply.text)


def complain(log: logging.Logger, what: str, exchange: Exchange, error: Exception) -> None:
    """Of a plug-in's fault."""
    where = exchange.message.conversation
    if isinstance(error, TimeoutError):
        log.error("%s took too long in %s and was ended", what, where)
    else:
        log.error("%s failed in %s", what, where, exc_info=error)
