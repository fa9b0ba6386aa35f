"""The model's Markdown in Discord's dialect, written anew from what it means.

https://support.discord.com/hc/en-us/articles/210298617: no tables, rules, pictures, mathematics, entities,
indented code or fences of tildes; three levels of headings; "-# " is small print and two bars hide what is between
them. Stars mean emphasis wherever they stand, so those that are words are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from markdown_it.token import Token

from glmbot.delivery.emphasis import ADDRESS
from glmbot.delivery.markdown import ItemNumbers, closing, fence_heading, make_parser, may_link
from glmbot.delivery.tables import layout_table

__all__ = ["LONGEST_CONTENT", "NOTICE_ROOM", "fits", "fits_folded", "render", "render_thought"]

LONGEST_CONTENT = 2000
NOTICE_ROOM = 250
"""Characters kept free under an answer for the bot's own line."""
_PARSER = make_parser()
_LEVELS = 3
_MARKS = {"strong": "**", "em": "*", "s": "~~"}
_LANGUAGE = re.compile(r"[A-Za-z0-9_+.#-]+")
# What Discord reads at the beginning of a line.
_LINE_BEGINS = re.compile(
    r"(?P<indent> *)(?:(?P<sign>#{1,3}|-#|>{1,3}|[-*+])(?= )|(?P<number>\d{1,9})(?P<dot>\.)(?= ))"
)
# What Discord reads within one. A star or an underscore between spaces is none of it, nor an underscore in a word.
_SIGNS = re.compile(
    r"\\(?=[^0-9A-Za-z\s])|\*+|(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9_])|__+|~~+|`|\|\|+", re.ASCII
)
_SPACED = re.compile(r"(?:^|(?<=\s))[*_]+(?=\s|$)")
# What Discord's client makes of an answer's text, in the order in which it looks: an escaped sign, code, a link
# with words, one in angle brackets, an address alone.
_READ_BY_DISCORD = re.compile(
    r"(?P<plain>\\[^0-9A-Za-z\s]|```.+?```|(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`))"
    r"|\]\s*\(\s*(?P<target>[^()\s]*(?:\([^()]*\)[^()\s]*)*)"
    r"|<(?P<bracketed>[^: >\n]+:/[^ >\n]+)>"
    r"|(?P<bare>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s<`]+)",
    re.DOTALL,
)
_SCHEME = re.compile(r"[\s<]*(?P<address>[a-zA-Z][a-zA-Z0-9+.-]*:[^\s>]*)")
_UNESCAPED = re.compile(r"\\([^0-9A-Za-z\s])")


def render(markdown: str, notice: str = "") -> str:
    """One message's content; `notice` stands under the answer in small print.

    Markdown that shows nothing (an empty fence, say) is an ellipsis, as Discord takes no empty message.
    """
    lines = _blocks(_PARSER.parse(markdown), in_list=False)
    content = "\n".join(lines).strip("\n")
    small = "\n".join(f"-# {line}" for line in notice.split("\n") if line.strip())
    if not content.strip():
        return notice or "…"
    content = _READ_BY_DISCORD.sub(_checked, content)
    return f"{content}\n{small[: NOTICE_ROOM - 1]}" if small else content


def render_thought(thought: str, label: str) -> str:
    """What a model thought, under its label, behind a spoiler's bars."""
    words = _READ_BY_DISCORD.sub(_checked, "\n".join(_begun_lines(_escaped(thought.strip()))))
    # A space keeps its last sign apart from the bars.
    return f"-# {label}\n||{words} ||"


@lru_cache(maxsize=256)
def fits_folded(thought: str, label: str) -> bool:
    """Whether Discord takes this thought as one message."""
    return len(render_thought(thought, label)) <= LONGEST_CONTENT


@lru_cache(maxsize=256)
def fits(markdown: str) -> bool:
    """Whether Discord takes this piece as one message with a notice under it."""
    return len(render(markdown)) <= LONGEST_CONTENT - NOTICE_ROOM


