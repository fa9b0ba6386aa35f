"""Files that only their owner may read, whatever the umask is."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["keep_private", "make_private"]

_OWNER_ONLY = 0o077


def make_private(path: Path) -> None:
    """Create the file, and folders on the way, for their owner alone; one that is there is mended where that is
    allowed. Raises OSError when it can't be created."""
    for folder in reversed(path.parent.parents):
        _make_folder(folder)
    _make_folder(path.parent)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    keep_private(path)


def keep_private(path: Path) -> str:
    """Take others' rights away. Returns what is wrong when that can't be done, for the operator."""
    try:
        mode = path.stat().st_mode & 0o777
        if mode & _OWNER_ONLY:
            path.chmod(mode & ~_OWNER_ONLY)
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"{path}: others may read it, and that can't be changed: {error.strerror}"
    return ""


def _make_folder(path: Path) -> None:
    if not path.exists():
        path.mkdir(mode=0o700, exist_ok=True)
