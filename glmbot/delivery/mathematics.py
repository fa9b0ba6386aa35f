r"""What in an answer is mathematics: between dollars, between \( and \), \[ and \], and never what only looks so.

Prices, variables of a shell, brackets that a model escaped, and a matrix's `\\[2pt]` are none, or are not its end.
Tokens: math_inline ("$"), math_inline_double ("$$", within a line) and math_block ("$$") hold the LaTeX itself.
"""

from __future__ import annotations

import re
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

from glmbot.delivery.emphasis import InlineState

__all__ = ["OPENING_LINE", "closes_math", "math_end", "read_mathematics"]

# Nobody writes longer formulas; whoever leaves one open has it looked for no further.
_MOST_LINES = 200
_LONGEST_INLINE = 2000
OPENING_LINE = re.compile(
    r"(?P<open>\$\$|\\\[|\\begin\{(?:equation|align|aligned|alignat|gather|gathered|multline|eqnarray|split|cases|array"
    r"|[bpvBV]?matrix|smallmatrix)\*?\})(?P<rest>.*)",
    re.DOTALL,
)
"""What a line begins with that begins a block of mathematics, its indentation left out."""
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORDING = re.compile(
    r"\\(?:text|mathrm|textbf|textit|mbox|operatorname\*?|mathit|mathsf|label|tag)\s*\{[^{}]*\}"
)
_FUNCTIONS = re.compile(
    r"\b(?:sin|cos|tan|cot|sec|csc|log|exp|max|min|lim|det|sup|inf|arg|deg|gcd|lcm|mod|dim|ker)\b"
)
_OPERATOR = re.compile(r"[=+^_<>|*/\u2200-\u22ff\u00d7\u00f7\u00b1\u2190-\u21ff~!']|-(?=\S)|(?<=\s)-")
# Where no spaces say so: not `[a-z]`, `[y/N]`, `[2023-01-01]`, `[my_name]`.
_SURE_OPERATOR = re.compile(
    r"[=^\u2200-\u22ff\u00d7\u00f7\u00b1]|(?<![A-Za-z])[A-Za-z]_|[\w)]\s*[+<>]\s*[\w(]|\)[(/*]"
)
_LONG_WORD = re.compile(r"[A-Za-z]{3,}")
_PROSE = re.compile(r"[A-Za-z]{3,}[ ,]+[A-Za-z]{2,}|[A-Za-z]{2,}[ ,]+[A-Za-z]{3,}")
# What no formula ends with.
_UNFINISHED = re.compile(r"[/:,.&|(\[{=\"\u3002\uff0c\uff1a\uff1b\u3001]\Z")
# And what none begins with.
_UNBEGUN = re.compile(r"[,;:.!?)\]}\u3002\uff0c\uff1a\uff1b\u3001]")
# An amount of money up to the name of a currency.
_AMOUNTS = re.compile(r"\d[\d.,]*\s.*\b(?:US|A|C|HK|NT|S|R|NZ|CA|AU)\Z", re.DOTALL)
_SUFFIX = re.compile(r"(?:th|st|nd|rd|ths|s|'s)\b")


def read_mathematics(parser: MarkdownIt) -> None:
    """Teach a parser mathematics."""
    parser.inline.ruler.before("escape", "path", _path)
    parser.inline.ruler.before("escape", "math_inline", _inline)
    parser.block.ruler.before(
        "fence", "math_block", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )


def _path(state: StateInline, silent: bool) -> bool:
    r"""A backslash of a path, as in `C:\_new\*`, escapes nothing."""
    if state.src[state.pos] != "\\" or not isinstance(state, InlineState) or not state.is_literal(state.pos):
        return False
    if not silent:
        state.append_pending("\\")
    state.pos += 1
    return True


def _inline(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] == "$" and isinstance(state, InlineState) and state.is_literal(state.pos):
        return False
    match state.src[state.pos]:
        case "$":
            return _dollars(state, silent)
        case "\\" if state.src.startswith((r"\(", r"\["), state.pos):
            return _brackets(state, silent)
        case _:
            return False


def _dollars(state: StateInline, silent: bool) -> bool:
    source, start = state.src, state.pos
    before = source[start - 1] if start else " "
    if before.isascii() and before.isalnum():
        return False
    double = source.startswith("$$", start)
    mark = "$$" if double else "$"
    begin = start + len(mark)
    end = _find(state, mark, begin)
    if end < 0:
        return False
    content = source[begin:end]
    after = source[end + len(mark) : end + len(mark) + 4]
    if not _may_be_between_dollars(content, after, double):
        return False
    return _push(state, silent, content, double, end + len(mark))


def _may_be_between_dollars(content: str, after: str, double: bool) -> bool:
    """What is written for a reader of dollars rather than of a formula: sums of money, a shell's variables."""
    bare = content.replace("\\{", "").replace("\\}", "")
    if not content.strip() or bare.count("{") != bare.count("}"):
        return False
    if double:
        return _is_formula(content, spaced=True) or (
            content == content.strip() and not _PROSE.search(content)
        )
    if (
        content[0].isspace()
        or content[-1].isspace()
        or _UNFINISHED.search(content)
        or _AMOUNTS.match(content)
        or _UNBEGUN.match(content)
    ):
        return False
    following = after[:1]
    if following.isdigit() or (following in "${" and following):
        return False
    if following.isascii() and following.isalpha() and not _SUFFIX.match(after):
        return False
    return not _PROSE.search(_without_commands(content))


