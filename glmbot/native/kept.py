"""Compiled code that is kept for the next start.

It is loaded into the process, or onto a card. So folder and files are this user's alone, and the name of each file
holds a digest of its content.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from glmbot.native.compiling import digest, is_whole

__all__ = ["find", "folder", "put"]

_log = logging.getLogger(__name__)


def folder() -> Path:
    """A folder of this user's alone: code is loaded from it.

    Raises PermissionError when others can write there or it can't be made, RuntimeError for a user without a home.
    """
    if not hasattr(os, "getuid"):
        raise PermissionError("whose a folder is can't be seen on this system, so no code is kept")
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative one is to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/
    root = named if named.is_absolute() else Path.home() / ".cache"
    made = root / "glmbot"
    try:
        made.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise PermissionError(f"{made} can't be made ({error.strerror})") from error
    if not _is_ours(made.stat(), stat.S_IFDIR):
        raise PermissionError(f"{made} can be written by others, so no code is kept there; chmod 700 it")
    # Whoever may rename it could put another in its place.
    for parent in made.resolve().parents:
        status = parent.stat()
        foreign = status.st_uid not in (0, os.getuid())
        if foreign or (status.st_mode & 0o002 and not status.st_mode & stat.S_ISVTX):
            raise PermissionError(f"{parent} can be written by others, so no code is kept below it")
    return made


def find(where: Path, stem: str, ending: str) -> Path | None:
    """What `put` has left there under this stem. What is damaged, or others may have written, is deleted. Raises
    OSError."""
    for kept in sorted(where.glob(f"{stem}.*.{ending}")):
        if not _is_ours(kept.lstat(), stat.S_IFREG):
            _log.warning("%s can be written by others, so it is not loaded, and made anew", kept)
        elif is_whole(kept):
            return kept
        else:
            # A power cut may leave a name without its content.
            _log.warning("%s is damaged, so it is not loaded, and made anew", kept)
        kept.unlink(missing_ok=True)
    return None


def put(made: Path, where: Path, stem: str, ending: str) -> Path:
    """Move a file there, which is on the same file system. Raises OSError."""
    made.chmod(0o700)
    target = where / f"{stem}.{digest(made)}.{ending}"
    # Another process that makes the same at once finds one or the other, and never a half.
    made.replace(target)
    return target


def _is_ours(status: os.stat_result, kind: int) -> bool:
    """Of this kind, this user's, and written by nobody else."""
    return stat.S_IFMT(status.st_mode) == kind and status.st_uid == os.getuid() and not status.st_mode & 0o022
