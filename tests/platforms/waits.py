"""What a platform told those to wait who wrote too fast, and who did not wait."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Waits"]

# Who wrote at the same time had not been told yet; and a wait that is rounded ends a little early.
_AT_ONCE_S = 0.05


@dataclass
class Waits:
    """`told`: how often. `broken`: who wrote again before their wait was over, and was refused again."""

    told: int = 0
    broken: list[str] = field(default_factory=list[str])
    _of: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])

    def tell(self, what: object, seconds: float, now: float) -> None:
        """A write there is refused for so long; 0 where the platform does not say for how long."""
        at, until = self._of.get(str(what), (now, now))
        if at + _AT_ONCE_S < now < until - _AT_ONCE_S:
            self.broken.append(
                f"{what}: told at {at:.2f} to wait until {until:.2f}, and it wrote at {now:.2f}"
            )
        self.told += 1
        self._of[str(what)] = now, now + seconds
