"""What the rest of the system knows of a model's chat format; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from glmbot.content import ToolCall
from glmbot.models.calls.syntax import CallSyntax
from glmbot.tools import ToolDescription

__all__ = [
    "ChatFormat",
    "ChatMessage",
    "ChatTurn",
    "KnowsTools",
    "OpensThoughts",
    "Speaker",
    "Speechless",
    "Spells",
    "Vocabulary",
    "well_formed",
]


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """One past exchange."""

    question: str
    answer: str


class Speaker(StrEnum):
    """The names of Transformers' chat templates."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """Of a dialogue with tools. `calls` are an assistant's; what a tool said is the result of `of`."""

    speaker: Speaker
    text: str = ""
    calls: Sequence[ToolCall] = ()
    of: ToolCall | None = None


class ChatFormat(Protocol):
    """A model's chat template together with its tokenizer."""

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        """The whole prompt as token ids, ending where the answer begins. Users' text is always plain text."""
        ...

    def encode_text(self, text: str) -> list[int]:
        """Plain text alone; never a control token."""
        ...

    def encode_begun(self, answer: str) -> list[int]:
        """The beginning of an answer, to stand right behind `encode_chat` for the model to go on from."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of `tokens`, control tokens left out."""
        ...

    def finish_text(self, text: str) -> str:
        """The published post-processing of an answer."""
        ...

    def settled(self, text: str) -> int:
        """How many of the first characters of a growing answer what follows can't change any more:
        `finish_text(text[:settled(text)])` is the beginning of `finish_text(text + more)` for any `more`."""
        ...


class Speechless:
    """For a model that computes without knowing what the tokens mean. See `ChatFormat`."""

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        raise NotImplementedError

    def encode_text(self, text: str) -> list[int]:
        raise NotImplementedError

    def encode_begun(self, answer: str) -> list[int]:
        raise NotImplementedError

    def decode(self, tokens: Sequence[int]) -> str:
        raise NotImplementedError

    def finish_text(self, text: str) -> str:
        raise NotImplementedError

    def settled(self, text: str) -> int:
        raise NotImplementedError


@runtime_checkable
class OpensThoughts(Protocol):
    """A chat format whose prompts may end within a thought that the model is to think first."""

    @property
    def thought_end(self) -> Sequence[int]:
        """The tokens that end it there, for an answer that goes on; none where nothing was opened."""
        ...


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What tokens stand for. `texts`: the bytes of each that is text, perhaps a part of a character. `control`:
    the others, and what they are called. An id that is in neither is never drawn for a form."""

    texts: Mapping[int, bytes]
    control: Mapping[int, str]


@runtime_checkable
class Spells(Protocol):
    """A chat format that can say what each token stands for, which answers of a given form need."""

    def vocabulary(self) -> Vocabulary | str | None:
        """A string is the tokenizer.json of a fast tokenizer. None: nobody knows. Takes long: a second for 150,000
        tokens."""
        ...


@runtime_checkable
class KnowsTools(Protocol):
    """A chat format whose model may have been trained to call tools."""

    @property
    def call_syntax(self) -> CallSyntax | None:
        """How it writes its calls; None for a model that was not."""
        ...

    @property
    def special_tags(self) -> Mapping[str, int]:
        """What stands around thoughts and calls and is a control token of its own: the token."""
        ...

    def encode_dialogue(self, messages: Sequence[ChatMessage], tools: Sequence[ToolDescription]) -> list[int]:
        """As `ChatFormat.encode_chat`, for those that have a syntax. The last message is a user's or a tool's, and
        each result comes behind its call. Nothing that anybody says, of tools or in them, becomes a control
        token."""
        ...


def well_formed(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which no tokenizer takes."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
