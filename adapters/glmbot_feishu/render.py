"""The model's Markdown as that of Feishu's cards, written anew from what it means.

https://open.feishu.cn/document/feishu-cards/card-json-v2-components/content-components/rich-text: beside Markdown
it reads tags, of which `<at id=all>` calls everybody, and names of emoji between colons. So signs that mean
something there are written as character references, which that page names; and no tag begins in code, where it is
not said whether references are read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from markdown_it.token import Token

from glmbot.delivery.markdown import ItemNumbers, closing, fence_heading, make_parser, may_link
from glmbot.delivery.tables import layout_table

__all__ = ["LONGEST_CARD", "LONGEST_TEXT", "NOTICE_ROOM", "escaped", "fits", "render"]

# 30 KB a card, all of its JSON: code 200860 of
# https://open.feishu.cn/document/cardkit-v1/card-element/content
LONGEST_CARD = 30 * 1024
_FOR_THE_REST = 4096
LONGEST_TEXT = 8000
"""Characters; well below the bytes."""
NOTICE_ROOM = 400
_PARSER = make_parser()
_MARKS = {"strong": "**", "em": "*", "s": "~~"}
_SIGNS = re.compile(r"[\\`*_~<>\[\]|]|&(?=[#A-Za-z])|:(?=[A-Za-z][A-Za-z0-9_]*:)|\$")
_LINE_BEGINS = re.compile(
    r"^(?P<indent>\s*)(?:(?P<sign>[#+=-])|(?P<number>\d{1,9})(?P<dot>[.)]))", re.MULTILINE
)
_TAG = re.compile(r"<(?=[A-Za-z/!])")
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#-]+")
_LEVELS = 6


def render(markdown: str) -> str:
    """Markdown of a card. "" where it shows nothing."""
    return "\n".join(_blocks(_PARSER.parse(markdown))).strip("\n")


def escaped(text: str) -> str:
    """Words as words, wherever they stand."""
    words = _SIGNS.sub(lambda sign: f"&#{ord(sign[0])};", text)
    return _LINE_BEGINS.sub(_escaped_beginning, words)


@lru_cache(maxsize=256)
def fits(markdown: str) -> bool:
    """Whether Feishu takes this piece as one card with a notice under it."""
    written = render(markdown)
    # In the card's JSON, quotes and line breaks take another byte, and it is text within text.
    bytes_ = len(written.encode()) + 3 * sum(map(written.count, '"\n\\'))
    return bytes_ <= LONGEST_CARD - _FOR_THE_REST and len(written) <= LONGEST_TEXT - NOTICE_ROOM


def _escaped_beginning(match: re.Match[str]) -> str:
    if match["sign"] is not None:
        return f"{match['indent']}&#{ord(match['sign'])};"
    return f"{match['indent']}{match['number']}&#{ord(match['dot'])};"


def _blocks(tokens: Sequence[Token], *, tight: bool = False) -> list[str]:
    """The lines of some blocks."""
    out: list[str] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        end = closing(tokens, index) if token.nesting == 1 else index
        inside = tokens[index + 1 : end]
        match token.type:
            case "paragraph_open":
                lines = _inline(inside[0].children or []).split("\n")
            case "heading_open":
                words = _inline(inside[0].children or []).replace("\n", " ")
                lines = [f"{'#' * min(int(token.tag[1:]), _LEVELS)} {words}"] if words else []
            case "bullet_list_open" | "ordered_list_open":
                lines = _items(inside, ItemNumbers() if token.type[0] == "o" else None)
            case "blockquote_open":
                lines = [f"> {line}" for line in _blocks(inside)]
            case "fence" | "code_block":
                language, beside = fence_heading(token.info)
                lines = [*([escaped(beside)] if beside else []), *_fenced(token.content, language)]
            case "table_open":
                lines = _fenced(layout_table(inside), "")
            case "math_block" | "math_block_label":
                lines = _fenced(token.content.strip("\n"), "latex")
            case "hr":
                lines = ["———"]
            case _:
                lines = escaped(token.content.rstrip("\n")).split("\n")
        if out and lines and not tight:
            out.append("")
        out += lines
        index = end + 1
    return out


def _items(tokens: Sequence[Token], numbers: ItemNumbers | None) -> list[str]:
    out: list[str] = []
    index = 0
    while index < len(tokens):
        item, end = tokens[index], closing(tokens, index)
        sign = "-" if numbers is None else f"{numbers.next(item)}."
        lines = _blocks(tokens[index + 1 : end], tight=True) or [""]
        indent = " " * (len(sign) + 1)
        out.append(f"{sign} {lines[0]}" if not lines[0].startswith("```") else sign)
        out += [
            f"{indent}{line}" if line else "" for line in (lines if lines[0].startswith("```") else lines[1:])
        ]
        index = end + 1
    return out


def _fenced(content: str, language: str) -> list[str]:
    """Nothing ends the code but three ticks, which within it are therefore held apart by no width; so are tags."""
    lines = _untagged(content.removesuffix("\n")).replace("```", "``\u200b`").split("\n")
    if not any(line.strip() for line in lines):
        return []
    return [f"```{language if _LANGUAGE.fullmatch(language) else ''}", *lines, "```"]


def _untagged(code: str) -> str:
    return _TAG.sub("<\u200b", code)


def _inline(tokens: Sequence[Token]) -> str:
    out: list[str] = []
    links: list[tuple[str, int]] = []
    for token in tokens:
        name = token.type.removesuffix("_open").removesuffix("_close")
        match token.type:
            case "text":
                out.append(escaped(token.content))
            case "softbreak" | "hardbreak":
                out.append("\n")
            case "code_inline":
                out.append(_code(token.content))
            case "math_inline" | "math_inline_double":
                out.append(_code(f"{token.markup}{token.content.strip()}{token.markup}"))
            case "image":
                out.append(_link(escaped(token.content), str(token.attrGet("src") or "")))
            case "link_open":
                links.append((str(token.attrGet("href") or ""), len(out)))
            case "link_close":
                href, begin = links.pop()
                words = "".join(out[begin:])
                del out[begin:]
                out.append(_link(words, href))
            case _ if name in _MARKS:
                out.append(_MARKS[name])
            case _:
                out.append(escaped(token.content))
    return "".join(out)


def _link(words: str, href: str) -> str:
    """An address that may be no link stands beside its words as code."""
    if not may_link(href):
        return f"{words} ({_code(href)})" if href else words
    address = href.replace("(", "%28").replace(")", "%29")
    return f"[{words or escaped(href)}]({address})"


def _code(content: str) -> str:
    """Ticks within are words of another kind: a span has one on each side here."""
    return f"`{_untagged(content).replace('`', 'ˋ')}`" if content.strip() else content
