"""Prompts from a tokenizer's own chat template, token for token as its authors' code makes them.

What people write can never become a control token in them.

The template is rendered twice: with a mark in place of each text, which shows what the template itself writes, and
with the texts, since templates trim and look at them. Control tokens in a text are broken before it sees them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, cast

from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from glmbot.errors import ModelFileError, PromptInvalid
from glmbot.models.base import ChatMessage, ChatTurn, Speaker, well_formed
from glmbot.models.calls.syntax import CallSyntax
from glmbot.models.control_tokens import ControlTokens
from glmbot.models.prompt_encoder import PromptEncoder
from glmbot.models.prompt_parts import Outline, Part
from glmbot.models.template import ChatTemplate, TemplateExceeded, TemplateRefused, Wish
from glmbot.models.template_dialogue import Dialect, Say, learned, wish_for
from glmbot.models.thoughts import CLOSING, OPENING, answer_of
from glmbot.tools import ToolDescription

__all__ = ["TemplateChatFormat"]

_log = logging.getLogger(__name__)

# Private-use characters: no template's logic looks for them.
_MARKER = "\ue0a0{}\ue0a1"
_MARKED = re.compile("\ue0a0([0-9]{1,6})\ue0a1")
_BREAKS = range(0xE0B0, 0xF8FF)
_FALLBACK_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
)
_LONGEST_REASON = 200
# Texts that are longer together are not given to the template: they stand where their marks do.
_LONGEST_RENDERED = 1 << 20
# What templates call the switch: Qwen3, GLM-4.5 and SmolLM3 by the longer name, DeepSeek-V3.1 and Granite by the
# other.
_WORDS_KEPT = 1000
_SWITCHES = ("enable_thinking", "thinking")
# What a template that knows tools reads.
_TOLD_OF = re.compile(r"\btools?\b|metadata")
# How often a template may repeat what was said.
_MOST_REPEATS = 4
# Conversations that are tried when a folder is opened: a question, one in the middle, one after a long talk.
_TRIED_TURNS = (0, 1, 24)
_DECODE = ("decode", "_decode")
_TRIED_TEXTS = ("Hello, world", " 你好\n", "It's 5  o'clock. ")


class TemplateChatFormat:
    """The chat format of a Transformers tokenizer. See `glmbot.models.base.ChatFormat`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, thinks: bool = True) -> None:
        """thinks: False tells a template that knows such a switch that the model is to answer at once.

        Raises ModelFileError when the template can't be rendered within its limits of time and memory.
        """
        self._tokenizer: Any = tokenizer
        self._decoder = _plain_decoder(tokenizer)
        _remember_less(tokenizer)
        encode = _plain_encoder(tokenizer)
        where = f"{tokenizer.name_or_path}: chat_template"
        source = str(
            cast(Any, tokenizer).get_chat_template()
            if tokenizer.chat_template
            else _begun_as_usual(tokenizer)
        )
        named = cast(dict[str, Any], self._tokenizer.special_tokens_map)
        special: dict[str, Any] = {
            name: str(token) for name, token in named.items() if not isinstance(token, list)
        }
        if not thinks:
            special |= dict.fromkeys(_SWITCHES, False)
            if not any(re.search(rf"\b{name}\b", source) for name in _SWITCHES):
                _log.warning("[model] thinking is off, and the model's chat template has no switch for it")
        self.source = "folder" if tokenizer.chat_template else "none"
        """Where the template comes from: the model's folder, or none is there and lines of text serve."""
        self._control = ControlTokens(tokenizer, source)
        self._parts_thoughts = next(self._control.found(CLOSING), None) is not None
        self._written = frozenset(source)
        self._shows_texts = True
        try:
            self._encoder = PromptEncoder(encode, self._control)
            self._template = ChatTemplate(source, special)
            if not self._keeps("user"):
                self._template = ChatTemplate(source, special, parts=True)
                if not self._keeps("user"):
                    raise ModelFileError(f"{where} can't be rendered, or leaves out what is said")
            self.takes_system = self._keeps("system", "user")
            for turns in _TRIED_TURNS:
                self._keeps(*["user", "assistant"] * turns, "user")
            self._before_answer, self._opening = self._answers_begin()
            self._calls = learned(self._template) if _TOLD_OF.search(source) else None
            opens = self._before_answer.rstrip().endswith(OPENING)
            self._thought_end = tuple(encode(f"\n{CLOSING}\n\n")) if opens else ()
        except TemplateExceeded as error:
            raise ModelFileError(f"{where} {error}") from error
        except PromptInvalid as error:
            raise ModelFileError(f"{tokenizer.name_or_path}: {error}") from error
        tags = () if self.call_syntax is None else self.call_syntax.tags
        self._tags = _special_tags(tokenizer, (OPENING, CLOSING, *tags))
        self._try_cutting()

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        messages = [ChatMessage(Speaker.SYSTEM, system)] if system else []
        for turn in turns:
            messages += (
                ChatMessage(Speaker.USER, turn.question),
                ChatMessage(Speaker.ASSISTANT, turn.answer),
            )
        return self.encode_dialogue([*messages, ChatMessage(Speaker.USER, question)], ())

    @property
    def call_syntax(self) -> CallSyntax | None:
        """See `glmbot.models.base.KnowsTools`."""
        return None if self._calls is None else self._calls[1]

    @property
    def special_tags(self) -> Mapping[str, int]:
        """See `glmbot.models.base.KnowsTools`."""
        return {tag: token for token, tag in self._tags.items()}

    def encode_dialogue(self, messages: Sequence[ChatMessage], tools: Sequence[ToolDescription]) -> list[int]:
        """See `glmbot.models.base.KnowsTools`."""
        told = self._told(messages)
        dialect = Dialect() if self._calls is None else self._calls[0]
        texts: list[str] = []

        def mark(text: str) -> str:
            texts.append(well_formed(text))
            return _MARKER.format(len(texts) - 1)

        def wish(say: Say) -> Wish:
            return wish_for(
                told, tools, dialect, say, holds_control=self._holds_control, shaped=self._template.said
            )

        outline = self._outline(wish(mark), len(texts))
        broken, breaks = self._broken(texts)
        following = iter(broken)
        rendered = self._rendered(lambda: wish(lambda _: next(following)), broken)
        if rendered is not None:
            parts = outline.parts_of(rendered, broken)
            if parts is None and self._directs_alike(rendered, outline):
                # It changes texts in ways of its own, and no control token more or less came of it.
                parts = [Part(rendered, said=False)]
            if parts is not None and (ids := self._encoder.encode(parts, breaks)) is not None:
                return ids
        return cast(list[int], self._encoder.encode(outline.filled(broken), breaks))

    def encode_begun(self, answer: str) -> list[int]:
        after = self._encoder.encode_after(self._before_answer, self._opening, well_formed(answer))
        return self.encode_text(answer) if after is None else after

    @property
    def thought_end(self) -> Sequence[int]:
        """See `glmbot.models.base.OpensThoughts`."""
        return self._thought_end

    def vocabulary(self) -> str | None:
        """See `glmbot.models.base.Spells`."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        return None if backend is None else str(backend.to_str())

    def decode(self, tokens: Sequence[int]) -> str:
        if self._tags.keys().isdisjoint(tokens):
            return self._decode(tokens)
        words: list[str] = []
        start = 0
        for place, token in enumerate(tokens):
            if (tag := self._tags.get(token)) is not None:
                words += (self._decode(tokens[start:place]), tag)
                start = place + 1
        return "".join([*words, self._decode(tokens[start:])])

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._decoder(list(tokens))

    @property
    def text_begins(self) -> Sequence[int]:
        """See `glmbot.engine.texts.BeginsTexts`."""
        framed, plain = (
            list[int](self._tokenizer("a", add_special_tokens=framed)["input_ids"])
            for framed in (True, False)
        )
        starts = (at for at in range(len(framed)) if framed[at : at + len(plain)] == plain)
        return framed[: next(starts, 0)]

    def finish_text(self, text: str) -> str:
        return text.strip()

    def settled(self, text: str) -> int:
        return len(text)

    def shown(self, question: str) -> str:
        """The prompt that a first question becomes, control tokens included."""
        return str(self._tokenizer.decode(self.encode_chat("", (), question)))

    def encode_text(self, text: str) -> list[int]:
        return self._encoder.encode_text(well_formed(text))

    def _told(self, messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
        told = list(messages)
        if self._parts_thoughts:
            # A tag that directs the model is broken before the template sees it, which can't part them then.
            told = [
                replace(each, text=answer_of(each.text)) if each.speaker is Speaker.ASSISTANT else each
                for each in told
            ]
        if told[0].speaker is Speaker.SYSTEM and not self.takes_system:
            # Gemma's templates, for one, know no system role: the first question carries it.
            system, first, *rest = told
            return [replace(first, text=f"{system.text}\n\n{first.text}"), *rest]
        return told

    def _holds_control(self, text: str) -> bool:
        return next(self._control.found(text), None) is not None

    def _outline(self, wish: Wish, texts: int) -> Outline:
        """What the template itself writes around so many texts, in whose place are marks. Raises PromptInvalid."""
        try:
            rendered = self._template.outline(wish)
        except (TemplateRefused, TemplateExceeded) as error:
            raise PromptInvalid(f"the model's chat template can't take this conversation: {error}") from error
        pieces = _MARKED.split(rendered)
        numbers = [int(number) for number in pieces[1::2]]
        if len(numbers) > _MOST_REPEATS * texts or max(numbers, default=0) >= texts:
            raise PromptInvalid("the model's chat template repeats what was said too often")
        return Outline(pieces[::2], numbers)

    def _rendered(self, wish: Callable[[], Wish], texts: Sequence[str]) -> str | None:
        """None where the template takes marks and not these texts."""
        if not self._shows_texts or sum(map(len, texts)) > _LONGEST_RENDERED:
            return None
        try:
            return self._template.render(wish())
        except TemplateRefused as error:
            _log.debug("the chat template refuses a text: %s", error)
        except TemplateExceeded as error:
            self._shows_texts = False
            _log.warning("the chat template %s, so it is no longer shown what people say", error)
        return None

    def _broken(self, texts: Sequence[str]) -> tuple[list[str], str]:
        """The texts with a mark in each control token, and the mark, which none of them holds; or without one."""
        cut = [self._control.cut(text) for text in texts]
        if all(len(pieces) < 2 for pieces in cut):
            return list(texts), ""
        held = set(self._written).union(*texts)
        mark = next((chr(code) for code in _BREAKS if chr(code) not in held), "")
        if not mark:
            raise PromptInvalid("the texts hold every character there is")
        return [mark.join(pieces) for pieces in cut], mark

    def _directs_alike(self, rendered: str, outline: Outline) -> bool:
        written = [match.group() for piece in outline.pieces for match in self._control.found(piece)]
        return written == [match.group() for match in self._control.found(rendered)]

    def _keeps(self, *roles: str) -> bool:
        """Whether the template takes such a conversation, and all that is said in it comes through."""
        try:
            rendered = self._template.outline(self._marked(roles))
        except TemplateRefused:
            return False
        return all(_MARKER.format(number) in rendered for number in range(len(roles)))

    def _marked(self, roles: Sequence[str]) -> Wish:
        return Wish(
            [
                {"role": role, "content": self._template.said(_MARKER.format(number))}
                for number, role in enumerate(roles)
            ]
        )

    def _answers_begin(self) -> tuple[str, str]:
        """What stands before an answer that is asked for, from the last control token on; and the white space that
        comes before one in a history besides."""
        try:
            asked = self._outline(self._marked(["user"]), 1).pieces[-1]
        except PromptInvalid:
            return "", ""
        try:
            told = self._outline(self._marked(["user", "assistant", "user"]), 3).pieces
        except PromptInvalid:
            told = ()
        start = max((match.start() for match in self._control.found(asked)), default=0)
        opening = told[1].removeprefix(asked) if len(told) == 4 and told[1].startswith(asked) else ""
        return asked[start:], opening if opening.isspace() else ""

    def _try_cutting(self) -> None:
        """A tokenizer's files may say anything of its control tokens; what it does with them counts."""
        for roles in (["user"], ["user", "assistant", "user"]):
            with suppress(PromptInvalid):
                self._encoder.try_cutting(self._outline(self._marked(roles), len(roles)).filled(_TRIED_TEXTS))


