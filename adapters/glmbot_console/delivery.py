"""Printing one answer as it grows."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType

from glmbot.messages import Attachment, Reply, ReplyState
from glmbot_console.render import Lines, growth, printable

__all__ = ["print_replies"]

_MOST_OF_ONE_NAME = 1000
_START_OF_LINE = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))


async def print_replies(replies: AsyncGenerator[Reply, None], out: Console) -> Reply | None:
    """Print until the ended snapshot, and return it. Notices stand dimmed on lines of their own."""
    shown = thought = ""
    lines = Lines()
    last: Reply | None = None

    def grow(piece: str, style: str = "") -> None:
        piece = printable(piece)
        if out.is_terminal:
            piece = lines.add(piece, out.width)
        out.print(piece, end="", style=style, markup=False, highlight=False, soft_wrap=True)

    def end(style: str = "") -> None:
        out.print(lines.rest(out.width), style=style, markup=False, highlight=False, soft_wrap=True)

    async with aclosing(replies):
        async for last in replies:
            if last.thought != thought and not shown:
                out.control(_START_OF_LINE if not thought else Control())
                grow(growth(thought, last.thought), "dim")
                thought = last.thought
            if last.text and last.text != shown:
                if thought and not shown:
                    end("dim")
                    out.print()
                    lines = Lines()
                out.control(_START_OF_LINE if not shown and not thought else Control())
                grow(growth(shown, last.text))
                shown = last.text
            elif last.notice and not shown and not thought and not last.state.ended and out.is_terminal:
                # One line that overwrites itself: the place in the queue, the progress of a switch.
                out.control(_START_OF_LINE)
                out.print(last.notice[: out.width - 1], end="", markup=False, highlight=False)
    if last is None:
        return None
    if shown or thought:
        end("" if shown else "dim")
    if last.notice:
        style = "red" if last.state is ReplyState.FAILED else ("dim" if shown else "")
        if not shown and not thought:
            out.control(_START_OF_LINE)
        out.print(last.notice, style=style, markup=False, highlight=False, soft_wrap=True)
    if last.attachment is not None:
        try:
            words, style = f"→ {_written(last.attachment)}", ""
        except OSError as error:
            words, style = f"{Path(last.attachment.name).resolve()}: {error.strerror}", "red"
        out.print(words, style=style, markup=False, highlight=False, soft_wrap=True)
    return last


def _written(attachment: Attachment) -> Path:
    """A new file that its owner alone can read: it may hold all that somebody said. Others keep their names."""
    wanted = Path(attachment.name).resolve()
    stem, point, kind = wanted.name.partition(".")
    for number in range(1, _MOST_OF_ONE_NAME):
        path = wanted if number == 1 else wanted.with_name(f"{stem}-{number}{point}{kind}")
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(attachment.content)
            return path
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
