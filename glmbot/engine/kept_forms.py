"""Which compiled forms are kept: what several people ask for, such as the bot's own tools, is put out by nobody's
private forms, and nobody's by many of one other. Pure bookkeeping."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["KeptForms"]

# A hostile one takes 50 MB.
_MOST_COMMON, _MOST_OWN, _MOST_OF_ONE = 6, 6, 2

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class KeptForms(Generic[_K, _V]):
    def __init__(self) -> None:
        self._common: OrderedDict[_K, _V] = OrderedDict()
        self._own: OrderedDict[_K, tuple[str, _V]] = OrderedDict()

    def get(self, key: _K, user: str) -> _V | None:
        if (common := self._common.get(key)) is not None:
            self._common.move_to_end(key)
            return common
        if (own := self._own.get(key)) is None:
            return None
        owner, value = own
        if owner == user:
            self._own.move_to_end(key)
        else:
            del self._own[key]
            self._common[key] = value
            if len(self._common) > _MOST_COMMON:
                self._common.popitem(last=False)
        return value

    def put(self, key: _K, value: _V, user: str) -> None:
        """Of two who compiled the same at once, the first one's stays."""
        if self.get(key, user) is not None:
            return
        self._own[key] = (user, value)
        theirs = [each for each, (owner, _) in self._own.items() if owner == user]
        if len(theirs) > _MOST_OF_ONE:
            del self._own[theirs[0]]
        if len(self._own) > _MOST_OWN:
            self._own.popitem(last=False)

    def forget(self, user: str) -> None:
        """What they alone have asked for."""
        for key in [each for each, (owner, _) in self._own.items() if owner == user]:
            del self._own[key]
