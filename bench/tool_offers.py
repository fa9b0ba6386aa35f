"""Twenty tools such as a bot really has: the schemas of the tests, and plain ones of other names."""

from __future__ import annotations

from typing import Any

from form_schemas import SCHEMAS
from glmbot.tools import Choice, Offer, ToolDescription

__all__ = ["offer"]

_NAMES = {"天气查询": "weather_zh"}
_MORE: dict[str, tuple[str, str]] = {
    "calculate": ("expression", "Compute an expression of numbers, with the usual operators and functions."),
    "now": ("zone", "Tell the time and the date in a time zone, such as Europe/Oslo or Asia/Shanghai."),
    "read_page": ("address", "Read a page of the web and return its text, without menus and advertisements."),
    "translate": ("text", "Translate a text into the language that the conversation is held in."),
    "note": ("text", "Keep a note for the person who asks; notes are shown to nobody else."),
    "poll": ("question", "Ask all members of this chat a question, and count their answers."),
    "define": ("word", "Look a word up in the dictionary: what it means and where it comes from."),
    "news": ("topic", "List the headlines of the last day on one topic, newest first."),
}


def _tools() -> list[ToolDescription]:
    # One whose parameters are a reference has no place among tools.
    real = {name: schema for name, schema in SCHEMAS.items() if schema.get("type") == "object"}
    tools = [
        ToolDescription(_NAMES.get(name, name), f"Use this for anything about {name}.", schema)
        for name, schema in real.items()
    ]
    tools += [ToolDescription(name, about, _one(key)) for name, (key, about) in _MORE.items()]
    tools.append(ToolDescription("forget", "Forget all notes of the person who asks.", _one("confirmed")))
    return tools


def _one(key: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key: {"type": "string", "maxLength": 60}},
        "required": [key],
        "additionalProperties": False,
    }


def offer(choice: Choice, edition: int = 0) -> Offer:
    """edition: those of another one have other words, which no engine has read before."""
    first, *others = _tools()
    first = ToolDescription(first.name, f"{first.description} Edition {edition}.", first.parameters)
    return Offer([first, *others], choice, parallel=False)
