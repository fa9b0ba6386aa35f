"""Compiling kernels.cpp for this processor, once, and opening it.

Needs g++ (or $CXX). Without one the engine computes with torch's own operators, which is slower and otherwise the
same. What was compiled is kept in the user's cache folder, under a name that holds everything it depends on; where
no folder is this user's alone, it is compiled for this process only.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import torch

__all__ = ["compile_kernels", "kernels", "open_kernels"]

_log = logging.getLogger(__name__)

_SOURCE = Path(__file__).parent / "kernels.cpp"
_VECTORS = Path(__file__).parent / "vectors.h"
# Contraction is off so that the compiler can't round two ways through the same sum differently.
_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math",
          "-ffp-contract=off", "-Wno-psabi")  # fmt: skip
_COMPILE_TIMEOUT_S = 300
_OFF = "GLMBOT_NATIVE"


@lru_cache(maxsize=1)
def kernels() -> ctypes.CDLL | None:
    """The kernels, or None where they can't be had; then the log says why. GLMBOT_NATIVE=0 turns them off."""
    if os.environ.get(_OFF) == "0":
        return None
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None or sys.platform == "win32":
        _log.warning("no C++ compiler here: torch computes alone, several times slower; install g++")
        return None
    try:
        library = _built(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        words = getattr(error, "stderr", None) or str(error)
        _log.warning("the kernels could not be compiled, torch computes alone: %s", str(words).strip()[-600:])
        return None
    _log.debug("kernels with %s", library.glmbot_features().decode())
    return library


def compile_kernels(compiler: str, folder: Path, architecture: str) -> Path:
    """Compile for `architecture` (GCC's -march) into `folder`, unless that was done before.

    Raises OSError, and subprocess.SubprocessError with the compiler's words in `stderr`.
    """
    flags = [*_FLAGS, f"-march={architecture}"]
    if sys.platform == "linux":
        # The same OpenMP library as torch's, and so the same threads: torch brought it into the process already.
        flags.append("-fopenmp")
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=30).stdout
    depends = (
        _SOURCE.read_bytes(),
        _VECTORS.read_bytes(),
        version,
        " ".join(flags).encode(),
        _processor().encode(),
    )
    name = hashlib.sha256(b"\0".join(depends)).hexdigest()[:24]
    target = folder / f"kernels-{name}.so"
    if target.is_symlink() or target.exists():
        if _is_ours(target.lstat(), stat.S_IFREG):
            return target
        _log.warning("%s can be written by others, so it is not loaded, and made anew", target)
        target.unlink()
    _log.info("compiling the kernels for this processor, once (about ten seconds) ...")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / target.name
        command = [compiler, *flags, str(_SOURCE), "-o", str(made)]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=_COMPILE_TIMEOUT_S)
        made.chmod(0o700)
        # Another process that compiles the same at once finds one or the other, and never a half.
        made.replace(target)
    return target


def open_kernels(path: Path) -> ctypes.CDLL:
    """What `compile_kernels` made. Raises OSError."""
    library = ctypes.CDLL(str(path))
    library.glmbot_step.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    library.glmbot_step.restype = None
    library.glmbot_features.restype = ctypes.c_char_p
    return library


def _built(compiler: str) -> ctypes.CDLL:
    try:
        return open_kernels(compile_kernels(compiler, _cache(), "native"))
    except (PermissionError, RuntimeError) as error:
        _log.warning("%s; the kernels are compiled for this process alone", error)
    # What is loaded stays with the process when its file is gone.
    with tempfile.TemporaryDirectory(prefix="glmbot-") as folder:
        return open_kernels(compile_kernels(compiler, Path(folder), "native"))


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
