"""How fast tokens can be guessed: a slot for each attempt, of one address and of all together. Pure bookkeeping.

An attempt takes its slot before it is compared, so that guesses at the same time wait as long as guesses one after
the other. A right token gives its slot back: who has one waits only while somebody at the same address guesses.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Attempts", "TooManyAttempts"]

_FREE_OF_ONE, _INTERVAL_OF_ONE_S = 10, 1.0
_FREE_OF_ALL, _INTERVAL_OF_ALL_S = 100, 0.1
_LONGEST_WAIT_S = 10.0
_MOST_ADDRESSES = 4096


class TooManyAttempts(Exception):
    def __init__(self, wait_s: float) -> None:
        super().__init__("too many wrong tokens")
        self.wait_s = wait_s


class Attempts:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # When the slots taken so far will have been worked off, were they an interval apart.
        self._until: OrderedDict[str, float] = OrderedDict()
        self._until_all = 0.0
        self._proven: OrderedDict[str, None] = OrderedDict()

    def reserve(self, address: str) -> float:
        """Take a slot. Returns the seconds to wait before the token may be compared.

        Addresses that had a right token before do not wait for other addresses. Raises TooManyAttempts when the
        wait would be too long; no slot is taken then.
        """
        now = self._clock()
        until = max(self._until.get(address, now), now)
        until_all = max(self._until_all, now)
        wait = until - now - (_FREE_OF_ONE - 1) * _INTERVAL_OF_ONE_S
        if address not in self._proven:
            wait = max(wait, until_all - now - (_FREE_OF_ALL - 1) * _INTERVAL_OF_ALL_S)
        if wait > _LONGEST_WAIT_S:
            raise TooManyAttempts(wait)
        self._until[address] = until + _INTERVAL_OF_ONE_S
        self._until.move_to_end(address)
        self._until_all = until_all + _INTERVAL_OF_ALL_S
        if len(self._until) > _MOST_ADDRESSES:
            self._until.popitem(last=False)
        return max(0.0, wait)

    def right(self, address: str) -> None:
        """The attempt was no guess: its slot is given back."""
        if address in self._until:
            self._until[address] -= _INTERVAL_OF_ONE_S
        self._until_all -= _INTERVAL_OF_ALL_S
        self._proven[address] = None
        self._proven.move_to_end(address)
        if len(self._proven) > _MOST_ADDRESSES:
            self._proven.popitem(last=False)
