"""Finding the first of several stop texts while a text grows, in time that is linear in the text."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StopTexts"]


class StopTexts:
    """One search over a growing text (Knuth, Morris and Pratt 1977, for each stop text by itself).

    The one that is complete first counts, however the text was cut; of several that end together, the longest.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Raises ValueError for an empty one."""
        if not all(stops):
            raise ValueError("stop texts must not be empty")
        self._stops = tuple(stops)
        self._borders = [_borders(stop) for stop in stops]
        self._matched = [0] * len(stops)
        self._read = 0
        self.found: int | None = None
        """Where in all of the text the stop text begins."""

    @property
    def pending(self) -> int:
        """Characters at the end that may yet turn out to be the beginning of a stop text."""
        return 0 if self.found is not None else max(self._matched, default=0)

    def read(self, piece: str) -> None:
        """The text goes on with `piece`. Once a stop text was found nothing more is looked for."""
        if not self._stops:
            return
        for character in piece:
            if self.found is not None:
                return
            self._read += 1
            for index, stop in enumerate(self._stops):
                matched = self._matched[index]
                while matched and stop[matched] != character:
                    matched = self._borders[index][matched - 1]
                matched += stop[matched] == character
                self._matched[index] = matched
            whole = [len(stop) for stop, n in zip(self._stops, self._matched, strict=True) if n == len(stop)]
            if whole:
                self.found = self._read - max(whole)


def _borders(stop: str) -> list[int]:
    """For each beginning of `stop`, the length of the longest shorter beginning that it ends with."""
    borders = [0] * len(stop)
    length = 0
    for place in range(1, len(stop)):
        while length and stop[length] != stop[place]:
            length = borders[length - 1]
        length += stop[length] == stop[place]
        borders[place] = length
    return borders
