"""Cutting a long Markdown answer into messages: at paragraph and code borders, what is open closed and reopened.

Pure, and stable while the text grows: once a piece is followed by another it never changes again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import regex

from glmbot.delivery.blocks import Block, Place, reopened, step, stripped
from glmbot.delivery.mathematics import math_end
from glmbot.delivery.tables import cells_of

__all__ = ["common_beginning", "split_markdown", "utf16_length"]

_SENTENCE_END = re.compile(r"[.!?](?=\s)|[。！？；…]")
_GRAPHEME = regex.compile(r"\X")
# Not cut where it can be helped: code, mathematics, links, addresses.
_WHOLE = re.compile(
    r"(?<!`)(?P<ticks>`++)[^\n`]{1,400}(?:(?P=ticks)(?!`)|\Z)|\$[^$\s][^$\n]{0,400}(?:\$|\Z)"
    r"|\\\((?:(?!\\[()])[^\n]){1,400}(?:\\\)|\Z)|https?://[^\s<>]{1,800}"
    r"|!?\[[^\[\]\n]{0,400}(?:\]\([^()\s]{0,800}(?:\([^()\s]{0,200}\)[^()\s]{0,200})?(?:\)|\Z)|\Z)"
    r"|(?<!\*)(?P<stars>\*{1,3})(?=[^\s*])[^*\n]{1,400}(?:(?P=stars)|\Z)"
)
# At the beginning of a line these are read as more than words.
_READ_AT_BEGINNING = re.compile(
    r"[ \t]*(?:#{1,6}(?:\s|$)|>|(?:[-+*]|\d{1,9}[.)])(?:\s|$)|`{3}|~{3}|[-=_*]{3}|\$\$|\\\[)"
)


def utf16_length(text: str) -> int:
    """Length as Telegram counts it, in UTF-16 code units (https://core.telegram.org/api/entities)."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


# Parts of the limit that are tried where a platform does not accept a piece that long.
_SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05)
_LEAST = 64
# What may be said again of a table's head, or of a fence's language.
_HEAD_SHARE = 3
_INFO_SHARE = 8


def split_markdown(
    text: str,
    limit: int,
    measure: Callable[[str], int] = len,
    accepts: Callable[[str], bool] = lambda _: True,
) -> Sequence[str]:
    """Pieces of at most `limit` by `measure` that are accepted, none of them empty unless the text is.

    Without the fences that were closed and reopened, the heads of tables and the marks of quotes that were said
    again and the indentation of items that began before, the pieces joined are the text, save white space at the
    cuts. `limit` must leave room for a fence's two lines: at least 64. A piece that `accepts` refuses is cut
    shorter, down to 64; what is refused even then is left as it is.
    """
    if limit < _LEAST:
        raise ValueError(f"limit is {limit}, at least {_LEAST} are needed")
    limits = sorted({max(_LEAST, int(limit * share)) for share in _SHARES}, reverse=True)
    pieces: list[str] = []
    start = _Start(Place())
    rest = text
    share = 0
    while True:
        if measure(rest) <= limit:
            whole = start.piece(rest, limit, measure)
            if measure(whole) <= limit and accepts(whole):
                pieces.append(whole)
                return pieces
        piece, cut = "", 0
        # What was too long for the last piece by far is so for the next one.
        first = max(0, share - 1)
        for share, shorter in enumerate(limits[first:], first):  # noqa: B007
            piece, cut = _first_piece(rest, start, shorter, measure)
            if accepts(piece):
                break
        start, rest = start.after(rest, cut)
        if piece.strip():
            pieces.append(piece)
        if not rest:
            return pieces or [text]


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a piece begins: after the lines that end at `place`, or within one of them.

    cells: how many of a row's cells were said before.
    """

    place: Place
    within: bool = False
    cells: int = 0

    def opening(self, limit: int, measure: Callable[[str], int]) -> str:
        """What is said again before the piece's own words."""
        place = self.place
        quotes = reopened(place.containers, len(place.containers))
        block = place.block
        again = ""
        if block.kind == "fence":
            info = block.head[0] if len(block.head[0]) <= limit // _INFO_SHARE else ""
            again = f"{quotes}{block.marker}{info}\n"
        elif block.kind == "math":
            again = f"{quotes}{block.marker}\n"
        elif block.kind == "table":
            head = "".join(f"{quotes}{line}\n" for line in block.head)
            if measure(head) > limit // _HEAD_SHARE:
                count = len(cells_of(block.head[1]))
                head = f"{quotes}{'|' * (count + 1)}\n{quotes}{'|-' * count}|\n"
            again = head if measure(head) <= limit // _HEAD_SHARE else ""
            if self.within and again:
                quotes += "| " * (self.cells + 1)
        return again + (quotes if self.within else "")

    def lines(self, text: str) -> Iterator[tuple[int, str, Place, Place, bool]]:
        """Of each line: where it begins, how it is said here, the places before and behind it, whether it begins a
        block. The last one may be a part of a line."""
        place, own = self.place, len(self.place.containers)
        at = 0
        for number, line in enumerate(text.split("\n")):
            before = place
            if number == 0 and self.within:
                said, new = line, False
                if place.block.kind in ("", "blank"):
                    place = replace(place, block=Block())
            else:
                place, kept, new = step(place, line)
                own = min(own, kept)
                said = stripped(self.place.containers[:own], line)
            yield at, said, before, place, new
            at += len(line) + 1

    def piece(self, text: str, limit: int, measure: Callable[[str], int]) -> str:
        """This much of what is left as a piece of its own."""
        said: list[str] = []
        place, own = self.place, len(self.place.containers)
        for number, (_, line, before, after, _) in enumerate(self.lines(text.removesuffix("\n"))):
            said.append(line)
            place = after
            if number or not self.within:
                own = min(own, common_beginning(before.containers, after.containers))
        words = "\n".join(said)
        code = place.block.kind in ("fence", "math")
        words = words.rstrip("\n") if code else words.rstrip()
        return self.opening(limit, measure) + words + _closing(place, own)

    def after(self, rest: str, cut: int) -> tuple[_Start, str]:
        """Where the next piece begins, and what it is of."""
        head, left = rest[:cut], rest[cut:]
        *_, (at, _, before, place, _) = self.lines(head)
        if head.endswith("\n"):
            return _Start(before), left
        if not left.lstrip("\n"):
            return _Start(place), ""
        if left.startswith("\n"):
            return _Start(place), left[1:]
        if place.block.kind not in ("fence", "math"):
            left = left.lstrip(" \t")
        cells = max(0, len(cells_of(head[at:])) - 1) if place.block.kind == "table" else 0
        return _Start(place, True, self.cells + cells if self.within and at == 0 else cells), left


