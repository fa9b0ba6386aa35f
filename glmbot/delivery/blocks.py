"""In which quotes, items, code or table each line of a growing Markdown text stands.

Read line by line and never back, so that what was said of a line stays true whatever follows it.
https://spec.commonmark.org/0.31.2/#phase-1-block-structure
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from glmbot.delivery.mathematics import OPENING_LINE, closes_math, math_end
from glmbot.delivery.tables import cells_of

__all__ = ["QUOTE", "Block", "Place", "is_heading", "reopened", "step", "stripped"]

QUOTE = -1
"""A quote among the containers of a place. Others are an item's: the columns that its content is indented by."""

_FENCE = re.compile(r"(?P<marker>`{3,}(?!`)|~{3,}(?!~))(?P<info>.*)")
# Of longer marks nothing could be closed and reopened within a piece; nobody writes them but to break this.
_LONGEST_MARKER = 20
_ITEM = re.compile(r"(?P<marker>[-*+]|\d{1,9}[.)])(?P<space>[ \t]+|$)")
_RULE = re.compile(r"(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_DELIMITERS = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_HEADING = re.compile(r"#{1,6}(?:[ \t]|$)")
_MOST_CONTAINERS = 30
_TAB = 4


@dataclass(frozen=True, slots=True)
class Block:
    """What a line stands in, and what closes and begins it again.

    kind: "" for words, "blank", or "fence", "math", "table". head: a table's first two lines, a fence's info, what
    began the mathematics; of words the last line, for a table's head may be one.
    """

    kind: str = ""
    marker: str = ""
    head: tuple[str, ...] = ()
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line ends."""

    containers: tuple[int, ...] = ()
    block: Block = Block("blank")


def step(place: Place, line: str) -> tuple[Place, int, bool]:
    """Where the line after `place` ends, in how many of the containers it goes on, whether it begins a block."""
    kept, rest = _into(place.containers, line)
    inside = kept == len(place.containers)
    block = place.block
    if inside and block.kind in ("fence", "math"):
        return Place(place.containers, _after_code(block, rest)), kept, False
    containers = place.containers[:kept]
    begun = False
    while len(containers) < _MOST_CONTAINERS:
        opened, rest = _opened(rest, inside and not begun and block.kind == "")
        if opened is None:
            break
        containers = (*containers, opened)
        begun = True
    if not rest.strip():
        return Place(containers, Block("blank")), kept, begun
    following = block if inside and not begun else Block("blank")
    made = _block(following, rest)
    lazy = not inside and not begun and block.kind == "" and made.kind == "" and not _begins(rest)
    if lazy:
        return Place(place.containers, made), kept, False
    new = begun or made.kind != following.kind or (made.kind == "" and _begins(rest))
    return Place(containers, made), kept, new and not (made.kind == "table" and following.kind == "")


def stripped(containers: Sequence[int], line: str) -> str:
    """The line without the indentation of these items; its quotes' marks stay."""
    out = ""
    for container in containers:
        if container == QUOTE:
            match = _QUOTE.match(line)
            if match is None:
                break
            out += match[0]
            line = line[match.end() :]
        else:
            line = _dedented(line, container)
    return out + line


def reopened(containers: Sequence[int], skipped: int) -> str:
    """What a line in these containers begins with, where the first `skipped` have only their quotes left."""
    return "".join(
        "> " if container == QUOTE else "" if number < skipped else " " * container
        for number, container in enumerate(containers)
    )


_QUOTE = re.compile(r" {0,3}> ?")


def _into(containers: Sequence[int], line: str) -> tuple[int, str]:
    """How many of the containers go on in this line, and what stands in the last of them."""
    for number, container in enumerate(containers):
        if container == QUOTE:
            match = _QUOTE.match(line)
            if match is None:
                return number, line
            line = line[match.end() :]
        elif line.strip() and _indentation(line) < container:
            return number, line
        else:
            line = _dedented(line, container)
    return len(containers), line


def _opened(rest: str, in_words: bool) -> tuple[int | None, str]:
    """The container that begins here, and what stands in it."""
    if _indentation(rest) > _TAB - 1:
        return None, rest
    match = _QUOTE.match(rest)
    if match:
        return QUOTE, rest[match.end() :]
    bare = rest.lstrip()
    item = _ITEM.match(bare)
    if item is None or _RULE.match(bare):
        return None, rest
    empty = not bare[item.end() :].strip()
    if in_words and (empty or (item["marker"][0].isdigit() and item["marker"][:-1] != "1")):
        return None, rest
    space = item["space"].expandtabs(_TAB)
    indent = _indentation(rest) + len(item["marker"]) + (1 if empty or len(space) > _TAB else len(space))
    return indent, " " * (len(space) - 1 if len(space) > _TAB else 0) + bare[item.end() :]


def _block(following: Block, rest: str) -> Block:
    """What a line that is not blank stands in, where it goes on after `following` or begins anew."""
    if _indentation(rest) > _TAB - 1:
        return Block("", head=()) if following.kind != "table" else following
    bare = rest.strip()
    fence = _FENCE.fullmatch(bare)
    if fence and not ("`" in fence["info"] and fence["marker"][0] == "`"):
        if len(fence["marker"]) > _LONGEST_MARKER:
            return Block("")
        return Block("fence", fence["marker"], (fence["info"].strip(),), _indentation(rest))
    math = OPENING_LINE.fullmatch(bare)
    if math and math_end(math["open"]) not in math["rest"]:
        return Block("math", math["open"])
    if following.kind == "table":
        return following if not _begins(rest) else Block("")
    if following.kind == "" and following.head and "-" in bare and _DELIMITERS.fullmatch(bare):
        head = following.head[-1]
        if "|" in head + bare and len(cells_of(head)) == len(cells_of(bare)):
            return Block("table", head=(head, bare))
    return Block("", head=(bare,))


def _after_code(block: Block, rest: str) -> Block:
    if block.kind == "math":
        return Block("blank") if closes_math(rest, block.marker) else block
    bare = rest.strip()
    closes = bare.startswith(block.marker) and not bare.strip(block.marker[0]) and _indentation(rest) < _TAB
    return Block("blank") if closes else block


def is_heading(line: str) -> bool:
    return _HEADING.match(line.lstrip()) is not None


def _begins(rest: str) -> bool:
    """Whether a line ends the words or the table before it."""
    bare = rest.strip()
    return bool(_HEADING.match(bare) or _RULE.match(bare))


def _indentation(line: str) -> int:
    column = 0
    for char in line:
        if char == " ":
            column += 1
        elif char == "\t":
            column += _TAB - column % _TAB
        else:
            break
    return column


def _dedented(line: str, width: int) -> str:
    """Without so many columns of indentation, or as many as there are."""
    column = 0
    for number, char in enumerate(line):
        if column >= width or char not in " \t":
            return " " * (column - width) + line[number:] if column > width else line[number:]
        column += 1 if char == " " else _TAB - column % _TAB
    return ""
