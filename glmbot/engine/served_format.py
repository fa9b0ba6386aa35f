"""The chat format of a server that brings its own template and tokenizer (a hosted service, say).

Here a token is a character: no tokenizer in use needs more than one for a character of English or Chinese on
average, so what fits by this count fits. Roles stand between the characters as numbers that no character has, so
no text can become a role, and `read_messages` gets the messages back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from glmbot.models.base import ChatTurn

__all__ = ["ServedChatFormat", "read_messages"]

_ROLES = {-1: "system", -2: "user", -3: "assistant"}
_NUMBERS = {role: number for number, role in _ROLES.items()}
# Templates put about so many tokens around a message.
_AROUND = (-4,) * 7
# What servers may read as control tokens after they have filled in their template: <|user|>, [gMASK], <s>, [INST],
# <<SYS>>, <start_of_turn> and their like, ASCII or with the full-width bar.
_CONTROL = re.compile(
    r"<(?=[|｜])|<(?=/?(?:s|bos|eos|pad|unk|mask|sep|cls|sop|eop|eod|ENC|dBLOCK)>)|<(?=(?:start|end)_of_\w+>)"
    r"|<(?=</?SYS>>)|\[(?=/?(?:INST|SYS|[gs]?MASK|CLS|SEP|PAD|UNK|BOS|EOS|\w*TOOL\w*)\])",
)
_BREAK = "\u200b"


class ServedChatFormat:
    """See `glmbot.models.base.ChatFormat`."""

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        tokens = self._message("system", system) if system else []
        for turn in turns:
            tokens += self._message("user", turn.question) + self._message("assistant", turn.answer)
        return tokens + self._message("user", question)

    def encode_text(self, text: str) -> list[int]:
        """A zero-width space keeps apart what a server could take for a control token."""
        return [ord(character) for character in _CONTROL.sub(lambda match: match[0] + _BREAK, text)]

    def encode_begun(self, answer: str) -> list[int]:
        return self.encode_text(answer)

    def decode(self, tokens: Sequence[int]) -> str:
        return _characters(tokens)

    def finish_text(self, text: str) -> str:
        return text.strip()

    def settled(self, text: str) -> int:
        return len(text)

    def _message(self, role: str, text: str) -> list[int]:
        return [_NUMBERS[role], *_AROUND, *self.encode_text(text)]


def read_messages(tokens: Sequence[int], begun: int = 0) -> list[dict[str, str]]:
    """The messages that `ServedChatFormat` made into `tokens`; the last `begun` are the beginning of the
    answer, which servers that can go on from it take as a last message of the assistant."""
    prompt = tokens[: len(tokens) - begun]
    starts = [index for index, token in enumerate(prompt) if token in _ROLES]
    messages = [
        {"role": _ROLES[prompt[start]], "content": _characters(prompt[start:end])}
        for start, end in zip(starts, [*starts[1:], len(prompt)], strict=True)
    ]
    if begun:
        messages.append({"role": "assistant", "content": _characters(tokens[len(prompt) :])})
    return messages


def _characters(tokens: Sequence[int]) -> str:
    return "".join(chr(token) for token in tokens if token >= 0)
