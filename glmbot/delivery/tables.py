"""Tables: every cell that was written, and how one looks where there are no tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import escapedSplit
from markdown_it.rules_block.table import table as read_table
from markdown_it.token import Token
from wcwidth import wcswidth

__all__ = ["cells_of", "columns", "keep_all_cells", "layout_table"]

# Wider than this and a phone wraps the lines of a table into nonsense.
_WIDEST_TABLE = 64
# What is added to a table for one row of too many cells.
_MOST_COLUMNS = 100
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")


def keep_all_cells(parser: MarkdownIt) -> None:
    """GFM leaves out the cells of a row beyond the header's (https://github.github.com/gfm/#example-204)."""
    parser.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})


def cells_of(line: str) -> list[str]:
    """The cells of a row as it is written."""
    cells = escapedSplit(line.strip())
    if cells and cells[0] == "":
        cells.pop(0)
    if cells and cells[-1] == "":
        cells.pop()
    return [cell.strip() for cell in cells]


def _table(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    before = len(state.tokens)
    if not read_table(state, start_line, end_line, silent):
        return False
    if not silent:
        made = state.tokens[before:]
        state.tokens[before:] = _with_excess(state, made)
    return True


def _with_excess(state: StateBlock, tokens: Sequence[Token]) -> list[Token]:
    count = sum(token.type == "th_open" for token in tokens)
    rows = [token.map[0] for token in tokens if token.type == "tr_open" and token.map is not None]
    excess = {
        line: cells_of(state.src[state.bMarks[line] : state.eMarks[line]])[count:_MOST_COLUMNS]
        for line in rows[1:]
    }
    most = max(map(len, excess.values()), default=0)
    if most == 0:
        return list(tokens)
    out: list[Token] = []
    line = -1
    for token in tokens:
        if token.type == "tr_open" and token.map is not None:
            line = token.map[0]
        elif token.type == "tr_close":
            more = excess.get(line, [])
            kind = "td" if line in excess else "th"
            for number in range(most):
                out += _cell(kind, more[number] if number < len(more) else "", line, token.level + 1)
        out.append(token)
    return out


def _cell(kind: str, content: str, line: int, level: int) -> list[Token]:
    inside = Token("inline", "", 0, level=level + 1, content=content, children=[], block=True)
    inside.map = [line, line + 1]
    return [
        Token(f"{kind}_open", kind, 1, level=level, block=True),
        inside,
        Token(f"{kind}_close", kind, -1, level=level, block=True),
    ]


def layout_table(tokens: Sequence[Token]) -> str:
    """The tokens of one table as plain text: aligned columns, or where they are too wide a record for each row."""
    rows: list[list[str]] = []
    sides: list[str] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "th_open":
            sides.append(str(token.attrGet("style") or "").rpartition(":")[2])
        elif token.type == "inline":
            rows[-1].append(_plain(token.children or []))
    widths = [max(map(columns, column)) for column in zip(*rows, strict=False)]
    if sum(widths) + 3 * (len(widths) - 1) > _WIDEST_TABLE:
        return _records(rows)
    lines = [
        " | ".join(_aligned(*cell) for cell in zip(row, widths, sides, strict=False)).rstrip() for row in rows
    ]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    return "\n".join(lines)


def _records(rows: Sequence[Sequence[str]]) -> str:
    heads = rows[0]
    if len(rows) == 1:
        return "\n".join(heads)
    records = [
        "\n".join(
            f"{head}: {cell}" if head and cell else head or cell
            for head, cell in zip(heads, row, strict=False)
            if cell
        )
        for row in rows[1:]
    ]
    # A head that no row has a word under is said all the same.
    unused = [head for number, head in enumerate(heads) if head and not any(row[number] for row in rows[1:])]
    return "\n\n".join(["\n".join(unused), *records] if unused else records)


def _aligned(cell: str, width: int, side: str) -> str:
    space = width - columns(cell)
    if _RIGHT_TO_LEFT.search(cell):
        # The next cell's words are not drawn among those of this one.
        cell = f"\u2068{cell}\u2069"
    match side:
        case "right":
            return " " * space + cell
        case "center":
            return " " * (space // 2) + cell + " " * (space - space // 2)
        case _:
            return cell + " " * space


def columns(text: str) -> int:
    """Columns of a terminal; a Chinese character takes two."""
    return max(wcswidth(text), 0) or len(text)


def _plain(tokens: Sequence[Token]) -> str:
    """The words of a cell, and where its links lead."""
    out: list[str] = []
    links: list[tuple[int, str]] = []
    for token in tokens:
        match token.type:
            case "math_inline" | "math_inline_double":
                out.append(f"{token.markup}{token.content}{token.markup}")
            case "softbreak" | "hardbreak":
                out.append(" ")
            case "link_open":
                links.append((len(out), str(token.attrGet("href") or "")))
            case "link_close" if links:
                begin, href = links.pop()
                if href and "".join(out[begin:]) not in (
                    href,
                    href.partition(":")[2],
                    href.partition("://")[2],
                ):
                    out.append(f" ({href})")
            case "image":
                out.append(" ".join(filter(None, [token.content, str(token.attrGet("src") or "")])))
            case _:
                out.append(token.content)
    return "".join(out).replace("\t", " ")
