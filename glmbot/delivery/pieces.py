"""One snapshot as the messages that it makes on a platform."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from glmbot.delivery.outlet import Piece
from glmbot.delivery.split import split_markdown
from glmbot.messages import Reply

__all__ = ["cut_reply"]


def cut_reply(
    reply: Reply,
    limit: int,
    *,
    notice_room: int,
    measure: Callable[[str], int],
    accepts: Callable[[str], bool],
) -> Sequence[Piece]:
    """Pieces of at most `limit` by `measure`, each of which the platform `accepts` when rendered.

    The bot's own line, of at most `notice_room` characters beside text, and the buttons stand under the last one.
    """
    notice = reply.notice
    if not reply.text:
        return [Piece("", notice[:limit] or "…", reply.actions)]
    *before, last = split_markdown(reply.text, limit, measure, accepts)
    return [*map(Piece, before), Piece(last, notice[:notice_room], reply.actions)]
