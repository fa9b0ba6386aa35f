"""The model's Markdown as plain text, for platforms that show nothing else: what it means, without its signs.

No word is lost: a link's address stands behind its words, code keeps its lines, mathematics stays LaTeX.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from markdown_it.token import Token

from glmbot.delivery.markdown import ItemNumbers, closing, fence_heading, make_parser
from glmbot.delivery.tables import layout_table

__all__ = ["plain_text"]

_PARSER = make_parser()


@lru_cache(maxsize=256)
def plain_text(markdown: str) -> str:
    """Linear in its length; "…" for what shows nothing."""
    return "\n".join(_blocks(_PARSER.parse(markdown))).strip("\n") or "…"


def _blocks(tokens: Sequence[Token], *, tight: bool = False) -> list[str]:
    out: list[str] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        end = closing(tokens, index) if token.nesting == 1 else index
        lines = list(_block(token, tokens[index + 1 : end]))
        if out and lines and not tight:
            out.append("")
        out += lines
        index = end + 1
    return out


def _block(token: Token, inside: Sequence[Token]) -> Iterator[str]:
    match token.type:
        case "paragraph_open" | "heading_open":
            yield from _inline(inside[0].children or []).split("\n")
        case "bullet_list_open" | "ordered_list_open":
            yield from _items(inside, ItemNumbers() if token.type == "ordered_list_open" else None)
        case "blockquote_open":
            yield from (f"> {line}".rstrip() for line in _blocks(inside))
        case "fence" | "code_block":
            beside = fence_heading(token.info)[1]
            yield from ([beside] if beside else [])
            yield from token.content.rstrip("\n").split("\n")
        case "table_open":
            yield from layout_table(inside).split("\n")
        case "hr":
            yield "———"
        case _:
            yield from token.content.strip("\n").split("\n")


def _items(tokens: Sequence[Token], numbers: ItemNumbers | None) -> Iterator[str]:
    index = 0
    while index < len(tokens):
        item = tokens[index]
        end = closing(tokens, index)
        inside = tokens[index + 1 : end]
        own = [each for each in inside if each.type == "paragraph_open" and each.level == item.level + 1]
        sign = f"{numbers.next(item)}{item.markup}" if numbers else "•"
        first, *rest = _blocks(inside, tight=all(each.hidden for each in own)) or [""]
        yield f"{sign} {first}".rstrip()
        yield from (f"  {line}" if line else "" for line in rest)
        index = end + 1


def _inline(tokens: Sequence[Token]) -> str:
    out: list[str] = []
    links: list[tuple[int, str]] = []
    for token in tokens:
        match token.type:
            case "softbreak" | "hardbreak":
                out.append("\n")
            case "math_inline" | "math_inline_double":
                out.append(f"{token.markup}{token.content.strip()}{token.markup}")
            case "image":
                out.append(_with_address(token.content, str(token.attrGet("src") or "")))
            case "link_open":
                links.append((len(out), str(token.attrGet("href") or "")))
            case "link_close" if links:
                begin, href = links.pop()
                words = "".join(out[begin:])
                del out[begin:]
                out.append(_with_address(words, href))
            case _:
                out.append(token.content)
    return "".join(out)


def _with_address(words: str, address: str) -> str:
    if not address or words in (address, address.partition("://")[2], address.partition(":")[2]):
        return words
    return f"{words} ({address})" if words else address