def _blocks(tokens: Sequence[Token], *, in_list: bool, tight: bool = False) -> list[str]:
    """The lines of some blocks."""
    out: list[str] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        end = closing(tokens, index) if token.nesting == 1 else index
        inside = tokens[index + 1 : end]
        match token.type:
            case "paragraph_open":
                lines = _begun_lines(_inline(inside[0].children or []))
            case "heading_open":
                lines = _heading(token, inside[0], in_list=in_list)
            case "bullet_list_open" | "ordered_list_open":
                lines = _items(inside, numbers=ItemNumbers() if token.type[0] == "o" else None)
            case "blockquote_open":
                lines = [f"> {line}" for line in _blocks(inside, in_list=False)]
            case "fence" | "code_block":
                language, beside = fence_heading(token.info)
                lines = [*([_escaped(beside)] if beside else []), *_fenced(token.content, language)]
            case "table_open":
                lines = _fenced(layout_table(inside), "")
            case "math_block":
                lines = _fenced(token.content.strip("\n"), "latex")
            case "hr":
                lines = ["———"]
            case _:
                lines = token.content.rstrip("\n").split("\n")
        if out and lines and not tight:
            out.append("")
        out += lines
        index = end + 1
    return out


def _items(tokens: Sequence[Token], numbers: ItemNumbers | None) -> list[str]:
    out: list[str] = []
    index = 0
    while index < len(tokens):
        item = tokens[index]
        end = closing(tokens, index)
        inside = tokens[index + 1 : end]
        own = [each for each in inside if each.type == "paragraph_open" and each.level == item.level + 1]
        tight = all(each.hidden for each in own)
        sign = f"{numbers.next(item)}{item.markup}" if numbers else "-"
        lines = _blocks(inside, in_list=True, tight=tight)
        out += _item(sign, lines)
        index = end + 1
    return out


def _item(sign: str, lines: Sequence[str]) -> Iterator[str]:
    """Fenced code begins where the message does: its indentation would be shown."""
    indent = " " * (len(sign) + 1)
    in_code = False
    for number, line in enumerate(lines or [""]):
        fence = line.startswith("```")
        if number == 0:
            yield f"{sign} {line}" if not fence else sign
        if number or fence:
            yield line if fence or in_code or not line else indent + line
        in_code ^= fence


def _heading(token: Token, inline: Token, *, in_list: bool) -> list[str]:
    level = int(token.tag[1:])
    words = _inline(inline.children or [], bold=level > _LEVELS or in_list).replace("\n", " ")
    if not words:
        return []
    return [f"**{words}**"] if level > _LEVELS or in_list else [f"{'#' * level} {words}"]


def _fenced(content: str, language: str) -> list[str]:
    """Nothing ends Discord's code but three ticks, which within it are therefore held apart by no width."""
    lines = content.removesuffix("\n").replace("```", "``\u200b`").split("\n")
    if not any(line.strip() for line in lines):
        return []
    head = language if _LANGUAGE.fullmatch(language) else ""
    return [f"```{head}", *lines, "```"] if head == language else [_escaped(language), "```", *lines, "```"]


def _begun_lines(text: str) -> list[str]:
    return [
        _LINE_BEGINS.sub(_escaped_beginning, line, count=1) if line else line for line in text.split("\n")
    ]


def _escaped_beginning(match: re.Match[str]) -> str:
    if match.start():
        return match[0]
    if match["sign"] is not None:
        return f"{match['indent']}\\{match['sign']}"
    return f"{match['indent']}{match['number']}\\{match['dot']}"


