"""What was shown of a growing answer is never taken back, in any chat format."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glmbot.engine.steady_text import SteadyText
from glmbot.models.base import ChatFormat
from glmbot.models.chat_format import TemplateChatFormat
from glmbot.models.chatglm.chat_format import ChatGLMChatFormat
from glmbot.models.chatglm2.chat_format import ChatGLM2ChatFormat, ChatGLM3ChatFormat
from glmbot.models.glm.chat_format import GLMChatFormat

FORMATS = (
    ChatGLMChatFormat,
    ChatGLM2ChatFormat,
    ChatGLM3ChatFormat,
    GLMChatFormat,
    TemplateChatFormat,
)

pieces = st.lists(
    st.sampled_from(
        [
            "[[训练时间]]",
            "[[训练",
            "时间]]",
            "[",
            "]",
            "训",
            "中",
            "文",
            "a",
            " ",
            "\n",
            *",!:;?",
            "，",
            "\ufffd",
        ]
    )
    | st.text(max_size=3),
    max_size=12,
)
formats = st.sampled_from(FORMATS)


def made(kind: Any) -> ChatFormat:
    """Without a tokenizer: the text alone matters."""
    return kind.__new__(kind)


@given(formats, pieces, pieces)
@example(ChatGLMChatFormat, ["a,"], ["中"])
@example(ChatGLM2ChatFormat, ["x[[训练时"], ["间]]"])
def test_what_is_settled_does_not_change_with_what_follows(
    kind: Any, before: list[str], after: list[str]
) -> None:
    chat_format, text = made(kind), "".join(before)
    settled = chat_format.finish_text(text[: chat_format.settled(text)])
    assert chat_format.finish_text(text + "".join(after)).startswith(settled)


@given(formats, pieces, pieces)
@example(ChatGLMChatFormat, ["a,"], ["中"])
@example(ChatGLMChatFormat, ["[[训练"], ["时间]]", "好"])
@example(ChatGLMChatFormat, ["a "], ["b"])
def test_every_text_shown_begins_with_all_earlier_ones(kind: Any, begun: list[str], rest: list[str]) -> None:
    chat_format, raw = made(kind), "".join(begun)
    steady = SteadyText(chat_format, raw)
    shown = chat_format.finish_text(raw)
    for piece in rest:
        raw += piece
        text = steady.grown(raw)
        assert text.startswith(shown)
        shown = text
    assert steady.ended(raw).startswith(shown)
    if not begun:
        assert steady.ended(raw) == chat_format.finish_text(raw), "in the end it is the published processing"


@pytest.mark.parametrize("kind", FORMATS)
def test_little_is_held_back(kind: Any) -> None:
    chat_format = made(kind)
    for text in ("Hello there.", "你好。", "a, b", "中，文"):
        assert SteadyText(chat_format).grown(text) == text
