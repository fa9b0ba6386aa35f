"""The last so many things that were noted, by name: what grows with people and channels has a bound."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["Recent"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(Generic[_K, _V]):
    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[_K, _V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def put(self, key: _K, value: _V) -> None:
        """What was put longest ago gives way."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def get(self, key: _K) -> _V | None:
        return self._kept.get(key)

    def take(self, key: _K) -> _V | None:
        return self._kept.pop(key, None)
