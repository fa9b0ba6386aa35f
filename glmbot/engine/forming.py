"""Forms compiled beside everybody's answers: neither the loop nor the model waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from glmbot.engine.masks import FormCompiler, FormMatcher
from glmbot.errors import PromptInvalid
from glmbot.forms import Form
from glmbot.locks import Locks

__all__ = ["Forming"]

_THREADS = 2


class Forming:
    def __init__(self) -> None:
        self.waiting = 0
        """How many forms are wanted now."""
        self._threads = ThreadPoolExecutor(_THREADS, "forms")
        self._locks = Locks[str]()
        self._running: set[asyncio.Task[None]] = set()

    async def matcher(
        self, compiler: FormCompiler | None, form: Form, prompt: Sequence[int], begun: int, *, user: str
    ) -> FormMatcher:
        """See `FormCompiler.compile`. One of a person at a time, also when they have gone away: a thread can't be
        stopped. Raises PromptInvalid."""
        if compiler is None:
            raise PromptInvalid("the form of the answer: this model can't be held to one")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[FormMatcher] = loop.create_future()

        async def in_turn() -> None:
            async with self._locks.of(user):
                if done.cancelled():
                    return
                try:
                    made = await loop.run_in_executor(
                        self._threads, lambda: _guarded(compiler, form, prompt, begun, user)
                    )
                except Exception as error:
                    if not done.done():
                        done.set_exception(error)
                else:
                    if not done.done():
                        done.set_result(made)

        self.waiting += 1
        try:
            task = loop.create_task(in_turn())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            return await done
        finally:
            self.waiting -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _guarded(compiler: FormCompiler, form: Form, prompt: Sequence[int], begun: int, user: str) -> FormMatcher:
    try:
        return compiler.compile(form, prompt, begun, user=user)
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # A panic of a library in Rust is no Exception.
        raise PromptInvalid(f"the form of the answer: {type(error).__name__}"[:500]) from error
