"""A file can be read in one sitting and a function at a glance. What is longer says why in its docstring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from conftest import REPOSITORY

LONGEST_FILE = 450
LONGEST_FUNCTION = 60
_REASON = re.compile(rf"Longer than {LONGEST_FILE} lines because [^.]{{20,}}\.")


def complaints(source: str) -> Iterator[str]:
    lines, tree = len(source.splitlines()), ast.parse(source)
    reason = _REASON.search(" ".join((ast.get_docstring(tree) or "").split()))
    if lines > LONGEST_FILE and reason is None:
        yield f"has {lines} lines, and no sentence 'Longer than {LONGEST_FILE} lines because …' in its docstring"
    if lines <= LONGEST_FILE and reason is not None:
        yield "gives a reason for a length that it does not have"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > LONGEST_FUNCTION:
                yield f"{node.name} has {size} lines"


@pytest.mark.parametrize("root", ["glmbot", "adapters", "plugins"])
def test_no_file_and_no_function_is_long_without_a_reason(root: str) -> None:
    paths = sorted((REPOSITORY / root).rglob("*.py"))
    assert paths
    found = [
        f"{path.relative_to(REPOSITORY)}: {complaint}"
        for path in paths
        for complaint in complaints(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("pass\n" * 450, []),
        ("pass\n" * 451, ["has 451 lines"]),
        ('"""One.\n\nLonger than 450 lines because."""\n' + "pass\n" * 450, ["has 453 lines"]),
        ('"""One.\n\nLonger than 450 lines\nbecause each row is one state."""\n' + "pass\n" * 450, []),
        ('"""One.\n\nLonger than 450 lines because each row is one state."""\n', ["gives a reason"]),
        ("def f():\n" + "    pass\n" * 59, []),
        ("class C:\n    async def f(self):\n" + "        pass\n" * 60, ["f has 61 lines"]),
        ("def f():\n    def g():\n" + "        pass\n" * 60, ["f has 62 lines", "g has 61 lines"]),
    ],
)
def test_what_is_too_long_is_found(source: str, words: list[str]) -> None:
    found = list(complaints(source))
    assert len(found) == len(words), found
    assert all(word in complaint for word, complaint in zip(words, found, strict=True))
