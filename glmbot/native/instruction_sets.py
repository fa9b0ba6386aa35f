"""The instruction sets that the kernels are prebuilt for, and which of them a processor has.

Nothing but the standard library: the build of the package imports this, too.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["SETS", "InstructionSet", "family", "features", "named", "usable"]


@dataclass(frozen=True, slots=True)
class InstructionSet:
    name: str
    flags: tuple[str, ...]
    """GCC's and Clang's."""
    needs: frozenset[str]
    """As Linux names them in /proc/cpuinfo, without those that come with another one."""


_V2 = frozenset({"ssse3", "sse4_1", "sse4_2", "popcnt", "cx16"})
_V3 = _V2 | {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "abm"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_ARM = frozenset({"asimd"})

SETS: dict[str, tuple[InstructionSet, ...]] = {
    "x86-64": (
        InstructionSet(
            "x86-64-v4-bf16",
            ("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16"),
            _V4 | {"avx512_vnni", "avx512_bf16"},
        ),
        InstructionSet("x86-64-v4-vnni", ("-march=x86-64-v4", "-mavx512vnni"), _V4 | {"avx512_vnni"}),
        InstructionSet("x86-64-v4", ("-march=x86-64-v4",), _V4),
        InstructionSet("x86-64-v3-vnni", ("-march=x86-64-v3", "-mavxvnni"), _V3 | {"avx_vnni"}),
        InstructionSet("x86-64-v3", ("-march=x86-64-v3",), _V3),
        InstructionSet("x86-64-v2", ("-march=x86-64-v2",), _V2),
    ),
    "aarch64": (
        InstructionSet("armv8.2-dotprod", ("-march=armv8.2-a+dotprod",), _ARM | {"asimddp"}),
        InstructionSet("armv8", ("-march=armv8-a",), _ARM),
    ),
}
"""By family, the best first."""


def family() -> str:
    """Of this machine; one that SETS does not name has no prebuilt kernels."""
    machine = platform.machine().lower()
    return {"amd64": "x86-64", "x86_64": "x86-64", "arm64": "aarch64"}.get(machine, machine)


def named(name: str) -> InstructionSet | None:
    return next((made for made in SETS.get(family(), ()) if made.name == name), None)


def usable(has: frozenset[str], sets: Sequence[InstructionSet]) -> list[InstructionSet]:
    """Those that run on a processor with these features, in the order given."""
    return [made for made in sets if made.needs <= has]


@lru_cache(maxsize=1)
def features() -> frozenset[str]:
    """What all of this machine's processors have, and the system lets programs use; none where it does not say."""
    if sys.platform != "linux":
        return frozenset()
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return frozenset()
    return in_cpuinfo(text)


def in_cpuinfo(text: str) -> frozenset[str]:
    """Features of every processor that Linux' /proc/cpuinfo lists."""
    lines = {line for line in text.splitlines() if line.startswith(("flags", "Features"))}
    found = [frozenset(line.partition(":")[2].split()) for line in lines]
    return frozenset.intersection(*found) if found else frozenset()
