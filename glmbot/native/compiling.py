"""How the kernels are compiled: for each instruction set by the package's build, for one machine at a first start.

Nothing but the standard library: the build of the package imports this, too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from glmbot.native.instruction_sets import InstructionSet

__all__ = [
    "PREBUILT",
    "compile_to",
    "compiler",
    "digest",
    "flags",
    "is_whole",
    "prebuild",
    "prebuilt",
    "sources",
]

_HERE = Path(__file__).parent
PREBUILT = _HERE / "prebuilt"
"""What the package's build leaves, a library for each instruction set: NAME.SOURCES.CONTENT.so, where the last
two are the beginnings of digests."""
# Contraction is off so that the compiler can't round two ways through the same sum differently.
_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math",
          "-ffp-contract=off", "-Wno-psabi", "-pthread")  # fmt: skip
_TIMEOUT_S = 300


def compiler() -> str | None:
    """$CXX, or g++; None where it is not there."""
    return None if sys.platform == "win32" else shutil.which(os.environ.get("CXX") or "g++")


def sources() -> list[Path]:
    """All that a library is made of; the .cpp files are compiled."""
    return sorted(path for path in _HERE.iterdir() if path.suffix in (".cpp", ".h"))


def flags(architecture: Sequence[str]) -> tuple[str, ...]:
    return (*_FLAGS, *architecture)


def compile_to(target: Path, compiler: str, architecture: Sequence[str]) -> None:
    """Raises OSError, and subprocess.SubprocessError with the compiler's words in `stderr`."""
    files = [str(path) for path in sources() if path.suffix == ".cpp"]
    command = [compiler, *flags(architecture), *files, "-o", str(target)]
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)


def prebuilt(wanted: InstructionSet, folder: Path = PREBUILT) -> Path | None:
    """The library of this set and of these sources. One of others is none: its structures may lie differently."""
    return next(iter(sorted(folder.glob(f"{wanted.name}.{_made_of(wanted)}.*.so"))), None)


def digest(path: Path) -> str:
    """The beginning of that of a file's content. Raises OSError."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def is_whole(path: Path) -> bool:
    """Whether a library has the content that its name says. Raises OSError."""
    return digest(path) == path.name.split(".")[-2]


def prebuild(sets: Sequence[InstructionSet], compiler: str, folder: Path = PREBUILT) -> dict[str, str]:
    """Compile for each set, as many at once as there are processors; what is there already stays.

    Returns by name why a set could not be made: one that this compiler does not know stops no other.
    """
    folder.mkdir(exist_ok=True)
    failed: dict[str, str] = {}

    def make(wanted: InstructionSet) -> None:
        there = prebuilt(wanted, folder)
        if there is not None and is_whole(there):
            return
        try:
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                made = Path(scratch) / "made.so"
                compile_to(made, compiler, wanted.flags)
                for old in folder.glob(f"{wanted.name}.*.so"):
                    # "armv8" is also how "armv8.2-dotprod" begins.
                    if old.name.rsplit(".", 3)[0] == wanted.name:
                        old.unlink(missing_ok=True)
                made.replace(folder / f"{wanted.name}.{_made_of(wanted)}.{digest(made)}.so")
        except (OSError, subprocess.SubprocessError) as error:
            failed[wanted.name] = str(getattr(error, "stderr", None) or error).strip()[-600:]

    with ThreadPoolExecutor(_processors()) as pool:
        list(pool.map(make, sets))
    return failed


def _made_of(wanted: InstructionSet) -> str:
    made = hashlib.sha256("\0".join(flags(wanted.flags)).encode())
    for path in sources():
        content = path.read_bytes()
        made.update(f"\0{path.name}\0{len(content)}\0".encode() + content)
    return made.hexdigest()[:16]


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
