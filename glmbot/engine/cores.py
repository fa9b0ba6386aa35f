"""How many cores this process may use: those it is bound to, as far as its control groups pay for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["quota", "usable_cores"]

_MOST_DEEP = 64


def usable_cores() -> int:
    """At least 1."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    paid = quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    # A part of a core pays for no thread: one more would make all of them stand still for a part of each period.
    return max(1, bound if paid is None else min(bound, int(paid)))


def quota(membership: Path, mounted: Path) -> float | None:
    """Cores that the control groups allow, the tightest of a group and those around it; None without a limit.

    membership: /proc/self/cgroup; mounted: /sys/fs/cgroup. See cgroups(7), and cpu.max in
    https://docs.kernel.org/admin-guide/cgroup-v2.html.
    """
    try:
        lines = membership.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    limits: list[float] = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            limits += [limit for group in _around(mounted, path) if (limit := _unified(group)) is not None]
        elif "cpu" in controllers.split(","):
            for name in (controllers, "cpu"):
                groups = _around(mounted / name, path)
                limits += [limit for group in groups if (limit := _older(group)) is not None]
    return min(limits, default=None)


def _around(root: Path, path: str) -> Iterator[Path]:
    """The group's folder and those above it. A container sees its own group as the root, whatever it is called."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")][:_MOST_DEEP]
    for count in range(len(parts) + 1):
        yield root.joinpath(*parts[:count])


def _unified(group: Path) -> float | None:
    numbers = _words(group / "cpu.max")
    return _cores(*numbers) if len(numbers) == 2 else None


def _older(group: Path) -> float | None:
    numbers = _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
    return _cores(*numbers) if len(numbers) == 2 else None


def _cores(share: str, period: str) -> float | None:
    """share: microseconds in each period; `max` or -1 is no limit."""
    if not (share.isascii() and share.isdigit() and period.isascii() and period.isdigit()):
        return None
    return int(share) / int(period) if int(share) and int(period) else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").split()
    except OSError:
        return []
