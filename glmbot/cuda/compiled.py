"""Code for a card, compiled once and kept: what a model needs takes NVRTC ten seconds and more at each start."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from glmbot.native import kept

__all__ = ["code"]

_log = logging.getLogger(__name__)

_ENDING = "cubin"
# A model has about five of them at each dtype. Those of other releases and cards go in the end.
_MOST_KEPT = 64


def code(
    depends: Sequence[str], compiled: Callable[[], bytes], folder: Callable[[], Path] = kept.folder
) -> bytes:
    """What was compiled before from the same, or what `compiled` makes now, which is then kept. Where it can't be,
    that costs the time at the next start and no more. Raises what `compiled` raises.

    depends: all that it depends on. folder: see `glmbot.native.kept.folder`.
    """
    stem = f"card-{_digest(depends)}"
    try:
        where = folder()
        if (there := kept.find(where, stem, _ENDING)) is not None:
            found = there.read_bytes()
            # When it was last of use: see `_leave`. Where nothing may be written, nothing is taken out either.
            with suppress(OSError):
                os.utime(there)
            return found
    except (OSError, RuntimeError) as error:
        _log.info("a card's kernels are compiled at each start: %s", error)
        return compiled()
    made = compiled()
    try:
        with tempfile.TemporaryDirectory(dir=where) as scratch:
            file = Path(scratch) / "made"
            file.write_bytes(made)
            kept.put(file, where, stem, _ENDING)
    except OSError as error:
        _log.info("a card's kernels are compiled at each start: %s", error)
    else:
        # Another process may take out some at the same moment.
        with suppress(OSError):
            _leave(where)
    return made


def _digest(depends: Sequence[str]) -> str:
    made = sha256()
    for each in depends:
        content = each.encode()
        made.update(f"{len(content)}\0".encode() + content)
    return made.hexdigest()[:24]


def _leave(folder: Path) -> None:
    """Those that were of use last. Raises OSError."""
    files = sorted(folder.glob(f"card-*.{_ENDING}"), key=lambda file: file.lstat().st_mtime, reverse=True)
    for file in files[_MOST_KEPT:]:
        file.unlink(missing_ok=True)
