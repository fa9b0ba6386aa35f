"""Answers as models write them, in four languages, with everything nested in everything else, and their words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

__all__ = ["AS_WRITTEN", "Written", "answers"]


@dataclass(frozen=True)
class Written:
    """Lines of Markdown, the words that they say, and whether a table may say them in another order."""

    lines: tuple[str, ...]
    words: tuple[str, ...]
    table: bool = False

    @property
    def markdown(self) -> str:
        return "\n".join(self.lines)


WORDS = (
    "water", "Model", "naïve", "函数", "为什么？", "他说：“好。”", "模型", "كلمة", "«مهم»", "النموذج", "हिन्दी", "क्षत्रिय", "प्रश्न",
    "👩‍👩‍👧", "🇨🇳", "3.14", "C++", "don't",
)  # fmt: skip
AS_WRITTEN = (
    "2*3*4", "a*b*c", "(x+1)*(y-1)*z", "2**10", "snake_case_name", "__init__.py", "https://e.org/_a_/__b__.py", "[1]", "$5",
    "$HOME/$USER", "COUNT(*)", "src/*/test/*", "R&D", "a||b", "#tag", "<T>", "vector<std::string>", "C:\\Users", "50%", "*.py",
    "A*算法", "_leading", "trailing_", "~/a", "a~~b", "$PATH", "US$5", "[x]", "f(*args)", "^.*$", "#1", "@you", "&c", "a|b",
    "C:\\_new\\*x", "x^2^", "5*", "{a}_{b}", "-1", "n/a", "3/4", "a->b", "i++", "!important", "x[0]*y[1]*z", "√2*√3*5", "1_000_000",
    "__LINE__", "~", "^",  "a**b", "price*qty", "«a»", "…", "2024-01-01", "12:30", "wow!!!", "(a)", "{}", "|",
)  # fmt: skip
"""What looks like Markdown and is none; shown as it stands."""
LATEX = {r"a_1 + b": "a1b", r"\frac{p}{q}": "pq", r"x^2 * y * z": "x2yz", r"\text{if } n > 0": "ifn0"}
CODE: tuple[str, ...] = (
    "x = a_b*c*d",
    "**kw, *args",
    "if a || b: `t`",
    "print('你好')",
    "# none",
    "| a | b |",
    "- not",
    "$HOME",
    "<b>",
    "\tindented",
)

word = st.sampled_from(WORDS)
emphasised = st.tuples(st.sampled_from(["**", "*", "~~", "***"]), word).map(
    lambda each: (each[0] + each[1] + each[0], each[1])
)
link = word.map(lambda each: (f"[{each}](https://e.org/a_(b))", each))
code_span = st.sampled_from(["a_b", "**x**", "f(*a)"]).map(lambda each: (f"`{each}`", each))
formula = st.sampled_from(list(LATEX.items())).map(lambda each: (f"${each[0]}$", each[1]))
bracketed = st.sampled_from(list(LATEX.items())).map(lambda each: (rf"\({each[0]}\)", each[1]))
piece = (
    word.map(lambda each: (each, each))
    | st.sampled_from(AS_WRITTEN).map(lambda each: (each, each))
    | emphasised
    | link
)
piece |= code_span | formula | bracketed
sentence = st.lists(piece, min_size=1, max_size=9).map(
    lambda pieces: (" ".join(each for each, _ in pieces), tuple(each for _, each in pieces))
)
cell = st.lists(word.map(lambda each: (each, each)) | emphasised | link, min_size=1, max_size=3).map(
    lambda pieces: (" ".join(each for each, _ in pieces), tuple(each for _, each in pieces))
)


def _fence(drawn: tuple[str, str, Sequence[str]]) -> Written:
    mark, language, code = drawn
    return Written((mark + language, *code, mark), tuple(code))


def _table(rows: list[tuple[tuple[str, tuple[str, ...]], tuple[str, tuple[str, ...]]]]) -> Written:
    lines = [f"| {first[0]} | {second[0]} |" for first, second in rows]
    words = [each for row in rows for text in row for each in text[1]]
    return Written((lines[0], "|:--|--:|", *lines[1:]), tuple(words), table=True)


def _math(drawn: tuple[str, tuple[str, str]]) -> Written:
    opener, (latex, said) = drawn
    return Written((opener, latex, "$$" if opener == "$$" else r"\]"), (said,))


def _indented(block: Written, first: str) -> Written:
    rest = " " * len(first)
    lines = (first + block.lines[0], *(rest + line if line else "" for line in block.lines[1:]))
    return Written(lines, block.words, block.table)


def _joined(blocks: list[Written]) -> Written:
    lines: list[str] = []
    for block in blocks:
        lines += ([""] if lines else []) + list(block.lines)
    return Written(
        tuple(lines),
        tuple(each for block in blocks for each in block.words),
        any(each.table for each in blocks),
    )


def _items(drawn: tuple[bool, list[Written]]) -> Written:
    ordered, blocks = drawn
    made = [_indented(block, f"{number}. " if ordered else "- ") for number, block in enumerate(blocks, 8)]
    return _joined(made)


def _quote(block: Written) -> Written:
    return Written(tuple(f"> {line}".rstrip() for line in block.lines), block.words, block.table)


leaf = st.one_of(
    sentence.map(lambda drawn: Written((drawn[0],), drawn[1])),
    st.tuples(st.integers(1, 6), sentence).map(lambda drawn: Written(("#" * drawn[0] + " " + drawn[1][0],), drawn[1][1])),
    st.tuples(
        st.sampled_from(["```", "~~~", "````"]), st.sampled_from(["", "python"]), st.lists(st.sampled_from(CODE), min_size=1, max_size=12).map(tuple)
    ).map(_fence),
    st.lists(st.tuples(cell, cell), min_size=2, max_size=9).map(_table),
    st.tuples(st.sampled_from(["$$", r"\["]), st.sampled_from(list(LATEX.items()))).map(_math),
)  # fmt: skip
block = st.recursive(
    leaf,
    lambda inner: (
        st.tuples(st.booleans(), st.lists(inner, min_size=1, max_size=3)).map(_items)
        | st.lists(inner, min_size=1, max_size=2).map(_joined).map(_quote)
    ),
    max_leaves=5,
)
answers = st.lists(block, min_size=1, max_size=5).map(_joined)
