"""Which stars, underscores and tildes are emphasis, in every language and beside every sign of arithmetic.

CommonMark's rule asks for spaces or Latin punctuation around a delimiter
(https://spec.commonmark.org/0.31.2/#delimiter-run). Scripts without spaces between words have neither, and in
`2*3*4`, `COUNT(*)` or `https://e.org/__init__.py` the signs are words of the text.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import regex
from markdown_it.common.utils import isPunctChar, isWhiteSpace
from markdown_it.parser_inline import ParserInline
from markdown_it.rules_inline.state_inline import Scanned, StateInline

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["ADDRESS", "InlineParser", "InlineState", "address_end"]

_BODY = (
    r"(?:(?!\*\*)[^\s<>\"`\\"
    r"\u2018-\u201f\u2026\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef])+"
)
ADDRESS = regex.compile(rf"(?<![A-Za-z0-9])(?:[A-Za-z][A-Za-z0-9+.-]{{1,20}}://|www\.){_BODY}", regex.V1)
"""An address as it stands in running text, with whatever follows it without a space: see `address_end`."""
_AFTER_ADDRESS = "?!.,:;*_~'\")]}|"
# Names that Python itself writes so; as bold they would be other words.
_SPECIAL_NAMES = regex.compile(
    r"(?<![A-Za-z0-9_])__(?:[A-Za-z0-9_]+?__(?=\.[A-Za-z0-9])|(?:init|main|name|file|doc|dict|class|new|del|str|repr"
    r"|call|len|iter|next|enter|exit|aenter|aexit|aiter|anext|await|getattr|getattribute|setattr|delattr|getitem"
    r"|setitem|delitem|contains|eq|ne|lt|le|gt|ge|hash|bool|int|float|index|add|sub|mul|truediv|floordiv|mod|pow"
    r"|and|or|xor|neg|pos|abs|invert|matmul|i?add|r?sub|slots|all|version|author|module|qualname|annotations|bases"
    r"|mro|subclasses|init_subclass|post_init|set_name|get|set|import|builtins|pycache|future|debug|package|path"
    r"|loader|spec|wrapped|bytes|format|dir|sizeof|reduce|reduce_ex|copy|deepcopy|missing|reversed|round|proto"
    r"|dirname|filename|typename|FILE|LINE|DATE|TIME|VA_ARGS|GNUC|STDC|COUNTER|func|FUNCTION|attribute|asm|declspec"
    r"|typeof)__(?![A-Za-z0-9_]))"
)
# `*.py` and `*.*` are names of files.
_GLOB = regex.compile(r"(?<![A-Za-z0-9*.])\*\.(?:\*(?!\*)|[A-Za-z0-9]{1,8}(?![A-Za-z0-9]))\*?")
_WINDOWS_PATH = regex.compile(
    r"(?<![A-Za-z0-9])[A-Za-z]:\\(?:[^\s<>\"`|*\u2018-\u201f\u2026\u3000-\u303f\uff00-\uffef]|\\\*)*"
)
_ENCLOSED = frozenset(
    ["()", "[]", "{}", '""', "''", "“”", "‘’", "「」", "『』", "（）", "【】", "<>", "//", "、、"]
)
# No words apart by spaces there, or prefixes that stand before a quotation without one.
_JOINED = regex.compile(
    r"[[\p{L}\p{M}]--[\p{Latin}\p{Greek}\p{Cyrillic}\p{Armenian}\p{Georgian}\u02b0-\u036f\u1d00-\u1dff\u20d0-\u20ff"
    r"\U0001d400-\U0001d7ff]]",
    regex.V1,
)
_OPERAND_ENDS = frozenset(")]}%²³⁴°'")
_OPERAND_BEGINS = frozenset("([{√∑∫∏$")
_SUM = regex.compile("[=＝≈≤≥÷×]")
# Further back nobody looks for what a delimiter may close.
_DELIMITERS_BACK = 40


def address_end(text: str, start: int, end: int) -> int:
    """Where the address ends that ADDRESS found: before what belongs to the sentence around it."""
    while end > start and text[end - 1] in _AFTER_ADDRESS:
        end -= 1
    return end


class InlineParser(ParserInline):
    """markdown-it's own, with other delimiters."""

    def parse(self, src: str, md: MarkdownIt, env: Any, tokens: list[Token]) -> list[Token]:
        state = InlineState(src, md, env, tokens)
        self.tokenize(state)
        for rule in self.ruler2.getRules(""):
            rule(state)
        return state.tokens


