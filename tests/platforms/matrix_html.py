"""What a message of a bot may say in Matrix: https://spec.matrix.org/v1.15/client-server-api/#mroommessage-msgtypes"""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

__all__ = ["faults_of"]


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ELEMENTS = _names(
    "del h1 h2 h3 h4 h5 h6 blockquote p a ul ol sup sub li b i u strong em s code hr br div table thead tbody tr th td"
    " caption pre span img details summary"
)
_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "span": _names("data-mx-bg-color data-mx-color data-mx-spoiler data-mx-maths"),
    "a": _names("target href"),
    "img": _names("width height alt title src"),
    "ol": _names("start"),
    "code": _names("class"),
    "div": _names("data-mx-maths"),
}
_SCHEMES = ("https:", "http:", "ftp:", "mailto:", "magnet:")
_DEEPEST = 100
_VOID = _names("br hr img")


class _Html(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _ELEMENTS:
            self.faults.append(f"<{tag}> is not listed")
        for name, value in attrs:
            if name not in _ATTRIBUTES.get(tag, frozenset()):
                self.faults.append(f"{name} of <{tag}> is not listed")
            if name == "href" and not (value or "").startswith(_SCHEMES):
                self.faults.append(f"a link to {value}")
            if name == "class" and not (value or "").startswith("language-"):
                self.faults.append(f"a class {value}")
        if tag not in _VOID:
            self.open.append(tag)
        if len(self.open) > _DEEPEST:
            self.faults.append("nested too deeply")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass


def faults_of(content: dict[str, Any]) -> list[str]:
    """What is said of m.room.message that is no file."""
    faults = [] if isinstance(content.get("body"), str) else ["no body"]
    if "m.mentions" not in content or content["m.mentions"].get("room"):
        faults.append("it is not said whom it mentions, or all are")
    if content.get("msgtype") not in ("m.notice", "m.file"):
        faults.append(f"a bot speaks in {content.get('msgtype')}")
    html = _Html()
    html.feed(content.get("formatted_body", ""))
    return faults + html.faults
