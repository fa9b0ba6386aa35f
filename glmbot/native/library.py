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
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from glmbot.native import compiling, kept
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
    stem = f"kernels-{name}"
    if (there := kept.find(folder, stem, "so")) is not None:
        return there
    _log.info("compiling the kernels for this processor, once (about ten seconds) ...")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / "made.so"
        compiling.compile_to(made, compiler, flags)
        return kept.put(made, folder, stem, "so")


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
        return open_kernels(compile_kernels(compiler, kept.folder(), architecture))
    except (PermissionError, RuntimeError) as error:
        _log.warning("%s; the kernels are compiled for this process alone", error)
    # What is loaded stays with the process when its file is gone.
    with tempfile.TemporaryDirectory(prefix="glmbot-") as folder:
        return open_kernels(compile_kernels(compiler, Path(folder), architecture))


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {torch.__version__}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
