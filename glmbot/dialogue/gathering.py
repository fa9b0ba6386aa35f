"""How long what is one act of a person is waited for before it is answered."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from glmbot.dialogue import acts
from glmbot.messages import Message

__all__ = ["Gathering"]

# Nothing new came for so long: that was all.
_SETTLED_S = 1.0
# So long at most, however much comes.
_LONGEST_S = 10.0


@dataclass(slots=True)
class _Growing:
    since: float
    newest: float
    known: Set[str]


@dataclass(slots=True)
class Gathering:
    """The acts of one conversation that more may belong to. Times are the event loop's."""

    _growing: dict[str, _Growing] = field(default_factory=dict[str, _Growing])

    def wait_for(self, act: Sequence[Message], now: float) -> float:
        """Seconds; 0 when the act is to be answered now."""
        first = act[0].update_id
        if not acts.awaits_more(act):
            self._growing.pop(first, None)
            return 0.0
        known = {message.update_id for message in act}
        growing = self._growing.setdefault(first, _Growing(now, now, known))
        if known - growing.known:
            growing.newest, growing.known = now, known
        wait = min(growing.since + _LONGEST_S, growing.newest + _SETTLED_S) - now
        if wait > 0:
            return wait
        del self._growing[first]
        return 0.0
