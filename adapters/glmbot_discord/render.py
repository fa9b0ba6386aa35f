"""The model's Markdown for Discord, which reads most of it: only what Discord lacks or misreads is rewritten.

https://support.discord.com/hc/en-us/articles/210298617: no tables, rules, pictures or mathematics, three levels of
headings; "-# " is small print and two bars hide what is between them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from markdown_it.token import Token

from glmbot.delivery.markdown import closing, layout_table, make_parser, may_link, with_dollars

__all__ = ["NOTICE_ROOM", "fits", "render"]

_LONGEST_CONTENT = 2000
NOTICE_ROOM = 250
"""Characters kept free under an answer for the bot's own line."""
_PARSER = make_parser()
_RULE = re.compile(r" {0,3}([-*_])( *\1){2,} *")
_DEEP_HEADING = re.compile(r"^(?P<indent> {0,3})#{4,6} +(?P<words>.+?)(?: +#+)? *$")
_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
# What Discord's client makes of an answer's text, in the order in which it looks: an escaped sign, code, a link
# with words, one in angle brackets, an address alone. It knows neither other fences nor indented code.
_READ_BY_DISCORD = re.compile(
    r"(?P<plain>\\[^0-9A-Za-z\s]|```.+?```|(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`))"
    r"|\]\s*\(\s*(?P<target>[^()\s]*(?:\([^()]*\)[^()\s]*)*)"
    r"|<(?P<bracketed>[^: >\n]+:/[^ >\n]+)>"
    r"|(?P<bare>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s<`]+)",
    re.DOTALL,
)
_SCHEME = re.compile(r"[\s<]*(?P<address>[a-zA-Z][a-zA-Z0-9+.-]*:[^\s>]*)")
_UNESCAPED = re.compile(r"\\([^0-9A-Za-z\s])")
_PICTURE = re.compile(r"!(\[[^\]\n]*\]\([^)\n]*\))")


def render(markdown: str, notice: str = "") -> str:
    """One message's content; `notice` stands under the answer in small print.

    Markdown that shows nothing (a link's definition, say) is an ellipsis, as Discord takes no empty message.
    """
    markdown = with_dollars(markdown)
    lines = markdown.split("\n")
    replaced: dict[int, tuple[int, list[str]]] = {}
    tokens = _PARSER.parse(markdown)
    for index, token in enumerate(tokens):
        if token.map is None:
            continue
        start, end = token.map
        while end > start and not lines[end - 1].strip():
            end -= 1
        if token.type == "table_open" and not token.level:
            table = layout_table(tokens[index : closing(tokens, index)])
            replaced[start] = (end, ["```", *table.split("\n"), "```"])
        elif token.type == "hr" and not token.level and _RULE.fullmatch(lines[start]):
            replaced[start] = (end, ["———"])
        elif token.type in ("math_block", "math_block_label") and not token.level:
            replaced[start] = (end, ["```latex", *token.content.strip("\n").split("\n"), "```"])
        elif token.type in ("fence", "code_block"):
            replaced.setdefault(start, (end, lines[start:end]))
        elif token.type == "inline" and start not in replaced:
            replaced[start] = (end, _inline("\n".join(lines[start:end]), token).split("\n"))
    out: list[str] = []
    index = 0
    while index < len(lines):
        end, new = replaced.get(index, (index + 1, lines[index : index + 1]))
        out += new
        index = max(end, index + 1)
    content = "\n".join(out).strip("\n")
    small = "\n".join(f"-# {line}" for line in notice.split("\n") if line.strip())
    if not content.strip():
        return notice or "…"
    content = _READ_BY_DISCORD.sub(_checked, content)
    return f"{content}\n{small[: NOTICE_ROOM - 1]}" if small else content


def _checked(match: re.Match[str]) -> str:
    """An address that may be no link is code, which is nobody's link: `discord:` opens parts of the client and
    `steam:` starts a program."""
    if match["plain"] is not None:
        return match[0]
    if match["target"] is not None:
        target = _SCHEME.match(_UNESCAPED.sub(r"\1", match["target"]))
        if target is None or may_link(target["address"]):
            return match[0]
        return f"] ({_code(match['target'], match)}"
    address = match["bracketed"] or match["bare"]
    known = may_link(address) if match["bracketed"] is not None else _web(address)
    return match[0] if known else _code(address, match)


def _code(address: str, match: re.Match[str]) -> str:
    """Other code that touches it stays apart."""
    before = " " if match.string[: match.start()].endswith("`") else ""
    after = " " if match.string[match.end() :].startswith("`") else ""
    return f"{before}`{address.replace('`', '')}`{after}"


def _web(address: str) -> bool:
    """Only so far as it goes: what ends the address in running text is not known."""
    return address.lower().startswith(("http://", "https://"))


@lru_cache(maxsize=256)
def fits(markdown: str) -> bool:
    """Whether Discord takes this piece as one message with a notice under it."""
    return len(render(markdown)) <= _LONGEST_CONTENT - NOTICE_ROOM


def _inline(source: str, token: Token) -> str:
    """The lines of one paragraph, heading or cell. What stands in code spans stays as it is."""
    math = [child for child in token.children or [] if child.type.startswith("math_inline")]
    heading = _DEEP_HEADING.match(source)
    if heading is not None:
        source = f"{heading['indent']}**{heading['words']}**"
    parts: list[str] = []
    place = 0
    for span in _SPAN.finditer(source):
        parts += [_outside_code(source[place : span.start()], math), span[0]]
        place = span.end()
    return "".join([*parts, _outside_code(source[place:], math)])


def _outside_code(text: str, math: list[Token]) -> str:
    out = ""
    for each in list(math):
        written = f"{each.markup}{each.content}{each.markup}"
        before, found, after = text.partition(written)
        if not found:
            break
        # In a code span underscores and stars are nobody's emphasis.
        out += _plain(before) + (f"`{written}`" if "`" not in written else written)
        text = after
        math.remove(each)
    return out + _plain(text)


def _plain(text: str) -> str:
    return _PICTURE.sub(r"\1", text).replace("||", r"\|\|")
