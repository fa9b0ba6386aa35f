"""Prompts for servers that bring their own template and tokenizer (a hosted service, say): messages.

They are counted in characters: no tokenizer in use needs more than one token for a character of English or Chinese
on average, so what fits by this count fits. Tools are counted as they are told in words, which is about what a
template makes of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glmbot.content import ToolCall, parts_of, words_of
from glmbot.engine.base import Conversation, Prepared
from glmbot.engine.exchanges import dialogue_of
from glmbot.engine.fit import Draft, fit
from glmbot.engine.openai_tools import message_of, tool_fields
from glmbot.engine.told_tools import in_words, turns_of
from glmbot.models.base import ChatMessage, ChatTurn, Speaker
from glmbot.tools import NO_TOOLS, Offer

__all__ = ["MessageFields", "MessagePrompt", "prepare_messages", "without_control_tokens"]

# Templates put about so many tokens around a message.
_AROUND = 8
# What servers may read as control tokens after they have filled in their template: <|user|>, [gMASK], <s>, [INST],
# <<SYS>>, <start_of_turn> and their like, ASCII or with the full-width bar.
_CONTROL = re.compile(
    r"<(?=[|｜])|<(?=/?(?:s|bos|eos|pad|unk|mask|sep|cls|sop|eop|eod|ENC|dBLOCK)>)|<(?=(?:start|end)_of_\w+>)"
    r"|<(?=</?SYS>>)|\[(?=/?(?:INST|SYS|[gs]?MASK|CLS|SEP|PAD|UNK|BOS|EOS|\w*TOOL\w*)\])",
)
_BREAK = "\u200b"

MessageFields = dict[str, Any]
"""`role` and `content`, and `tool_calls` or a `tool_call_id` as the interface has them."""


@dataclass(frozen=True, slots=True)
class MessagePrompt(Prepared):
    """Of a `begun` answer the last message is the assistant's, which servers that can go on from it take.

    `tools` are the fields beside the messages that say what may be called, and `offer` is the same for us.
    `in_words`: the messages for whoever takes no tools; the same ones where none are offered and none were called.
    """

    messages: Sequence[MessageFields]
    in_words: Sequence[MessageFields]
    begun: str
    tools: Mapping[str, Any]
    offer: Offer = NO_TOOLS

    @property
    def has_tools(self) -> bool:
        return self.in_words is not self.messages


@dataclass(frozen=True, slots=True)
class _Messages:
    """Of one conversation, in both ways."""

    sent: list[MessageFields]
    in_words: list[MessageFields]


class _Characters:
    """See `glmbot.engine.fit.Measure`."""

    def __init__(self, *, tools: bool) -> None:
        self._tools = tools

    def prompt(self, draft: Draft) -> _Messages:
        said = [*(each.said for each in draft.past), draft.said]
        if not self._tools or (not draft.tools and not any(parts_of(each, ToolCall) for each in said)):
            turns = [ChatTurn(words_of(each.asked), words_of(each.said)) for each in draft.past]
            messages = _in_turn(draft.system, turns, draft.question)
            return _Messages(messages, messages)
        told = dialogue_of(draft.past, draft.question, draft.said)
        system = [ChatMessage(Speaker.SYSTEM, draft.system)] if draft.system else []
        return _Messages(
            [_safe(message_of(message)) for message in (*system, *told)],
            _in_turn(in_words(draft.system, draft.tools), *turns_of(told)),
        )

    def size(self, prompt: _Messages) -> int:
        more = max(0, len(prompt.sent) - len(prompt.in_words))
        return _AROUND * more + sum(_AROUND + len(message["content"]) for message in prompt.in_words)

    def units(self, text: str) -> str:
        return without_control_tokens(text)

    def units_of_begun(self, answer: str) -> str:
        return without_control_tokens(answer)

    def read(self, units: Sequence[str]) -> str:
        return "".join(units)


def prepare_messages(conversation: Conversation, room: int, *, tools: bool = True) -> MessagePrompt:
    """See `glmbot.engine.base.Engine.prepare`. tools: whether calls of before are told, too."""
    fitted = fit(_Characters(tools=tools), conversation, room)
    begun = "".join(fitted.begun)
    prompt = fitted.prompt
    offer = NO_TOOLS if fitted.tools_dropped else conversation.offer
    last = [MessageFields(role="assistant", content=begun)] if begun else []
    messages = [*prompt.sent, *last]
    return MessagePrompt(
        prompt_tokens=fitted.size,
        room=room,
        turns=fitted.turns,
        dropped=fitted.dropped,
        question_cut=fitted.question_cut,
        beginning=begun.strip(),
        messages=messages,
        in_words=messages if prompt.in_words is prompt.sent else [*prompt.in_words, *last],
        begun=begun,
        # Whoever wrote a tool's description is no more trusted than a person.
        tools=_safe(tool_fields(offer)),
        offer=offer,
        tool_tokens=fitted.tool_tokens,
        tools_dropped=fitted.tools_dropped,
    )


def without_control_tokens(text: str) -> str:
    """A zero-width space keeps apart what a server could take for a control token."""
    return _CONTROL.sub(lambda match: match[0] + _BREAK, text)


def _in_turn(system: str, turns: Sequence[ChatTurn], question: str) -> list[MessageFields]:
    messages = [_message("system", system)] if system else []
    for turn in turns:
        messages += [_message("user", turn.question), _message("assistant", turn.answer)]
    return [*messages, _message("user", question)]


def _message(role: str, text: str) -> MessageFields:
    return MessageFields(role=role, content=without_control_tokens(text))


def _safe(value: Any) -> Any:
    """The same with no control token in any text of it."""
    return json.loads(without_control_tokens(json.dumps(value, ensure_ascii=False)))
