"""Cutting a long Markdown answer into messages: at paragraph and code borders, fences closed and reopened.

Pure, and stable while the text grows: once a piece is followed by another it never changes again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["split_markdown", "utf16_length"]

# Of longer marks nothing could be closed and reopened within a piece; nobody writes them but to break this.
_FENCE = re.compile(r" {0,3}(?P<marker>`{3,20}(?!`)|~{3,20}(?!~))(?P<info>.*)")
_SENTENCE_END = re.compile(r"[.!?](?=\s)|[。！？；…]")


def utf16_length(text: str) -> int:
    """Length as Telegram counts it, in UTF-16 code units (https://core.telegram.org/api/entities)."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


# Parts of the limit that are tried where a platform does not accept a piece that long.
_SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05)
_LEAST = 64


def split_markdown(
    text: str,
    limit: int,
    measure: Callable[[str], int] = len,
    accepts: Callable[[str], bool] = lambda _: True,
) -> Sequence[str]:
    """Pieces of at most `limit` by `measure` that are accepted, none of them empty unless the text is.

    Without the fences that were closed and reopened, the pieces joined are the text, save white space at the
    cuts. `limit` must leave room for a fence's two lines: at least 64. A piece that `accepts` refuses is cut
    shorter, down to 64; what is refused even then is left as it is.
    """
    if limit < _LEAST:
        raise ValueError(f"limit is {limit}, at least {_LEAST} are needed")
    limits = sorted({max(_LEAST, int(limit * share)) for share in _SHARES}, reverse=True)
    pieces: list[str] = []
    fence = _Fence("", "")
    rest = text
    share = 0
    while True:
        opening = fence.opening(limit)
        if measure(rest) <= limit:
            whole = opening + rest + fence.after(rest).closing()
            if measure(whole) <= limit and accepts(whole):
                pieces.append(whole)
                return pieces
        piece, cut = "", 0
        # What was too long for the last piece by far is so for the next one.
        first = max(0, share - 1)
        for share, shorter in enumerate(limits[first:], first):  # noqa: B007
            piece, cut = _first_piece(rest, fence, opening, shorter, measure)
            if accepts(piece):
                break
        fence = fence.after(rest[:cut])
        rest = rest[cut:].lstrip("\n")
        if piece.strip():
            pieces.append(piece)
        if not rest:
            return pieces or [text]


def _first_piece(
    rest: str, fence: _Fence, opening: str, limit: int, measure: Callable[[str], int]
) -> tuple[str, int]:
    """The first piece of what is left, and where in it the next one begins."""
    # A fence opened inside this piece may be longer than the one it starts in.
    room = limit - measure(opening) - _longest_closing(fence, rest[:limit])
    window = _window(rest, room, measure)
    cut = _best_cut(window, fence, rest[len(window) : len(window) + 1])
    head = rest[:cut]
    after = fence.after(head)
    return opening + (head.rstrip("\n") if after.marker else head.rstrip()) + after.closing(), cut


@dataclass(frozen=True, slots=True)
class _Fence:
    """The code fence open at some place; marker "" is none."""

    marker: str
    info: str

    def after(self, text: str) -> _Fence:
        now = self
        for line in text.split("\n"):
            match = _FENCE.fullmatch(line)
            if match is None:
                continue
            if not now.marker:
                if "`" not in match["info"] or match["marker"][0] == "~":
                    now = _Fence(match["marker"], match["info"].strip())
            elif match["marker"].startswith(now.marker) and not match["info"].strip():
                now = _Fence("", "")
        return now

    def opening(self, limit: int) -> str:
        if not self.marker:
            return ""
        info = self.info if len(self.info) <= limit // 8 else ""
        return f"{self.marker}{info}\n"

    def closing(self) -> str:
        return f"\n{self.marker}" if self.marker else ""


def _longest_closing(fence: _Fence, text: str) -> int:
    markers = [match["marker"] for line in text.split("\n") if (match := _FENCE.fullmatch(line))]
    return 1 + max((len(marker) for marker in (fence.marker, *markers)), default=0)


def _window(text: str, room: int, measure: Callable[[str], int]) -> str:
    """The longest beginning of `text` that measures at most `room`, at least one character."""
    low, high = 1, min(len(text), max(1, room))
    while low < high:
        middle = (low + high + 1) // 2
        if measure(text[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def _best_cut(window: str, fence: _Fence, following: str) -> int:
    """Where to cut: between paragraphs, then lines, sentences, words, characters; never in the first half
    unless nothing else is left."""
    half = len(window) // 2
    paragraph = line = 0
    position = 0
    state = fence
    for text in window.split("\n")[:-1]:
        state = state.after(text)
        position += len(text) + 1
        if not state.marker:
            if not text.strip() or window[position : position + 3] in ("```", "~~~"):
                paragraph = position
            line = position
        elif not line or fence.marker or position - line > half:
            line = position
    for cut in (paragraph, line):
        if cut > half:
            return cut
    if line:
        # A line border in the first half still beats a cut through code.
        inside = fence.after(window[:line]).marker
        if inside:
            return line
    sentences = [match.end() for match in _SENTENCE_END.finditer(window)]
    if sentences and sentences[-1] > half:
        return sentences[-1]
    space = max(window.rfind(" "), window.rfind("\n"))
    if space > half:
        return space + 1
    return _character_cut(window, following)


def _character_cut(window: str, following: str) -> int:
    """The end of the window, moved back so that no joined emoji or accent is torn off."""
    cut = len(window)
    after = following
    while (
        cut > 1
        and after
        and (unicodedata.combining(after) or after in "\u200d\ufe0f" or window[cut - 1] == "\u200d")
    ):
        cut -= 1
        after = window[cut]
    return cut if cut > 1 else len(window)