def _brackets(state: StateInline, silent: bool) -> bool:
    source, start = state.src, state.pos
    display = source[start + 1] == "["
    end = _find(state, r"\]" if display else r"\)", start + 2)
    if end < 0:
        return False
    content = source[start + 2 : end]
    if not content.strip() or (display and source.startswith("(", end + 2)):
        return False
    if source[start : start + 2] in content:
        return False
    spaced = content[0].isspace() and content[-1].isspace()
    if not (_is_formula(content, spaced=spaced) if display else _is_inline_formula(content)):
        return False
    return _push(state, silent, content.strip(), display, end + 2)


def _push(state: StateInline, silent: bool, content: str, double: bool, end: int) -> bool:
    if not silent:
        token = state.push("math_inline_double" if double else "math_inline", "math", 0)
        token.content = content
        token.markup = "$$" if double else "$"
    state.pos = end
    return True


def _find(state: StateInline, mark: str, begin: int) -> int:
    r"""The place of `mark` that no backslash stands before (`\\[2pt]` is a row's end); -1 where there is none."""
    source = state.src
    if not isinstance(state, InlineState):
        raise TypeError("mathematics is read by InlineParser")
    if state.none_from.get(mark, len(source)) <= begin:
        return -1
    stop = min(state.posMax, begin + _LONGEST_INLINE)
    place = source.find(mark, begin, stop)
    while place >= 0 and _is_escaped(source, place, begin):
        place = source.find(mark, place + 1, stop)
    if place < 0 and stop == len(source):
        state.none_from[mark] = begin
    return place


def _is_escaped(source: str, place: int, begin: int) -> bool:
    slashes = place
    while slashes > begin and source[slashes - 1] == "\\":
        slashes -= 1
    return (place - slashes) % 2 == 1


def _without_commands(content: str) -> str:
    return _FUNCTIONS.sub(" ", _COMMAND.sub(" ", _WORDING.sub(" ", content)))


def _is_formula(content: str, *, spaced: bool) -> bool:
    """Whether what stands between brackets is a formula rather than `[1]`, `[WARNING]` or `[see below]`."""
    if content.startswith("^") or not content.strip():
        return False
    if _COMMAND.search(content):
        return True
    bare = _without_commands(content)
    if not (_OPERATOR if spaced else _SURE_OPERATOR).search(bare):
        return spaced and re.fullmatch(r"\s*[A-Za-z0-9]\s*|\s*[\d.]+\s*", bare) is not None
    return not _PROSE.search(bare) if spaced else not _LONG_WORD.search(bare)


def _is_inline_formula(content: str) -> bool:
    """Between round brackets that are escaped there is hardly anything else."""
    if _COMMAND.search(content):
        return True
    bare = _without_commands(content)
    if _PROSE.search(bare):
        return False
    return bool(_OPERATOR.search(bare)) or not re.search(r"[a-z]{4,}|[A-Za-z]{6,}", bare)


def math_end(opener: str) -> str:
    """What ends a block that `opener` began."""
    return {"$$": "$$", r"\[": r"\]"}.get(opener, opener.replace(r"\begin", r"\end"))


def closes_math(line: str, opener: str) -> bool:
    """Whether a line of a block that `opener` began is its last one."""
    stripped = line.rstrip()
    mark = math_end(opener)
    return stripped.endswith(mark) and not stripped.endswith("\\" + mark)


def _block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    if state.is_code_block(start_line):
        return False
    begin = state.bMarks[start_line] + state.tShift[start_line]
    match = OPENING_LINE.match(state.src[begin : state.eMarks[start_line]])
    if match is None:
        return False
    opener = match["open"]
    mark = math_end(opener)
    first = match["rest"]
    last = start_line
    if mark in first:
        content = first.rstrip().removesuffix(mark)
        if not closes_math(first, opener) or mark in content or not _stands_alone(content, opener):
            return False
    else:
        closing = _closing_line(state, start_line, end_line, opener)
        if closing is None:
            return False
        last = closing
        rest = state.getLines(start_line + 1, last + 1, state.sCount[start_line], False)
        content = f"{first}\n{rest}".rstrip().removesuffix(mark)
        if mark in content.replace("\\" + mark, ""):
            return False
    if not content.strip():
        return False
    if opener.startswith(r"\begin"):
        content = f"{opener}{content}{mark}"
    if not silent:
        token = state.push("math_block", "math", 0)
        token.block = True
        token.content = content
        token.markup = "$$"
        token.map = [start_line, last + 1]
    state.line = last + 1
    return True


def _stands_alone(content: str, opener: str) -> bool:
    if opener.startswith(r"\begin"):
        return bool(content.strip())
    if opener == "$$":
        return bool(content.strip()) and not _PROSE.search(_without_commands(content))
    return _is_formula(content, spaced=content[:1].isspace() and content[-1:].isspace())


def _closing_line(state: StateBlock, start_line: int, end_line: int, opener: str) -> int | None:
    """The line that ends the block. Lines that were looked at in vain are not looked at again."""
    seen: dict[Any, tuple[int, int]] = state.env.setdefault("mathematics", {})
    key = (opener, state.blkIndent, state.level)
    line = start_line + 1
    from_line, to_line = seen.get(key, (line, line))
    if from_line <= line < to_line:
        line = to_line
    else:
        from_line = line
    while line < min(end_line, start_line + _MOST_LINES):
        if state.sCount[line] < state.blkIndent and not state.isEmpty(line):
            break
        if closes_math(state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]], opener):
            return line
        line += 1
    seen[key] = (from_line, line)
    return None
