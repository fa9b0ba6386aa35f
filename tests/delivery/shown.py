"""What a reader sees of a Markdown answer on each platform, as plain text."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from html.parser import HTMLParser

from delivery.discord_client import shown_by_discord
from glmbot.messages import Reply, ReplyState
from glmbot_console.render import printable
from glmbot_discord.delivery import ChannelOutlet
from glmbot_discord.render import render as to_discord
from glmbot_telegram.delivery import TelegramOutlet
from glmbot_telegram.render import render as to_telegram
from glmbot_web.render import to_html

__all__ = ["SHOWN", "cut_for", "is_within", "letters"]


class _Text(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("start", "value"):
                self.text += f" {value} "


def cut_for(outlet: type[TelegramOutlet | ChannelOutlet], markdown: str) -> list[str]:
    """The pieces that one answer makes there."""
    return [piece.text for piece in object.__new__(outlet).cut(Reply(markdown, ReplyState.FINAL))]


SHOWN: dict[str, Callable[[str], str]] = {
    "telegram": lambda markdown: to_telegram(markdown)[0],
    "discord": lambda markdown: shown_by_discord(to_discord(markdown)),
    "page": lambda markdown: _Text(to_html(markdown)).text,
    "terminal": printable,
}


def letters(text: str) -> str:
    """What words are made of, however it is drawn: a formula's 𝑥 is an x."""
    return "".join(char for char in unicodedata.normalize("NFKC", text) if char.isalnum())


def is_within(words: str, shown: str) -> bool:
    """Whether all of it stands there, in its order."""
    rest = iter(shown)
    return all(char in rest for char in words)
