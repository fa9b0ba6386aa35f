"""Files' contents in a folder, each under its digest: written beside, synced, and renamed when it is whole.

    FOLDER/ab/abcd…     the content of that digest: each piece after its length in four bytes
    FOLDER/new-…        what is being written, or was when a process died

All is for the owner of the folder alone. What is deleted is unlinked and not overwritten: a file system may keep
copies anywhere, and what must not be read there is to be encrypted.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from glmbot.content import is_digest
from glmbot.store.blobs import LONGEST_PIECE
from glmbot.store.private_files import keep_private

__all__ = ["BlobFolder", "NewBlob", "next_piece"]

_HEAD = 4
_SUBFOLDER = re.compile(r"[0-9a-f]{2}")
_NEW = "new-"


class BlobFolder:
    """All methods touch the disk, and raise OSError. `path` need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self) -> NewBlob:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return NewBlob(self.path / f"{_NEW}{secrets.token_hex(16)}")

    def keep_private(self) -> str:
        """See `glmbot.store.private_files`."""
        return keep_private(self.path)

    def place(self, new: NewBlob, digest: str) -> None:
        """Under its name, durably. What stood there is replaced."""
        target = self._at(digest)
        if not target.parent.exists():
            target.parent.mkdir(mode=0o700, exist_ok=True)
            _sync(self.path)
        new.path.replace(target)
        _sync(target.parent)

    def open(self, digest: str) -> IO[bytes]:
        """Raises FileNotFoundError."""
        return self._at(digest).open("rb")

    def remove(self, digest: str) -> None:
        """Harmless for what is none: no name of a content leads out of the folder."""
        if is_digest(digest):
            self._at(digest).unlink(missing_ok=True)

    def unfinished(self, before: float) -> Iterator[Path]:
        """What nobody has written to since that Unix time."""
        with suppress(FileNotFoundError):
            for path in self.path.glob(f"{_NEW}*"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        yield path

    def subfolders(self) -> list[str]:
        try:
            return sorted(each.name for each in self.path.iterdir() if _SUBFOLDER.fullmatch(each.name))
        except FileNotFoundError:
            return []

    def digests(self, subfolder: str) -> list[str]:
        """What stands there as a content; whatever else somebody has put there stays."""
        with os.scandir(self.path / subfolder) as found:
            names = [each.name for each in found if each.is_file(follow_symlinks=False)]
        return [name for name in names if is_digest(name) and name.startswith(subfolder)]

    def _at(self, digest: str) -> Path:
        return self.path / digest[:2] / digest


class NewBlob:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file = os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
        )

    def write(self, piece: bytes) -> None:
        self._file.write(len(piece).to_bytes(_HEAD, "big"))
        self._file.write(piece)
        self.size += _HEAD + len(piece)

    def finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Harmless when it has its place already."""
        with suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)


def next_piece(file: IO[bytes]) -> bytes:
    """Empty at the end. Raises ValueError for what was not written here."""
    head = file.read(_HEAD)
    if not head:
        return b""
    length = int.from_bytes(head, "big")
    piece = file.read(length) if len(head) == _HEAD and 0 < length <= LONGEST_PIECE else b""
    if not piece or len(piece) < length:
        raise ValueError("a piece is cut short")
    return piece


def _sync(folder: Path) -> None:
    """A name is durable when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
