"""Answers that stand in the answer to WeCom's own request: those whose first message is there at once.

WeCom waits five seconds, and asks up to three times more, with the same message, where it got nothing
(https://developer.work.weixin.qq.com/document/path/90238): it then gets the same answer again.
"""

from __future__ import annotations

import asyncio

__all__ = ["Passives"]

_MOST = 1000
# Of the requests that WeCom repeats the last one has come by then.
_KEPT_S = 30.0


class Passives:
    """wait_s: for which a request is kept open."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._open: dict[str, asyncio.Future[str]] = {}

    def open(self, update_id: str) -> None:
        """Before the message is handed on: it may be answered by this request. Of too many none more is."""
        if self._wait_s <= 0 or update_id in self._open or len(self._open) >= _MOST:
            return
        loop = asyncio.get_running_loop()
        self._open[update_id] = loop.create_future()
        loop.call_later(self._wait_s, self._close, update_id)
        loop.call_later(self._wait_s + _KEPT_S, self._open.pop, update_id, None)

    async def answer(self, update_id: str) -> str:
        """Wait for it; "" where there is none."""
        waiting = self._open.get(update_id)
        return await asyncio.shield(waiting) if waiting is not None else ""

    def given(self, update_id: str) -> str:
        """What it was answered with a moment ago; "" for nothing."""
        waiting = self._open.get(update_id)
        return waiting.result() if waiting is not None and waiting.done() else ""

    def give(self, update_id: str, words: str) -> bool:
        """Whether a request was waiting for them."""
        waiting = self._open.get(update_id)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(words)
        return True

    def close(self) -> None:
        for update_id in list(self._open):
            self._close(update_id)

    def _close(self, update_id: str) -> None:
        self.give(update_id, "")
