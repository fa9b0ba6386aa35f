"""Markdown's blocks one under another, where text is shown with marks: what stands between them, and how deep they
stand in lists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from markdown_it.token import Token

from glmbot.delivery.markdown import ItemNumbers, closing, fence_heading
from glmbot.delivery.tables import layout_table

__all__ = ["BlockWriter"]


class BlockWriter(ABC):
    """`fresh_item`: only the sign of an item has been written, and what comes next stands on its line."""

    indent: ClassVar[str] = "  "

    def __init__(self) -> None:
        self.lists: list[ItemNumbers | None] = []
        self.fresh_item = False

    @abstractmethod
    def gap(self, lines: int) -> None:
        """End the current line and leave `lines` - 1 empty ones; nothing at the very beginning."""

    @abstractmethod
    def text(self, words: str) -> None:
        """As it is."""

    @abstractmethod
    def inline(self, tokens: Sequence[Token], *, heading: bool = False) -> None: ...

    @abstractmethod
    def code(self, content: str, language: str = "", heading: str = "") -> None:
        """Lines of their own, whose characters stand below each other. `heading`: what a fence said beside its
        language."""

    @abstractmethod
    def quote(self, *, opens: bool) -> None:
        """A quotation begins, or ends."""

    def write(self, tokens: Sequence[Token]) -> None:
        index = 0
        while index < len(tokens):
            token, last = tokens[index], index
            match token.type:
                case "heading_open":
                    last = index + 1
                    self._space(2)
                    self.inline(tokens[last].children or [], heading=True)
                case "table_open":
                    last = closing(tokens, index)
                    self._as_code(layout_table(tokens[index:last]))
                case kind if kind.startswith(("bullet_list_", "ordered_list_", "list_item_", "blockquote_")):
                    self._nest(token)
                case _:
                    self._block(token)
            index = last + 1

    def _nest(self, token: Token) -> None:
        """Step into a list, an item or a quotation, or out of it."""
        match token.type:
            case "bullet_list_open" | "ordered_list_open":
                self._space(1 if self.lists else 2)
                self.lists.append(ItemNumbers() if token.type == "ordered_list_open" else None)
            case "bullet_list_close" | "ordered_list_close":
                self.lists.pop()
            case "list_item_open":
                self.gap(1)
                numbers = self.lists[-1]
                sign = "•" if numbers is None else f"{numbers.next(token)}{token.markup}"
                self.text(f"{self.indent * (len(self.lists) - 1)}{sign} ")
                self.fresh_item = True
            case "list_item_close":
                self.fresh_item = False
            case _:
                self.quote(opens=token.type == "blockquote_open")

    def _block(self, token: Token) -> None:
        match token.type:
            case "paragraph_open":
                self._space(1 if self.lists else 2)
            case "inline":
                self.inline(token.children or [])
            case "fence" | "code_block":
                language, beside = fence_heading(token.info)
                self._as_code(token.content.rstrip("\n"), language, beside)
            case "math_block" | "math_block_label":
                self._as_code(token.content.strip("\n"), "latex")
            case "hr":
                self._space(2)
                self.text("———")
            case "html_block":
                self._space(2)
                self.text(token.content.rstrip("\n"))
            case _:
                pass

    def _as_code(self, content: str, language: str = "", heading: str = "") -> None:
        self.code(content, language, heading)
        self.fresh_item = False

    def _space(self, lines: int) -> None:
        if not self.fresh_item:
            self.gap(lines)
        self.fresh_item = False
