"""Opening the kernels: prebuilt for an instruction set that this processor has, or compiled here, once.

The package's build leaves libraries for the sets of `glmbot.native.instruction_sets`. Where the best one for this
processor is not among them, kernels are compiled by g++ (or $CXX) and kept in the user's cache folder, under a
name that holds everything they depend on; where no folder is this user's alone, they are compiled for this process
only. Without either the engine computes with torch's own operators, which is slower and otherwise the same.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from glmbot.native import compiling
from glmbot.native.instruction_sets import SETS, InstructionSet, family, features, named, usable

__all__ = ["VARIABLE", "Kernels", "choose", "compile_kernels", "kernels", "loaded", "open_kernels"]

_log = logging.getLogger(__name__)

VARIABLE = "GLMBOT_NATIVE"
"""0 turns the kernels off, `native` compiles them for this very processor, the name of a set holds them to it."""
_OFF, _NATIVE = "0", "native"


@dataclass(frozen=True, slots=True)
class Kernels:
    library: ctypes.CDLL
    architecture: str
    """An instruction set's name, or `native`."""
    prebuilt: bool

    def __str__(self) -> str:
        how = "prebuilt" if self.prebuilt else "compiled here"
        return f"{self.architecture}, {how} ({self.library.glmbot_features().decode().strip()})"


def kernels() -> ctypes.CDLL | None:
    """The kernels, or None where they can't be had; then the log says why."""
    made = loaded()
    return None if made is None else made.library


@lru_cache(maxsize=1)
def loaded() -> Kernels | None:
    """As GLMBOT_NATIVE says; the same for as long as the process lives."""
    return choose(os.environ.get(VARIABLE, ""))


def choose(held: str) -> Kernels | None:
    """The best kernels for this processor, or those that `held` names, as GLMBOT_NATIVE does."""
    if held == _OFF:
        return None
    sets = usable(features(), SETS.get(family(), ()))
    if held not in ("", _NATIVE, *(one.name for one in sets)):
        names = ", ".join((_OFF, _NATIVE, *(one.name for one in sets)))
        _log.warning("%s=%s is nothing that this processor can do; it can be %s", VARIABLE, held, names)
        held = ""
    made = next(_tries(held, sets), None)
    if made is None:
        _log.warning("no kernels, prebuilt or by g++: torch computes alone, several times slower")
    else:
        _log.info("kernels: %s", made)
    return made


def _tries(held: str, sets: list[InstructionSet]) -> Iterator[Kernels]:
    """The ways to have kernels that work, from the best one on."""
    if held == _NATIVE:
        yield from _compiled(_NATIVE)
        return
    if held:
        sets = [one for one in sets if one.name == held]
    for one in sets[:1]:
        yield from _prebuilt(one)
    yield from _compiled(held or _NATIVE)
    for one in sets[1:]:
        yield from _prebuilt(one)


def _prebuilt(wanted: InstructionSet) -> Iterator[Kernels]:
    path = compiling.prebuilt(wanted)
    if path is None:
        return
    try:
        if not compiling.is_whole(path):
            raise OSError("its content is not what was built")
        yield Kernels(open_kernels(path), wanted.name, True)
    except OSError as error:
        _log.warning("%s is not used: %s; install glmbot again", path, error)


def _compiled(architecture: str) -> Iterator[Kernels]:
    compiler = compiling.compiler()
    if compiler is None:
        return
    try:
        yield Kernels(_built(compiler, architecture), architecture, False)
    except (OSError, subprocess.SubprocessError) as error:
        words = getattr(error, "stderr", None) or str(error)
        _log.warning("the kernels could not be compiled: %s", str(words).strip()[-600:])


def compile_kernels(compiler: str, folder: Path, architecture: str) -> Path:
    """Compile for `architecture`, a set's name or `native`, into `folder`, unless that was done before.

    Raises OSError, and subprocess.SubprocessError with the compiler's words in `stderr`.
    """
    wanted = named(architecture)
    flags = (f"-march={architecture}",) if wanted is None else wanted.flags
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=30).stdout
    depends = (
        *(path.read_bytes() for path in compiling.sources()),
        version,
        " ".join(compiling.flags(flags)).encode(),
        _processor().encode(),
    )
    name = hashlib.sha256(b"\0".join(depends)).hexdigest()[:24]
    for kept in sorted(folder.glob(f"kernels-{name}.*.so")):
        if not _is_ours(kept.lstat(), stat.S_IFREG):
            _log.warning("%s can be written by others, so it is not loaded, and made anew", kept)
        elif compiling.is_whole(kept):
            return kept
        else:
            # A power cut may leave a name without its content.
            _log.warning("%s is damaged, so it is not loaded, and made anew", kept)
        kept.unlink(missing_ok=True)
    _log.info("compiling the kernels for this processor, once (about ten seconds) ...")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / "made.so"
        compiling.compile_to(made, compiler, flags)
        made.chmod(0o700)
        target = folder / f"kernels-{name}.{compiling.digest(made)}.so"
        # Another process that compiles the same at once finds one or the other, and never a half.
        made.replace(target)
    return target


def open_kernels(path: Path) -> ctypes.CDLL:
    """A library of `compiling.prebuild` or `compile_kernels`. Raises OSError."""
    library = ctypes.CDLL(str(path))
    if not hasattr(library, "glmbot_step"):
        raise OSError(f"{path} holds no kernels")
    library.glmbot_step.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    library.glmbot_step.restype = None
    library.glmbot_features.restype = ctypes.c_char_p
    return library


def _built(compiler: str, architecture: str) -> ctypes.CDLL:
    try:
        return open_kernels(compile_kernels(compiler, _cache(), architecture))
    except (PermissionError, RuntimeError) as error:
        _log.warning("%s; the kernels are compiled for this process alone", error)
    # What is loaded stays with the process when its file is gone.
    with tempfile.TemporaryDirectory(prefix="glmbot-") as folder:
        return open_kernels(compile_kernels(compiler, Path(folder), architecture))


def _cache() -> Path:
    """A folder of this user's alone: code is loaded from it.

    Raises PermissionError when others can write there or it can't be made, RuntimeError for a user without a home.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative one is to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/
    root = named if named.is_absolute() else Path.home() / ".cache"
    folder = root / "glmbot"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise PermissionError(f"{folder} can't be made ({error.strerror})") from error
    if not _is_ours(folder.stat(), stat.S_IFDIR):
        raise PermissionError(f"{folder} can be written by others, so no code is kept there; chmod 700 it")
    # Whoever may rename it could put another in its place.
    for parent in folder.resolve().parents:
        status = parent.stat()
        foreign = status.st_uid not in (0, os.getuid())
        if foreign or (status.st_mode & 0o002 and not status.st_mode & stat.S_ISVTX):
            raise PermissionError(f"{parent} can be written by others, so no code is kept below it")
    return folder


def _is_ours(status: os.stat_result, kind: int) -> bool:
    """Of this kind, this user's, and written by nobody else."""
    return stat.S_IFMT(status.st_mode) == kind and status.st_uid == os.getuid() and not status.st_mode & 0o022


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {torch.__version__}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
