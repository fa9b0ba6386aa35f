"""Whose request comes next: users take turns. Pure, and the same for the local engine and the remote one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

__all__ = ["Waiting", "fair_order"]


class Waiting(Protocol):
    @property
    def user(self) -> str: ...

    @property
    def arrival(self) -> float: ...


_T = TypeVar("_T", bound=Waiting)


def fair_order(
    waiting: Iterable[_T], running: Iterable[str], last_served: Mapping[str, int], turn: int
) -> list[_T]:
    """The waiting in the order in which they will be served: the index + 1 is the place in line.

    Next comes a request of the user who has fewest in `running`, and of those the one who was served least
    recently (`last_served` numbers turns, the latest is `turn`); a user's own requests keep their order.
    """
    in_progress = Counter(running)
    served = dict(last_served)
    by_user: dict[str, list[_T]] = {}
    for each in waiting:
        by_user.setdefault(each.user, []).append(each)
    order: list[_T] = []
    while by_user:
        user = min(
            by_user,
            key=lambda name: (in_progress[name], served.get(name, -1), by_user[name][0].arrival),
        )
        order.append(by_user[user].pop(0))
        turn += 1
        served[user] = turn
        in_progress[user] += 1
        if not by_user[user]:
            del by_user[user]
    return order
