"""How much is in progress in this process, of each person and each source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Pending"]


@dataclass(slots=True)
class Pending:
    _counts: Counter[str] = field(default_factory=Counter[str])

    def of(self, name: str) -> int:
        return self._counts[name] if name else 0

    def enter(self, *names: str) -> list[int]:
        """Returns how much there is of each now, this included; 0 of one without a name."""
        self._counts.update(filter(None, names))
        return [self._counts[name] if name else 0 for name in names]

    def leave(self, *names: str) -> None:
        for name in filter(None, names):
            self._counts[name] -= 1
            if self._counts[name] <= 0:
                del self._counts[name]

    @contextmanager
    def hold(self, *names: str) -> Generator[None]:
        self.enter(*names)
        try:
            yield
        finally:
            self.leave(*names)
