"""Prompts from a tokenizer's own chat template, in which users' text can never become a control token.

The template is rendered with a marker in place of each text; only what the template itself wrote may hold
control tokens. Each text is encoded by itself, as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from glmbot.errors import ModelFileError, PromptInvalid
from glmbot.models.base import ChatTurn, well_formed
from glmbot.models.template import ChatTemplate, TemplateExceeded, TemplateRefused
from glmbot.models.text_cache import TextCache

__all__ = ["TemplateChatFormat"]

# Private-use characters: no template's logic looks for them, and the texts themselves never pass through it.
_MARKER = "\ue0a0{}\ue0a1"
_MARKED = re.compile("\ue0a0([0-9]{1,6})\ue0a1")
_FALLBACK_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
)
_LONGEST_REASON = 200
_SHORTEST_CONTROL = 2
_LIKE_CONTROL = re.compile(r"<[|｜].*[|｜]>|\[/?[A-Z_]+\]", re.DOTALL)
_CACHE_BYTES = 8 << 20
_LARGEST_CACHED = 256 << 10
# How often a template may repeat what was said.
_MOST_REPEATS = 4
# Conversations that are tried when a folder is opened: a question, one in the middle, one after a long talk.
_TRIED_TURNS = (0, 1, 24)


class TemplateChatFormat:
    """The chat format of a Transformers tokenizer. See `glmbot.models.base.ChatFormat`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises ModelFileError when the template can't be rendered within its limits of time and memory."""
        self._tokenizer: Any = tokenizer
        self._encode_ids = _plain_encoder(tokenizer)
        where = f"{tokenizer.name_or_path}: chat_template"
        source = cast(Any, tokenizer).get_chat_template() if tokenizer.chat_template else _FALLBACK_TEMPLATE
        named = cast(dict[str, Any], self._tokenizer.special_tokens_map)
        special = {name: str(token) for name, token in named.items() if not isinstance(token, list)}
        added = cast(dict[str, int], self._tokenizer.get_added_vocab())
        control = {token for token in added if self._is_control(added[token], token, str(source))}
        control |= {token for token in map(str, self._tokenizer.all_special_tokens) if len(token.strip()) > 1}
        self._control_ids = frozenset(int(self._tokenizer.convert_tokens_to_ids(token)) for token in control)
        longest_first = sorted(control, key=lambda token: (-len(token), token))
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        # Every prompt holds the same history again.
        self._texts = TextCache(self._encode_plain, most_bytes=_CACHE_BYTES, largest_bytes=_LARGEST_CACHED)
        try:
            self._template = ChatTemplate(str(source), special)
            if not self._keeps([("user", "x")]):
                self._template = ChatTemplate(str(source), special, parts=True)
            if not self._keeps([("user", "x")]):
                raise ModelFileError(f"{where} can't be rendered, or leaves out what is said")
            self._takes_system = self._keeps([("system", "x"), ("user", "y")])
            for turns in _TRIED_TURNS:
                self._keeps([*[("user", "x"), ("assistant", "y")] * turns, ("user", "z")])
        except TemplateExceeded as error:
            raise ModelFileError(f"{where} {error}") from error

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
        try:
            rendered = self._template.render(messages)
        except (TemplateRefused, TemplateExceeded) as error:
            raise PromptInvalid(f"the model's chat template can't take this conversation: {error}") from error
        pieces = _MARKED.split(rendered)
        marks = [int(piece) for piece in pieces[1::2]]
        if len(marks) > _MOST_REPEATS * len(texts) or max(marks, default=0) >= len(texts):
            raise PromptInvalid("the model's chat template repeats what was said too often")
        tokens: list[int] = []
        for index, piece in enumerate(pieces):
            if index % 2:
                tokens += self.encode_text(texts[int(piece)])
            elif piece:
                tokens += self._encode_ids(piece)
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
        return self._texts.encode(well_formed(text))

    def _encode_plain(self, text: str) -> tuple[int, ...]:
        tokens: list[int] = []
        for piece in _cut_inside(self._control, text):
            tokens += self._encode_ids(piece)
        # Normalisation inside a tokenizer could still build one (full-width letters, say).
        return tuple(token for token in tokens if token not in self._control_ids)

    def _keeps(self, messages: Sequence[tuple[str, str]]) -> bool:
        """Whether the template takes such a conversation, and all that is said in it comes through."""
        marked = [(role, _MARKER.format(number)) for number, (role, _) in enumerate(messages)]
        try:
            rendered = self._template.render(marked)
        except TemplateRefused:
            return False
        return all(mark in rendered for _, mark in marked)

    def _is_control(self, token_id: int, token: str, template: str) -> bool:
        """Words may be added to a vocabulary, too (runs of spaces, tags, names): those people may write. But not
        every token that directs a model is called special by its tokenizer."""
        if len(token.replace("▁", " ").strip()) < _SHORTEST_CONTROL:
            return False
        described = self._tokenizer.added_tokens_decoder.get(token_id)
        if described is None or described.special or _LIKE_CONTROL.fullmatch(token):
            return True
        return token in template and not token.isalnum()


def _plain_encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    """Text to ids, from several threads at once. Raises PromptInvalid for a text that the tokenizer fails on."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # A folder may ask for its prompts to be cut or filled up; setting that anew for each text, as the class
        # around it does, is not safe between threads.
        backend.no_truncation()
        backend.no_padding()

    def encode(text: str) -> list[int]:
        try:
            if backend is not None:
                return cast(list[int], backend.encode(text, add_special_tokens=False).ids)
            return cast(list[int], tokenizer.encode(text, add_special_tokens=False))
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:
            # A panic of the library, over a regular expression that takes too long, is no Exception.
            words = (str(error).splitlines() or [""])[0][:_LONGEST_REASON]
            raise PromptInvalid(f"the model's tokenizer fails on this text: {words}") from error

    return encode


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
