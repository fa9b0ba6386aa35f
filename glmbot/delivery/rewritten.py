"""The model's Markdown in a dialect of it, written anew from what it means: signs that mean something there are
escaped wherever they are words, links are those that may be links, tables and mathematics are code."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markdown_it.token import Token

from glmbot.delivery.markdown import ItemNumbers, closing, fence_heading, make_parser, may_link
from glmbot.delivery.tables import layout_table

__all__ = ["Dialect"]

_PARSER = make_parser()
_MARKS = {"strong": "**", "em": "*", "s": "~~"}
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#-]+")
_LEVELS = 6


@dataclass(frozen=True, slots=True)
class Dialect:
    """words: words as words, wherever they stand. code: what of code would mean something."""

    words: Callable[[str], str]
    code: Callable[[str], str]

    def render(self, markdown: str) -> str:
        """ "" where it shows nothing."""
        return "\n".join(self._blocks(_PARSER.parse(markdown))).strip("\n")

    def _blocks(self, tokens: Sequence[Token], *, tight: bool = False) -> list[str]:
        """The lines of some blocks."""
        out: list[str] = []
        index = 0
        while index < len(tokens):
            token = tokens[index]
            end = closing(tokens, index) if token.nesting == 1 else index
            inside = tokens[index + 1 : end]
            match token.type:
                case "paragraph_open":
                    lines = self._inline(inside[0].children or []).split("\n")
                case "heading_open":
                    words = self._inline(inside[0].children or []).replace("\n", " ")
                    lines = [f"{'#' * min(int(token.tag[1:]), _LEVELS)} {words}"] if words else []
                case "bullet_list_open" | "ordered_list_open":
                    lines = self._items(inside, ItemNumbers() if token.type[0] == "o" else None)
                case "blockquote_open":
                    lines = [f"> {line}" for line in self._blocks(inside)]
                case "fence" | "code_block":
                    language, beside = fence_heading(token.info)
                    lines = [
                        *([self.words(beside)] if beside else []),
                        *self._fenced(token.content, language),
                    ]
                case "table_open":
                    lines = self._fenced(layout_table(inside), "")
                case "math_block" | "math_block_label":
                    lines = self._fenced(token.content.strip("\n"), "latex")
                case "hr":
                    lines = ["———"]
                case _:
                    lines = self.words(token.content.rstrip("\n")).split("\n")
            if out and lines and not tight:
                out.append("")
            out += lines
            index = end + 1
        return out

    def _items(self, tokens: Sequence[Token], numbers: ItemNumbers | None) -> list[str]:
        out: list[str] = []
        index = 0
        while index < len(tokens):
            item, end = tokens[index], closing(tokens, index)
            sign = "-" if numbers is None else f"{numbers.next(item)}."
            lines = self._blocks(tokens[index + 1 : end], tight=True) or [""]
            indent = " " * (len(sign) + 1)
            fenced = lines[0].startswith("```")
            out.append(sign if fenced else f"{sign} {lines[0]}")
            out += [f"{indent}{line}" if line else "" for line in (lines if fenced else lines[1:])]
            index = end + 1
        return out

    def _fenced(self, content: str, language: str) -> list[str]:
        """Nothing ends the code but three ticks, which within it are therefore held apart by no width."""
        lines = self.code(content.removesuffix("\n")).replace("```", "``\u200b`").split("\n")
        if not any(line.strip() for line in lines):
            return []
        return [f"```{language if _LANGUAGE.fullmatch(language) else ''}", *lines, "```"]

    def _inline(self, tokens: Sequence[Token]) -> str:
        out: list[str] = []
        links: list[tuple[str, int]] = []
        for token in tokens:
            name = token.type.removesuffix("_open").removesuffix("_close")
            match token.type:
                case "text":
                    out.append(self.words(token.content))
                case "softbreak" | "hardbreak":
                    out.append("\n")
                case "code_inline":
                    out.append(self._span(token.content))
                case "math_inline" | "math_inline_double":
                    out.append(self._span(f"{token.markup}{token.content.strip()}{token.markup}"))
                case "image":
                    out.append(self._link(self.words(token.content), str(token.attrGet("src") or "")))
                case "link_open":
                    links.append((str(token.attrGet("href") or ""), len(out)))
                case "link_close":
                    href, begin = links.pop()
                    words = "".join(out[begin:])
                    del out[begin:]
                    out.append(self._link(words, href))
                case _ if name in _MARKS:
                    out.append(_MARKS[name])
                case _:
                    out.append(self.words(token.content))
        return "".join(out)

    def _link(self, words: str, href: str) -> str:
        """An address that may be no link stands beside its words as code."""
        if not may_link(href):
            return f"{words} ({self._span(href)})" if href else words
        address = href.replace("(", "%28").replace(")", "%29")
        return f"[{words or self.words(href)}]({address})"

    def _span(self, content: str) -> str:
        """Ticks within are signs of another kind: a span has one on each side here."""
        return f"`{self.code(content).replace('`', 'ˋ')}`" if content.strip() else content
