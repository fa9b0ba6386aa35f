"""Token ids of texts that come again, in a bounded number of bytes."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

__all__ = ["TextCache"]

# Of an entry besides its text and ids: the objects around them.
_OVERHEAD = 256


class TextCache:
    """The least recently used are dropped first. Safe to use from several threads."""

    def __init__(
        self, encode: Callable[[str], Sequence[int]], *, most_bytes: int, largest_bytes: int
    ) -> None:
        """A text of more than `largest_bytes`, ids included, is encoded each time."""
        self._encode = encode
        self._most = most_bytes
        self._largest = largest_bytes
        self._entries: OrderedDict[str, array[int]] = OrderedDict()
        self._lock = Lock()
        self.bytes = 0

    def encode(self, text: str) -> list[int]:
        with self._lock:
            found = self._entries.get(text)
            if found is not None:
                self._entries.move_to_end(text)
                return found.tolist()
        ids = list(self._encode(text))
        entry = array("I", ids)
        size = _size(text, entry)
        if size <= self._largest:
            with self._lock:
                if text not in self._entries:
                    self.bytes += size
                    self._entries[text] = entry
                while self.bytes > self._most:
                    self.bytes -= _size(*self._entries.popitem(last=False))
        return ids


def _size(text: str, entry: array[int]) -> int:
    # At most four bytes a character in CPython.
    return 4 * len(text) + entry.itemsize * len(entry) + _OVERHEAD
