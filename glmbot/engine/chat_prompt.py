"""Prompts for servers that bring their own template and tokenizer (a hosted service, say): messages.

They are counted in characters: no tokenizer in use needs more than one token for a character of English or Chinese
on average, so what fits by this count fits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from glmbot.content import words_of
from glmbot.engine.base import Conversation, Prepared
from glmbot.engine.fit import Draft, fit

__all__ = ["ChatMessage", "MessagePrompt", "prepare_messages", "without_control_tokens"]

# Templates put about so many tokens around a message.
_AROUND = 8
# What servers may read as control tokens after they have filled in their template: <|user|>, [gMASK], <s>, [INST],
# <<SYS>>, <start_of_turn> and their like, ASCII or with the full-width bar.
_CONTROL = re.compile(
    r"<(?=[|｜])|<(?=/?(?:s|bos|eos|pad|unk|mask|sep|cls|sop|eop|eod|ENC|dBLOCK)>)|<(?=(?:start|end)_of_\w+>)"
    r"|<(?=</?SYS>>)|\[(?=/?(?:INST|SYS|[gs]?MASK|CLS|SEP|PAD|UNK|BOS|EOS|\w*TOOL\w*)\])",
)
_BREAK = "\u200b"

ChatMessage = dict[str, str]
"""`role` and `content`."""


@dataclass(frozen=True, slots=True)
class MessagePrompt(Prepared):
    """Of a `begun` answer the last message is the assistant's, which servers that can go on from it take."""

    messages: Sequence[ChatMessage]
    begun: str


class _Characters:
    """See `glmbot.engine.fit.Measure`."""

    def prompt(self, draft: Draft) -> list[ChatMessage]:
        messages = [_message("system", draft.system)] if draft.system else []
        for each in draft.past:
            messages += [_message("user", words_of(each.asked)), _message("assistant", words_of(each.said))]
        return [*messages, _message("user", draft.question)]

    def size(self, prompt: list[ChatMessage]) -> int:
        return sum(_AROUND + len(message["content"]) for message in prompt)

    def units(self, text: str) -> str:
        return without_control_tokens(text)

    def units_of_begun(self, answer: str) -> str:
        return without_control_tokens(answer)

    def read(self, units: Sequence[str]) -> str:
        return "".join(units)


def prepare_messages(conversation: Conversation, room: int) -> MessagePrompt:
    """See `glmbot.engine.base.Engine.prepare`."""
    fitted = fit(_Characters(), conversation, room)
    begun = "".join(fitted.begun)
    messages = fitted.prompt
    if begun:
        messages = [*messages, ChatMessage(role="assistant", content=begun)]
    return MessagePrompt(
        prompt_tokens=fitted.size,
        room=room,
        turns=fitted.turns,
        dropped=fitted.dropped,
        question_cut=fitted.question_cut,
        beginning=begun.strip(),
        messages=messages,
        begun=begun,
    )


def without_control_tokens(text: str) -> str:
    """A zero-width space keeps apart what a server could take for a control token."""
    return _CONTROL.sub(lambda match: match[0] + _BREAK, text)


def _message(role: str, text: str) -> ChatMessage:
    return ChatMessage(role=role, content=without_control_tokens(text))
