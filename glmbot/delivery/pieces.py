"""One snapshot as the messages that it makes on a platform."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from glmbot.delivery.outlet import Piece
from glmbot.delivery.split import split_markdown
from glmbot.messages import Reply

__all__ = ["beginning_of", "cut_reply"]


def cut_reply(
    reply: Reply,
    limit: int,
    *,
    notice_room: int,
    measure: Callable[[str], int],
    accepts: Callable[[str], bool],
    fits_folded: Callable[[str], bool] | None = None,
) -> Sequence[Piece]:
    """Pieces of at most `limit` by `measure`, each of which the platform `accepts` when rendered.

    The bot's own line, of at most `notice_room` beside text, and the buttons stand under the last one.
    What the model thought stands in a message of its own before the first, once it has come to an answer: as much
    of its beginning and its end as `fits_folded`; nowhere without that.
    """
    notice = reply.notice
    thought: list[Piece] = []
    if fits_folded is not None and reply.thought and (reply.text or reply.state.ended):
        thought = [Piece("", thought=_shortened(reply.thought, limit, fits_folded))]
    if not reply.text:
        return [*thought, Piece("", beginning_of(notice, limit, measure) or "…", reply.actions)]
    *before, last = split_markdown(reply.text, limit, measure, accepts)
    return [
        *thought,
        *map(Piece, before),
        Piece(last, beginning_of(notice, notice_room, measure), reply.actions),
    ]


def beginning_of(text: str, most: int, measure: Callable[[str], int]) -> str:
    """As much of its beginning as is no more than that. What is longer is no less by any measure."""
    if measure(text) <= most:
        return text
    return text[: bisect_right(range(len(text)), most, key=lambda end: measure(text[:end])) - 1]


def _shortened(thought: str, limit: int, fits: Callable[[str], bool]) -> str:
    """limit: what is longer does not fit."""
    if len(thought) <= limit and fits(thought):
        return thought
    half = min(len(thought), limit) // 2
    cut = _ends(thought, half)
    while half > 1 and not fits(cut):
        half = half * 4 // 5
        cut = _ends(thought, half)
    return cut


def _ends(thought: str, half: int) -> str:
    """The first and the last words, of at most `half` characters each where they are no longer."""
    head, tail = thought[:half], thought[-half:]
    at = max(head.rfind(" "), head.rfind("\n"))
    head = head[:at] if at > half // 2 else head
    places = [place for place in (tail.find(" "), tail.find("\n")) if 0 <= place < half // 2]
    return f"{head.rstrip()}\n…\n{tail[min(places, default=0) :].lstrip()}"
