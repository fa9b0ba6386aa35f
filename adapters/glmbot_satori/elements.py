"""The contents of Satori's messages: text with elements in it, like HTML and as lenient.

https://satori.js.org/en-US/protocol/message.html and https://satori.js.org/en-US/protocol/elements.html. Reading
is linear, and what is no element is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape

__all__ = ["Content", "escaped", "read_content"]

_LONGEST = 200_000
_DEEPEST = 50
_MOST_ELEMENTS = 5000
# Possessive: what does not match is not tried in other ways.
_TAG = re.compile(
    r"<(?P<close>/?)(?P<name>[A-Za-z][\w:.-]{0,63})(?P<rest>(?:[^<>\"']++|\"[^\"]*+\"|'[^']*+')*+)>"
)
_ATTRIBUTE = re.compile(r"(?P<key>[A-Za-z_][\w:.-]{0,63})(?:\s*=\s*(?:\"(?P<a>[^\"]*+)\"|'(?P<b>[^']*+)'))?")
_LONGEST_VALUE = 4096

# Of https://satori.js.org/en-US/protocol/elements.html, under the names that other platforms have for it.
_MEDIA = {
    "img": "photo",
    "image": "photo",
    "audio": "voice",
    "video": "video",
    "file": "document",
    "emoji": "sticker",
    "face": "sticker",
}
_LINES = frozenset({"p", "message"})


@dataclass(slots=True)
class Content:
    """text: what is said, in which the bot is mentioned at those indices. quote: the id of the message that is
    replied to, quoted: its words where they come along. forwarded: the words of other messages, as lines of
    "name: words".
    """

    text: str = ""
    mentions: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    media: str = ""
    quote: str = ""
    quoted: str = ""
    forwarded: str = ""


def escaped(text: str) -> str:
    """Text in which nothing is an element, also within an attribute."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def read_content(content: str, self_id: str) -> Content:
    reading = _Reading(self_id)
    for text, name, attributes, close, empty in _tokens(_without_comments(content[:_LONGEST])):
        if text:
            reading.text(unescape(text))
        elif close:
            reading.close(name)
        else:
            reading.open(name, attributes)
            if empty:
                reading.close(name)
    return reading.end()


def _without_comments(content: str) -> str:
    """One that does not end is text."""
    out: list[str] = []
    end = 0
    while (begin := content.find("<!--", end)) >= 0 and (close := content.find("-->", begin + 4)) >= 0:
        out.append(content[end:begin])
        end = close + 3
    return "".join([*out, content[end:]])


def _tokens(content: str) -> Iterator[tuple[str, str, Mapping[str, str], bool, bool]]:
    end = 0
    for number, match in enumerate(_TAG.finditer(content)):
        if match.start() > end:
            yield content[end : match.start()], "", {}, False, False
        end = match.end()
        empty = match["rest"].rstrip().endswith("/")
        yield "", match["name"].lower(), _attributes(match["rest"]), bool(match["close"]), empty
        if number >= _MOST_ELEMENTS:
            return
    if end < len(content):
        yield content[end:], "", {}, False, False


def _attributes(rest: str) -> Mapping[str, str]:
    return {
        match["key"].lower(): unescape((match["a"] or match["b"] or "")[:_LONGEST_VALUE])
        for match in _ATTRIBUTE.finditer(rest[:_LONGEST])
    }


class _Reading:
    """Where the words go: into what is said, into the quotation, or into what was forwarded."""

    def __init__(self, self_id: str) -> None:
        self._self_id = self_id
        self._open: list[str] = []
        self._links: list[tuple[int, str]] = []
        self._said: list[str] = []
        self._length = 0
        self._quoted: list[str] = []
        self._forwarded: list[str] = []
        self._content = Content()

    def text(self, text: str) -> None:
        if "author" in self._open:
            return
        if "quote" in self._open:
            self._quoted.append(text)
        elif "forward" in self._open:
            self._forwarded.append(text)
        else:
            self._said.append(text)
            self._length += len(text)

    def open(self, name: str, attributes: Mapping[str, str]) -> None:
        outside = not {"quote", "forward"} & {*self._open}
        if len(self._open) < _DEEPEST:
            forward = name == "message" and ("forward" in attributes or "forward" in self._open)
            self._open.append("forward" if forward else name)
        match name:
            case "at":
                self._mention(attributes, outside=outside)
            case "sharp":
                self.text(f"#{attributes.get('name') or attributes.get('id', '')}")
            case "br":
                self.text("\n")
            case "quote" if outside:
                self._content.quote = self._content.quote or attributes.get("id", "")
            case "author" if "forward" in self._open:
                named = attributes.get("name") or attributes.get("id", "")
                self._forwarded.append(f"\n{named}: ")
            case "a":
                self._links.append((len(self._said), attributes.get("href", "")))
            case _ if name in _MEDIA and outside:
                self._content.media = self._content.media or _MEDIA[name]
            case _ if name in _LINES:
                self._line()
            case _:
                pass

    def close(self, name: str) -> None:
        kind = next((each for each in (name, "forward") if each in self._open), "")
        if not kind or (kind == "forward" and name != "message"):
            return
        while self._open.pop() != kind:
            pass
        if name == "a" and self._links:
            begin, href = self._links.pop()
            words = "".join(self._said[begin:])
            if href and href != words:
                self.text(f" ({href})" if words else href)
        elif name in _LINES:
            self._line()

    def end(self) -> Content:
        content = self._content
        content.text = "".join(self._said)
        content.quoted = "".join(self._quoted).strip()
        content.forwarded = "".join(self._forwarded).strip()
        return content

    def _line(self) -> None:
        if self._length and not self._said[-1].endswith("\n"):
            self.text("\n")

    def _mention(self, attributes: Mapping[str, str], *, outside: bool) -> None:
        """Who is mentioned with everybody (type, role) is not meant."""
        if attributes.get("type") or attributes.get("role"):
            self.text(f"@{attributes.get('type') or attributes.get('role')}")
            return
        words = f"@{attributes.get('name') or attributes.get('id', '')}"
        if outside and attributes.get("id") == self._self_id:
            self._content.mentions.append((self._length, self._length + len(words)))
        self.text(words)
