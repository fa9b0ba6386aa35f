"""Prompts from a tokenizer's own chat template, in which users' text can never become a control token.

The template is rendered with a marker in place of each text; only what the template itself wrote may hold
control tokens. Each text is encoded by itself, as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from glmbot.errors import ModelFileError
from glmbot.models.base import ChatTurn

__all__ = ["TemplateChatFormat"]

# Private-use characters: no template's logic looks for them, and the texts themselves never pass through it.
_MARKER = "\ue0a0{}\ue0a1"
_MARKED = re.compile("\ue0a0([0-9]+)\ue0a1")
_FALLBACK_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
)


class TemplateChatFormat:
    """The chat format of a Transformers tokenizer. See `glmbot.models.base.ChatFormat`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises ModelFileError when the template can't be rendered."""
        self._tokenizer: Any = tokenizer
        self._template: str | None = None if tokenizer.chat_template else _FALLBACK_TEMPLATE
        added = cast(dict[str, int], self._tokenizer.get_added_vocab())
        control = {*added, *(str(token) for token in self._tokenizer.all_special_tokens)}
        control = {token for token in control if len(token.strip()) > 1}
        self._control_ids = frozenset(int(self._tokenizer.convert_tokens_to_ids(token)) for token in control)
        longest_first = sorted(control, key=lambda token: (-len(token), token))
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        # Every prompt holds the same history again.
        self._encode = lru_cache(maxsize=512)(self._encode_plain)
        self._takes_system = self._render([("system", "x"), ("user", "y")]) is not None
        if self._render([("user", "x")]) is None:
            raise ModelFileError(f"{tokenizer.name_or_path}: the chat template can't be rendered")

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        messages: list[tuple[str, str]] = []
        texts: list[str] = []

        def add(role: str, text: str) -> None:
            messages.append((role, _MARKER.format(len(texts))))
            texts.append(text)

        if system and self._takes_system:
            add("system", system)
        for turn in turns:
            add("user", turn.question)
            add("assistant", turn.answer)
        if system and not self._takes_system:
            # Gemma's templates, for one, know no system role: the first question carries it.
            first = texts[0] if texts else question
            if texts:
                texts[0] = f"{system}\n\n{first}"
            else:
                question = f"{system}\n\n{first}"
        add("user", question)
        rendered = self._render(messages)
        if rendered is None:
            raise ValueError("the chat template refused this conversation")
        tokens: list[int] = []
        for index, piece in enumerate(_MARKED.split(rendered)):
            if index % 2:
                tokens += self._encode(texts[int(piece)])
            elif piece:
                tokens += cast(list[int], self._tokenizer.encode(piece, add_special_tokens=False))
        return tokens

    def encode_begun(self, answer: str) -> list[int]:
        return self.encode_text(answer)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(
            self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    def finish_text(self, text: str) -> str:
        return text.strip()

    def settled(self, text: str) -> int:
        return len(text)

    def encode_text(self, text: str) -> list[int]:
        return list(self._encode(text))

    def _encode_plain(self, text: str) -> tuple[int, ...]:
        tokens: list[int] = []
        for piece in _cut_inside(self._control, text):
            tokens += cast(list[int], self._tokenizer.encode(piece, add_special_tokens=False))
        # Normalisation inside a tokenizer could still build one (full-width letters, say).
        return tuple(token for token in tokens if token not in self._control_ids)

    def _render(self, messages: Sequence[tuple[str, str]]) -> str | None:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [{"role": role, "content": text} for role, text in messages],
                    chat_template=self._template,
                    add_generation_prompt=True,
                    tokenize=False,
                )
            )
        except (TemplateError, ValueError, TypeError, KeyError):
            return None


def _cut_inside(control: re.Pattern[str], text: str) -> list[str]:
    """Cut `text` after the first character of each control token in it, so that no piece holds one."""
    pieces: list[str] = []
    start = 0
    place = 0
    while (match := control.search(text, place)) is not None:
        pieces.append(text[start : match.start() + 1])
        start = place = match.start() + 1
    pieces.append(text[start:])
    return [piece for piece in pieces if piece]
