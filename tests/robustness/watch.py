"""What must not happen while the worst values come in: a loop that stands, a traceback, an exception of nobody's."""

from __future__ import annotations

import asyncio
import asyncio.events
import gc
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

__all__ = ["LONGEST_STAND_S", "Watch", "watching"]

_T = TypeVar("_T")

LONGEST_STAND_S = 0.5
_LONGEST_ANSWER_S = 120.0


class Watch(logging.Handler):
    """Collects harm. `tried` is what is being tried, for the report."""

    def __init__(self, left_out: Collection[str] = ()) -> None:
        """left_out: loggers of the tests' own servers."""
        super().__init__(logging.WARNING)
        self._left_out = left_out
        self.tried: dict[str, None] = {}
        self.harm: list[str] = []
        self.answers = 0
        """Of somebody else, that came whole."""
        self._thread = threading.get_ident()
        self._queue = RunQueue()
        self._since = 0.0
        self._seen = ""
        self._own_s = 0.0
        self._over = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        """Where the loop's thread is when it has stood for too long."""
        while not self._over.wait(0.05):
            since = self._since
            if since and time.monotonic() - since > LONGEST_STAND_S:
                frame = sys._current_frames().get(self._thread)
                if since == self._since:
                    self._seen = "".join(traceback.format_stack(frame)[-5:])

    def end(self) -> None:
        self._over.set()
        self._queue.close()

    @contextmanager
    def trying(self, case: object) -> Generator[None]:
        name = str(case)
        self.tried[name] = None
        try:
            yield
        finally:
            self.tried.pop(name, None)

    def own(self, work: Callable[[], _T]) -> _T:
        """What the tests do on the loop themselves is nobody's harm."""
        began = time.monotonic()
        try:
            return work()
        finally:
            self._own_s += time.monotonic() - began

    def blame(self, what: str, case: object = "") -> None:
        tried = str(case) or " | ".join(self.tried) or "afterwards"
        self.harm.append(f"{tried[:400]}: {what[:2000]}")

    def emit(self, record: logging.LogRecord) -> None:
        if record.name in self._left_out:
            return
        if record.exc_info or record.exc_text or record.levelno >= logging.CRITICAL:
            text = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
            self.blame(f"log {record.name}: {record.getMessage()[:300]} … {text[-1200:]}")

    def on_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.blame(f"nobody's exception: {context.get('message')}: {context.get('exception')!r}")

    def timed(self, run: Callable[[Any], None]) -> Callable[[Any], None]:
        """Each callback of the loop, measured.

        By the clock on the wall, less the time that this thread was ready to run and other programs had the
        processor; and not more than this whole process computed meanwhile. So a busy neighbour makes no loop stand,
        and a thread of ours does that keeps the interpreter to itself.
        """

        def timed_run(handle: Any) -> None:
            if threading.get_ident() != self._thread:
                run(handle)
                return
            began, queued, used = time.monotonic(), self._queue.waited_s(), time.process_time()
            own = self._own_s
            self._since = began
            run(handle)
            self._since = 0.0
            took = time.monotonic() - began - (self._own_s - own)
            if took > LONGEST_STAND_S:
                stood = min(took - (self._queue.waited_s() - queued), time.process_time() - used)
                if stood > LONGEST_STAND_S:
                    self.blame(f"the loop stood for {stood:.2f} s in {_named(handle)}\n{self._seen}")

        return timed_run


class RunQueue:
    """How long this thread was ready and did not run (https://docs.kernel.org/scheduler/sched-stats.html)."""

    def __init__(self) -> None:
        try:
            self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        except OSError:
            self._file = -1

    def waited_s(self) -> float:
        """Always 0 where the system does not say."""
        return int(os.pread(self._file, 100, 0).split()[1]) / 1e9 if self._file >= 0 else 0.0

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def _named(handle: Any) -> str:
    callback = getattr(handle, "_callback", None)
    task = getattr(callback, "__self__", None)
    return repr(task.get_coro() if isinstance(task, asyncio.Task) else callback)[:300]


@asynccontextmanager
async def watching(
    somebody_else: Callable[[], Awaitable[None]], *, left_out: Collection[str] = ()
) -> AsyncGenerator[Watch]:
    """`somebody_else` asks, and raises AssertionError when the answer is not whole. One answer of theirs comes before,
    one after, and between them there is always one on its way. All harm is reported at the end."""
    watch, loop = Watch(left_out), asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(watch.on_exception)
    logging.getLogger().addHandler(watch)
    run = asyncio.events.Handle._run
    setattr(asyncio.events.Handle, "_run", watch.timed(run))  # noqa: B010 - typed as a method
    ending = False

    async def answer() -> None:
        try:
            async with asyncio.timeout(_LONGEST_ANSWER_S):
                await somebody_else()
            watch.answers += 1
        except Exception as error:
            watch.blame(f"the answer of somebody else: {type(error).__name__}: {error}")
            nonlocal ending
            ending = True

    async def always() -> None:
        while not ending:
            await answer()

    try:
        await answer()
        meanwhile = asyncio.create_task(always())
        try:
            yield watch
        finally:
            failed, ending = ending, True
            await meanwhile
        if not failed:
            await answer()
    finally:
        setattr(asyncio.events.Handle, "_run", run)  # noqa: B010
        # This step of the loop was begun under the watch.
        await asyncio.sleep(0)
        # Tasks whose exceptions nobody took say so when they go.
        gc.collect()
        await asyncio.sleep(0)
        logging.getLogger().removeHandler(watch)
        loop.set_exception_handler(before)
        watch.end()
    assert not watch.harm, "\n\n".join([f"{len(watch.harm)} times harm", *watch.harm[:40]])
    assert watch.answers >= 3