def _special_tags(tokenizer: Any, tags: Sequence[str]) -> dict[int, str]:
    """Around thoughts and calls, where the tokenizer calls the tags special: special tokens are no text, and these
    are."""
    described = cast(dict[int, Any], tokenizer.added_tokens_decoder)
    return {token: str(each) for token, each in described.items() if each.special and str(each) in tags}


def _begun_as_usual(tokenizer: Any) -> str:
    """Lines of roles and texts behind what the tokenizer itself begins a text with."""
    plain = cast(list[int], tokenizer.encode("a", add_special_tokens=False))
    begun = cast(list[int], tokenizer.encode("a"))
    begins = tokenizer.bos_token_id is not None and begun[:1] == [tokenizer.bos_token_id] != plain[:1]
    return ("{{ bos_token }}" if begins else "") + _FALLBACK_TEMPLATE


def _remember_less(tokenizer: Any) -> None:
    """The tokenizers library keeps the pieces of words that it has cut, by default of 10,000 in each thread:
    megabytes for each thread of a bot, which has its own memory for texts that come again."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if (resize := getattr(model, "_resize_cache", None)) is not None:
        resize(_WORDS_KEPT)


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


def _plain_decoder(tokenizer: Any) -> Callable[[list[int]], str]:
    """Ids to text, without control tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    own = any(getattr(type(tokenizer), name) is not getattr(TokenizersBackend, name) for name in _DECODE)
    if backend is not None and not own:
        # What the class around it does for each token takes longer than the decoding.
        return partial(backend.decode, skip_special_tokens=True)
    return partial(tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