def common_beginning(first: Sequence[object], second: Sequence[object]) -> int:
    """How many of their items, from the first on, are the same."""
    both = zip(first, second, strict=False)
    return next((number for number, (a, b) in enumerate(both) if a != b), min(len(first), len(second)))


def _closing(place: Place, own: int) -> str:
    """What ends the code that is open at the end of a piece."""
    block = place.block
    prefix = reopened(place.containers, own)
    match block.kind:
        case "fence":
            return f"\n{prefix}{block.marker}"
        case "math":
            return f"\n{prefix}{math_end(block.marker)}"
        case _:
            return ""


def _first_piece(rest: str, start: _Start, limit: int, measure: Callable[[str], int]) -> tuple[str, int]:
    """The first piece of what is left, and where in it the next one begins."""
    room = limit - measure(start.opening(limit, measure))
    while True:
        # What is closed at its end needs room.
        window = _window(rest, room, measure)
        over = measure(start.piece(window, limit, measure)) - limit
        while over > 0 and len(window) > 1:
            room = max(1, min(room, measure(window)) - over)
            window = _window(rest, room, measure)
            over = measure(start.piece(window, limit, measure)) - limit
        cut = _best_cut(window, start, rest[len(window) : len(window) + 1])
        piece = start.piece(rest[:cut], limit, measure)
        over = measure(piece) - limit
        if over <= 0 or len(window) == 1:
            return piece, cut
        room = max(1, min(room, measure(window)) - over)


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


def _best_cut(window: str, start: _Start, following: str) -> int:
    """Where to cut: between paragraphs, then lines, sentences, words, graphemes; never in the first half unless
    nothing else is left."""
    half = len(window) // 2
    paragraph = line = 0
    in_code = bool(start.place.block.kind in ("fence", "math", "table"))
    line_in_code = False
    for at, _, before, place, new in start.lines(window):
        if at:
            # Before the line that begins here.
            coded = before.block.kind in ("fence", "math", "table") and place.block.kind == before.block.kind
            if before.block.kind == "blank" or (new and not coded and before.block.kind != "blank"):
                paragraph = at
            if not coded or not line or in_code or at - line > half:
                line, line_in_code = at, coded
    for cut in (paragraph, line):
        if cut > half:
            return cut
    # A line border in the first half still beats a cut through code.
    if line and line_in_code:
        return line
    # No more than one character behind the window: those after it may not be there yet.
    text = window + following
    spaces = _spaces(window)
    whole = [match.span() for match in _WHOLE.finditer(window)]
    for ends in ([match.end() for match in _SENTENCE_END.finditer(window)], spaces):
        for end in reversed(ends):
            if end <= half:
                break
            if not _is_inside(whole, end) and not _READ_AT_BEGINNING.match(text, end):
                return _grapheme_cut(text, end)
    last = spaces[-1] if spaces and spaces[-1] > half else len(window)
    return _grapheme_cut(text, last)


def _spaces(window: str) -> list[int]:
    return [match.end() for match in re.finditer(r"[ \n]", window)]


def _is_inside(spans: Sequence[tuple[int, int]], place: int) -> bool:
    return any(begin < place < end for begin, end in spans)


def _grapheme_cut(text: str, cut: int) -> int:
    """The last border between graphemes (https://unicode.org/reports/tr29) up to `cut`, where there is one."""
    ends = [match.end() for match in _GRAPHEME.finditer(text) if match.end() <= cut]
    return ends[-1] if ends else cut