def _inline(tokens: Sequence[Token], *, bold: bool = False) -> str:
    """`bold`: within what is bold already."""
    out: list[str] = []
    depth = {"strong": int(bold), "em": 0, "s": 0}
    links: list[tuple[Token, int]] = []
    for token in tokens:
        name = token.type.removesuffix("_open").removesuffix("_close")
        match token.type:
            case "text":
                out.append(_escaped(token.content))
            case "softbreak" | "hardbreak":
                out.append("\n")
            case "code_inline":
                out.append(_code(token.content))
            case "math_inline" | "math_inline_double":
                # In a code span underscores and stars are nobody's emphasis.
                out.append(_code(f"{token.markup}{token.content.strip()}{token.markup}"))
            case "image":
                out.append(_link(_escaped(token.content), str(token.attrGet("src") or ""), ""))
            case "link_open":
                links.append((token, len(out)))
            case "link_close":
                link, begin = links.pop()
                words = "".join(out[begin:])
                del out[begin:]
                href = str(link.attrGet("href") or "")
                if link.markup == "autolink":
                    out.append(f"<{href}>" if may_link(href) else _code(href))
                else:
                    out.append(_link(words, href, str(link.attrGet("title") or "")))
            case kind if name in _MARKS:
                depth[name] += token.nesting
                if depth[name] == (1 if kind.endswith("_open") else 0):
                    out.append(_MARKS[name])
            case _:
                out.append(_escaped(token.content))
    return "".join(out)


def _link(words: str, href: str, title: str) -> str:
    if not words or words in (href, href.partition("://")[2]):
        # Discord makes no link of words that are an address.
        return href if _web(href) else _code(href) if href else ""
    if not href:
        return words
    if _UNESCAPED.sub(r"\1", words) == href and _web(href):
        return href
    beside = ' "{}"'.format(title.replace('"', "'").replace("\n", " ")) if title else ""
    return f"[{words}]({href}{beside})"


def _escaped(text: str) -> str:
    """Words as words, save addresses: in those a backslash would be one of their own."""
    out: list[str] = []
    end = 0
    for match in ADDRESS.finditer(text):
        out += [_outside_addresses(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*out, _outside_addresses(text[end:])])


def _outside_addresses(text: str) -> str:
    out: list[str] = []
    end = 0
    spaced = {match.start() for match in _SPACED.finditer(text)}
    for match in _SIGNS.finditer(text):
        if match.start() in spaced:
            continue
        out += [text[end : match.start()], *(f"\\{sign}" for sign in match[0])]
        end = match.end()
    return "".join([*out, text[end:]])


def _code(content: str) -> str:
    """A span that holds whatever ticks there are."""
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    ticks = "`" * (longest + 1) if longest != 1 else "``"
    if longest >= len("``"):
        # Three are a fence to Discord.
        content, ticks = content.replace("``", "`\u200b`"), "``"
    space = " " if content.startswith("`") or content.endswith("`") or not content.strip() else ""
    return f"{ticks}{space}{content}{space}{ticks}"


def _checked(match: re.Match[str]) -> str:
    """An address that may be no link is code, which is nobody's link: `discord:` opens parts of the client and
    `steam:` starts a program."""
    if match["plain"] is not None:
        return match[0]
    if match["target"] is not None:
        target = _SCHEME.match(_UNESCAPED.sub(r"\1", match["target"]))
        if target is None or may_link(target["address"]):
            return match[0]
        return f"] ({_code_apart(match['target'], match)}"
    address = match["bracketed"] or match["bare"]
    known = may_link(address) if match["bracketed"] is not None else _web(address)
    return match[0] if known else _code_apart(address, match)


def _code_apart(address: str, match: re.Match[str]) -> str:
    """Other code that touches it stays apart."""
    before = " " if match.string[: match.start()].endswith("`") else ""
    after = " " if match.string[match.end() :].startswith("`") else ""
    return f"{before}`{address.replace('`', '')}`{after}"


def _web(address: str) -> bool:
    """Only so far as it goes: what ends the address in running text is not known."""
    return address.lower().startswith(("http://", "https://"))