class InlineState(StateInline):
    """`none_from`: from which place on a mark does not come any more, for those who looked for it."""

    def __init__(self, src: str, md: MarkdownIt, env: Any, outTokens: list[Token]) -> None:
        super().__init__(src, md, env, outTokens)
        self.none_from: dict[str, int] = {}
        self._literal: Sequence[tuple[int, int]] | None = None
        self._sums = (0, -1, False)

    def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:
        length = super().scanDelims(start, canSplitWord).length
        end = start + length
        if self.is_literal(start):
            return Scanned(False, False, length)
        before = self.src[start - 1] if start > 0 else " "
        after = self.src[end] if end < self.posMax else " "
        if self.src[start] == "_":
            return _underscores(before, after, length)
        left, right = _flanks(before, after)
        if self.src[start] == "*":
            left, right = self._stars(start, length, before, after, left, right)
        elif _is_word(before) and _is_word(after):
            left = False
        return Scanned(left, right, length)

    def _stars(
        self, start: int, length: int, before: str, after: str, left: bool, right: bool
    ) -> tuple[bool, bool]:
        """Whether a run of stars may open and close."""
        if before + after in _ENCLOSED or (length == 1 and "/" in (before, after)):
            return False, False
        if length == 1 and before == ".":
            return False, right and self._opened("*", 1)
        if length > 2 or not (_ends_operand(before) and _begins_operand(after)):
            return left, right
        joined = _is_joined(before) or _is_joined(after)
        if length == 1:
            if joined and self._in_sum(start):
                return False, False
            if joined:
                # "A*算法" is a name.
                return left and _is_joined(before), right and (_is_joined(before) or self._opened("*", 1))
            letters = before.isalpha() and after.isalpha()
            return False, right and letters and not self._in_sum(start) and self._opened("*", 1)
        if joined or not (self._is_power(start, start + length) or (before in ")]" and after in "([")):
            return left, right
        return False, right and self._opened("*", 2)

    def _is_power(self, start: int, end: int) -> bool:
        """`x**2`, `a**b`: a digit or a single letter at either side."""
        first, second = self.src[max(0, start - 2) : start], self.src[end : end + 2]
        return (
            first[-1].isdigit()
            or second[0].isdigit()
            or not (first.isalpha() and len(first) == 2)
            or (not (second.isalpha() and len(second) == 2))
        )

    def _opened(self, marker: str, length: int) -> bool:
        return any(
            each.marker == ord(marker) and each.length == length and each.open
            for each in self.delimiters[-_DELIMITERS_BACK:]
        )

    def is_literal(self, position: int) -> bool:
        """Whether it stands in an address, a path or a name that is written with such signs."""
        if self._literal is None:
            addresses = [*ADDRESS.finditer(self.src), *_WINDOWS_PATH.finditer(self.src)]
            spans = [(each.start(), address_end(self.src, each.start(), each.end())) for each in addresses]
            for pattern, sign in ((_SPECIAL_NAMES, "__"), (_GLOB, "*.")):
                spans += [each.span() for each in pattern.finditer(self.src)] if sign in self.src else []
            self._literal = sorted(spans)
        index = bisect_right(self._literal, (position, len(self.src))) - 1
        return index >= 0 and self._literal[index][0] <= position < self._literal[index][1]

    def _in_sum(self, position: int) -> bool:
        """Whether the line has a sign of an equation."""
        begin, end, found = self._sums
        if not begin <= position <= end:
            begin = self.src.rfind("\n", 0, position) + 1
            end = self.src.find("\n", position)
            end = len(self.src) if end < 0 else end
            found = _SUM.search(self.src, begin, end) is not None
            self._sums = begin, end, found
        return found


def _flanks(before: str, after: str) -> tuple[bool, bool]:
    """Left- and right-flanking, where wide punctuation is as good as a letter, and a letter of a script that joins
    its words is as good as a space."""
    space_before, space_after = isWhiteSpace(ord(before)), isWhiteSpace(ord(after))
    sign_before, sign_after = isPunctChar(before), isPunctChar(after)
    left = not space_after and (
        not sign_after or _is_wide_sign(after) or space_before or sign_before or _is_joined(before)
    )
    right = not space_before and (
        not sign_before or _is_wide_sign(before) or space_after or sign_after or _is_joined(after)
    )
    return left, right


def _underscores(before: str, after: str, length: int) -> Scanned:
    """Never within a word or a path; beside wide punctuation where they are doubled."""
    if "/" in (before, after) or (before in ")]}" and after in "([{"):
        return Scanned(False, False, length)
    if length > 1 and (_is_wide_sign(before) or _is_wide_sign(after)):
        left, right = _flanks(before, after)
        return Scanned(
            left and (not right or isPunctChar(before) or _is_wide_sign(after)),
            right and (not left or isPunctChar(after) or _is_wide_sign(before)),
            length,
        )
    space_before, space_after = isWhiteSpace(ord(before)), isWhiteSpace(ord(after))
    sign_before, sign_after = isPunctChar(before), isPunctChar(after)
    left = not (space_after or (sign_after and not (space_before or sign_before)))
    right = not (space_before or (sign_before and not (space_after or sign_after)))
    return Scanned(left and (not right or sign_before), right and (not left or sign_after), length)


@lru_cache(maxsize=4096)
def _is_joined(char: str) -> bool:
    return _JOINED.match(char) is not None


@lru_cache(maxsize=4096)
def _is_wide_sign(char: str) -> bool:
    return isPunctChar(char) and (
        unicodedata.east_asian_width(char) in "WF" or char in "\u2018\u2019\u201c\u201d\u2026\u2014\u00b7"
    )


def _ends_operand(char: str) -> bool:
    return char.isalnum() or char in _OPERAND_ENDS or unicodedata.category(char)[0] == "M"


def _is_word(char: str) -> bool:
    return char.isalnum() and not _is_joined(char)


def _begins_operand(char: str) -> bool:
    return char.isalnum() or char in _OPERAND_BEGINS
