"""What Discord's client makes of a message's content, as text: its rules, in the order in which it tries them.

After the grammar that discord.com's client and its documentation describe
(https://support.discord.com/hc/en-us/articles/210298617), which is simple-markdown's with changes.
"""

from __future__ import annotations

import re

__all__ = ["shown_by_discord"]

_BLOCK = re.compile(r"```(?:[a-z0-9_+\-.#]+?\n)?\n*([^\n].*?)\n*```", re.IGNORECASE | re.DOTALL)
# Each with the group that is read again, or that is shown as it is.
_AGAIN, _AS_IT_IS = True, False
_RULES: list[tuple[re.Pattern[str], bool]] = [
    (re.compile(r"\\([^0-9A-Za-z\s])"), _AS_IT_IS),
    (re.compile(r"<([^: >\n]+:/[^ >\n]+)>"), _AS_IT_IS),
    (re.compile(r"(https?://[^\s<]+[^<.,:;\"')\]\s])"), _AS_IT_IS),
    (
        re.compile(
            r"\[((?:\[[^\]]*\]|[^\[\]])*)\]\(<?https?://(?:[^\s()\\]|\\.|\([^\s()]*\))*>?(?:\s+\".*?\")?\)"
        ),
        _AGAIN,
    ),
    (re.compile(r"\*\*((?:\\.|[^\\])+?)\*\*(?!\*)", re.DOTALL), _AGAIN),
    (re.compile(r"__((?:\\.|[^\\])+?)__(?!_)", re.DOTALL), _AGAIN),
    (re.compile(r"_((?:__|\\.|[^\\_])+?)_(?!\w)", re.DOTALL | re.ASCII), _AGAIN),
    (re.compile(r"\*(?=\S)((?:\*\*|\\.|\s+(?:\\.|[^\s*\\]|\*\*)|[^\s*\\])+?)\*(?!\*)", re.DOTALL), _AGAIN),
    (re.compile(r"~~(.+?)~~(?!_)", re.DOTALL), _AGAIN),
    (re.compile(r"\|\|(.+?)\|\|", re.DOTALL), _AGAIN),
    (re.compile(r"(`+)(.*?[^`])\1(?!`)", re.DOTALL), _AS_IT_IS),
]
_PLAIN = re.compile(r"(?:(?!https?://)[0-9A-Za-z])+|.", re.DOTALL)
_LINE = re.compile(r"(?P<quote>> )|(?:#{1,3}|-#) |(?P<item> *)[-*] ")


def shown_by_discord(content: str) -> str:
    out: list[str] = []
    end = 0
    for match in _BLOCK.finditer(re.sub(r"^> (?=.*)", "", content, flags=re.MULTILINE)):
        out += [_lines(match.string[end : match.start()]), match[1]]
        end = match.end()
    whole = re.sub(r"^> (?=.*)", "", content, flags=re.MULTILINE)
    return "".join([*out, _lines(whole[end:])])


def _lines(text: str) -> str:
    """Without what stands for headings, small print and items."""
    return _inline(
        "\n".join(_LINE.sub("", line, count=1) if _LINE.match(line) else line for line in text.split("\n"))
    )


def _inline(text: str) -> str:
    out: list[str] = []
    place = 0
    while place < len(text):
        for pattern, again in _RULES:
            match = pattern.match(text, place)
            if match:
                inside = match[match.lastindex or 0]
                out.append(_inline(inside) if again else inside)
                break
        else:
            match = _PLAIN.match(text, place)
            assert match is not None
            out.append(match[0])
        place = match.end()
    return "".join(out)
