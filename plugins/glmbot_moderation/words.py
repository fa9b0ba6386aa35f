"""A list of words that may not be said: found in a text whatever its case, width and invisible characters.

Texts are compared in one form: compatibility characters are the plain ones (NFKC), case is folded, what can't be
seen is left out, and any white space is one space.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from glmbot.host import Finding

__all__ = ["GrowingText", "WordList", "plain_form", "read_words"]

_MOST_WORDS = 20_000
_LONGEST_WORD = 200
# Written without spaces between words, so a word of these is looked for anywhere.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SPACE = re.compile(r"\s+")
# Shown as nothing, beside the category of format characters.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | {
    chr(point)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for point in range(first, last + 1)
}
# A search gives way to other threads at least after so many characters.
_STRIDE = 50_000
# No combination of characters that is composed into others is longer.
_LONGEST_COMBINED = 32
# A trie of this many letters makes the pattern: below, words are few enough to be tried one by one.
_DEPTH = 4


class WordList:
    def __init__(self, words: Iterable[str] = ()) -> None:
        spaced: set[str] = set()
        unspaced: set[str] = set()
        for word in words:
            if plain := plain_form(word).strip():
                (unspaced if _UNSPACED.search(word) else spaced).add(plain)
        self._spaced = _pattern(spaced, r"(?<!\w)(?:{})(?!\w)")
        self._unspaced = _pattern(unspaced, "{}")
        self.longest = max(map(len, spaced | unspaced), default=0)

    def has_word(self, text: str) -> bool:
        return self.longest > 0 and self.find(plain_form(text)) is not Finding.NOTHING

    def find(self, plain: str, begin: int = 0) -> Finding:
        """Look through a text that is in its plain form, for words that begin at `begin` or later."""
        if not self.longest:
            return Finding.NOTHING
        finding = Finding.NOTHING
        for start in range(begin, len(plain), _STRIDE):
            end = min(len(plain), start + _STRIDE + self.longest)
            if self._unspaced.search(plain, start, end):
                return Finding.WORD
            for match in self._spaced.finditer(plain, start, end):
                if match.end() == len(plain):
                    finding = Finding.PERHAPS
                elif match.end() < end:
                    return Finding.WORD
        return finding


class GrowingText:
    """Looks at a text that grows, at each character about once."""

    def __init__(self, words: WordList) -> None:
        self._words = words
        self._found = False
        self._settled = 0
        self._before = ""

    def look(self, text: str) -> Finding:
        """`text` is all of it so far."""
        if self._found:
            return Finding.WORD
        if not self._words.longest:
            return Finding.NOTHING
        if len(text) < self._settled:
            self._settled, self._before = 0, ""
        # The first character only says whether a word begins behind it: what begins with it was looked at.
        cut = int(len(self._before) > self._words.longest)
        finding = self._words.find(_joined(self._before, plain_form(text[self._settled :])), cut)
        self._found = finding is Finding.WORD
        border = _border(text, self._settled)
        before = _joined(self._before, plain_form(text[self._settled : border]))
        self._before = before[-self._words.longest - 1 :]
        self._settled = border
        return finding


def read_words(text: str) -> list[str]:
    """One word or phrase a line; empty lines and lines that begin with # are none.

    Raises ValueError for too many, or a line that is too long to be one.
    """
    lines = (line.strip() for line in text.splitlines())
    words = [line for line in lines if line and not line.startswith("#")]
    if len(words) > _MOST_WORDS:
        raise ValueError(f"{len(words):,} words are listed, and at most {_MOST_WORDS:,} are looked for")
    if long := next((word for word in words if len(word) > _LONGEST_WORD), None):
        raise ValueError(
            f"{long[:40]!r}… has more than {_LONGEST_WORD} characters; a line is a word or phrase"
        )
    return words


def plain_form(text: str) -> str:
    if not text.isascii():
        seen = "".join(char for char in text if char not in _UNSEEN and unicodedata.category(char) != "Cf")
        text = unicodedata.normalize("NFKC", seen)
    return _SPACE.sub(" ", text.casefold())


def _joined(before: str, after: str) -> str:
    return before + after.lstrip(" ") if before.endswith(" ") else before + after


def _border(text: str, start: int) -> int:
    """Where the plain form of what comes next can't change that of what came before."""
    for border in range(len(text) - 1, max(start, len(text) - _LONGEST_COMBINED), -1):
        if text[border].isascii() or "\u3400" <= text[border] <= "\u9fff":
            return border
    return max(start, len(text) - _LONGEST_COMBINED)


def _pattern(words: set[str], around: str) -> re.Pattern[str]:
    """A pattern without nested repetitions; the longest words are tried first."""
    return re.compile(around.format(_alternatives(sorted(words), 0)) if words else r"(?!)")


def _alternatives(words: Sequence[str], depth: int) -> str:
    if depth == _DEPTH or len(words) < 4:
        return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    by_letter: dict[str, list[str]] = defaultdict(list)
    for word in words:
        by_letter[word[:1]].append(word[1:])
    ends = by_letter.pop("", None)
    branches = [
        f"{re.escape(letter)}(?:{_alternatives(rest, depth + 1)})"
        for letter, rest in sorted(by_letter.items())
    ]
    # The shortest comes last: a pattern takes the first alternative that fits.
    return "|".join(branches + ([""] if ends else []))
