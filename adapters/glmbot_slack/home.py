"""The app's tab Home, which each person sees for themselves: what /help says.

https://docs.slack.dev/surfaces/app-home, https://docs.slack.dev/reference/methods/views.publish
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glmbot.messages import CommandInfo

__all__ = ["home_of"]

# https://docs.slack.dev/reference/block-kit/blocks/header-block, .../section-block; a view has 100 blocks.
_LONGEST_TITLE, _LONGEST_TEXT, _MOST_LINES = 150, 3000, 98


def home_of(title: str, commands: Sequence[CommandInfo]) -> Mapping[str, Any]:
    lines = [f"/{each.name} {each.argument}".rstrip() + f" – {each.description}" for each in commands]
    header = {"type": "header", "text": {"type": "plain_text", "text": title[:_LONGEST_TITLE]}}
    sections = [
        {"type": "section", "text": {"type": "plain_text", "text": line[:_LONGEST_TEXT], "emoji": False}}
        for line in lines[:_MOST_LINES]
    ]
    return {"type": "home", "blocks": [header, *sections]}
