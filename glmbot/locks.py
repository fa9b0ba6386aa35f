"""A lock for each of many things, kept only while somebody holds it or waits for it."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

__all__ = ["Locks"]

_K = TypeVar("_K")


class Locks(Generic[_K]):
    def __init__(self) -> None:
        self._locks: WeakValueDictionary[_K, asyncio.Lock] = WeakValueDictionary()

    def of(self, key: _K) -> asyncio.Lock:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock
