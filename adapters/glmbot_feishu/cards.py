"""Cards of JSON 2.0: the answer in one rich text that streams, the bot's own line, buttons. Pure.

https://open.feishu.cn/document/feishu-cards/card-json-v2-structure
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from glmbot.delivery.outlet import Piece
from glmbot_feishu.render import render

__all__ = ["ANSWER", "answer_of", "card_of", "streams"]

ANSWER = "answer"
"""The element that streams."""
_LONGEST_SUMMARY = 100


def answer_of(piece: Piece) -> str:
    """What the streaming element says: never nothing."""
    return render(piece.text) or ("…" if not piece.notice else "")


def streams(piece: Piece) -> bool:
    """An answer grows as long as it can be stopped. In lists of chats it is said to be written."""
    return any(action.command == "stop" for action in piece.actions)


def card_of(piece: Piece, values: Sequence[Mapping[str, str]], *, bare: bool = False) -> str:
    """values: of the buttons, in the order of the piece's actions. bare: words alone, as plain text."""
    elements: list[dict[str, Any]] = []
    if bare:
        said = "\n\n".join(filter(None, (piece.text, piece.notice))) or "…"
        elements.append({"tag": "div", "text": {"tag": "plain_text", "content": said}})
    else:
        if words := answer_of(piece):
            elements.append({"tag": "markdown", "element_id": ANSWER, "content": words})
        if piece.notice:
            note = {
                "tag": "plain_text",
                "content": piece.notice,
                "text_size": "notation",
                "text_color": "grey",
            }
            elements.append({"tag": "div", "text": note})
    if values and not bare:
        elements.append(
            {
                "tag": "column_set",
                "columns": [_button(*each) for each in zip(piece.actions, values, strict=True)],
            }
        )
    summary = " ".join((piece.text or piece.notice).split())[:_LONGEST_SUMMARY]
    config = {
        "update_multi": True,
        "streaming_mode": streams(piece) and not bare,
        "summary": {"content": summary},
    }
    return json.dumps({"schema": "2.0", "config": config, "body": {"elements": elements}}, ensure_ascii=False)


def _button(action: Any, value: Mapping[str, str]) -> dict[str, Any]:
    button = {
        "tag": "button",
        "text": {"tag": "plain_text", "content": action.label},
        "size": "small",
        "behaviors": [{"type": "callback", "value": dict(value)}],
    }
    return {"tag": "column", "width": "auto", "elements": [button]}
