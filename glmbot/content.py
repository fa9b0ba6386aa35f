"""What is said: a question and an answer are sequences of parts, which are text, or more than text.

    asked = (Text("What is on it?"), Media(MediaKind.IMAGE, "image/png", digest, 20_481, "board.png"))
    said = (Thought("Chalk…"), ToolCall("1", "look", '{"at": "board"}'), ToolResult("1", "2 + 2"), Text("A sum."))

Parts come from anybody: from platforms, models, tools and stores. Each has bounds, and raises ValueError with the
name of what is wrong; words are made valid Unicode, which JSON can break. None holds bytes: those of media are in
the blob store, by their digest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, cast

__all__ = [
    "LONGEST_TEXT",
    "MOST_PARTS",
    "Content",
    "Media",
    "MediaKind",
    "Part",
    "Text",
    "Thought",
    "ToolCall",
    "ToolResult",
    "all_words_of",
    "checked",
    "is_digest",
    "is_media_type",
    "length_of",
    "of_words",
    "parts_of",
    "thought_of",
    "words_of",
]

LONGEST_TEXT = 2**24
"""Characters of one part: more than any interface takes, and than a model reads or says."""
MOST_PARTS = 256
"""Of one question or answer."""

# Bytes of UTF-8.
_LONGEST_NAME, _LONGEST_ID = 255, 128
_LARGEST_SIZE = 2**53 - 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
# https://www.rfc-editor.org/rfc/rfc6838#section-4.2, in small letters and without parameters.
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")
_TOOL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class MediaKind(StrEnum):
    IMAGE = "image"
    VOICE = "voice"
    """Said by a person into the microphone, to be heard as words."""
    AUDIO = "audio"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Text:
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _words("text", self.text))


@dataclass(frozen=True, slots=True)
class Thought:
    """A model's reasoning: shown apart, and given back to no model that does not want it."""

    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _words("thought", self.text))


@dataclass(frozen=True, slots=True)
class Media:
    """`digest` is the SHA-256 of the bytes, in small hexadecimal letters, and `size` how many they are. `name`, of
    the file, is without folders, "" where it has none."""

    kind: MediaKind
    media_type: str
    digest: str
    size: int
    name: str = ""

    def __post_init__(self) -> None:
        if type(self.kind) is not MediaKind:
            raise ValueError(f"kind is one of {', '.join(MediaKind)}")
        if not is_media_type(self.media_type):
            raise ValueError("media_type is a type such as image/png, in small letters")
        if not is_digest(self.digest):
            raise ValueError("digest is a SHA-256 in 64 small hexadecimal digits")
        if type(self.size) is not int or not 0 <= self.size <= _LARGEST_SIZE:
            raise ValueError("size is a whole number of bytes, of at most 53 bits")
        _check_name("name", self.name, _LONGEST_NAME)
        if "/" in self.name or "\\" in self.name or self.name in (".", ".."):
            raise ValueError("name is that of a file, without folders")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model wants done. `id` is found again in its result. `arguments`: a JSON object as it was written."""

    id: str
    name: str
    arguments: str = "{}"

    def __post_init__(self) -> None:
        _check_id("id", self.id)
        if not isinstance(cast(object, self.name), str) or not _TOOL.fullmatch(self.name):
            raise ValueError("name is 1 to 64 letters, digits, _ and -")
        object.__setattr__(self, "arguments", _words("arguments", self.arguments))
        if not _is_object(self.arguments):
            raise ValueError("arguments are one JSON object")


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of the call `id`. Untrusted text, whoever wrote the tool. `failed`: the text says why."""

    id: str
    text: str
    failed: bool = False

    def __post_init__(self) -> None:
        _check_id("id", self.id)
        object.__setattr__(self, "text", _words("text", self.text))
        if type(self.failed) is not bool:
            raise ValueError("failed is true or false")


Part = Text | Media | Thought | ToolCall | ToolResult
Content = Sequence[Part]
"""All of a question, or all of an answer, in order."""

_P = TypeVar("_P", Text, Media, Thought, ToolCall, ToolResult)


def checked(content: Iterable[Part]) -> tuple[Part, ...]:
    """Raises ValueError for too many parts, for what is none, and for a result without its call before it."""
    found = tuple(content)
    if len(found) > MOST_PARTS:
        raise ValueError(f"there are {len(found)} parts, and at most {MOST_PARTS} are kept")
    called: set[str] = set()
    for part in found:
        match part:
            case ToolCall():
                if part.id in called:
                    raise ValueError("two calls have the same id")
                called.add(part.id)
            case ToolResult():
                if part.id not in called:
                    raise ValueError("a result has no call before it")
            case Text() | Thought() | Media():
                pass
            case _:
                raise ValueError(
                    f"a part is text, media, a thought, a call or a result, not {type(part).__name__}"
                )
    return found


def of_words(text: str, thought: str = "") -> tuple[Part, ...]:
    """What is nothing but words, with what was thought before them."""
    return (*((Thought(thought),) if thought else ()), *((Text(text),) if text else ()))


def words_of(content: Content) -> str:
    """What is said in words; nothing of what is thought, called or attached."""
    return "\n\n".join(part.text for part in parts_of(content, Text))


def all_words_of(content: Content) -> str:
    """Whatever can be read in it, for who has to look at all of it."""
    found: list[str] = []
    for part in content:
        match part:
            case Text() | Thought() | ToolResult():
                found.append(part.text)
            case ToolCall():
                # Escaped they would not be found.
                found += [part.name, json.dumps(json.loads(part.arguments), ensure_ascii=False)]
            case Media():
                found.append(part.name)
    return "\n\n".join(found)


def length_of(content: Content) -> int:
    """Characters that a model may be given to read of it."""
    length = 0
    for part in content:
        match part:
            case Text() | ToolResult():
                length += len(part.text)
            case ToolCall():
                length += len(part.name) + len(part.arguments)
            case Thought() | Media():
                pass
    return length


def thought_of(content: Content) -> str:
    return "\n\n".join(part.text for part in parts_of(content, Thought))


def parts_of(content: Content, kind: type[_P]) -> Sequence[_P]:
    return [part for part in content if isinstance(part, kind)]


def is_digest(given: object) -> bool:
    """Whether this is a SHA-256 as blobs are named by it."""
    return isinstance(given, str) and _DIGEST.fullmatch(given) is not None


def is_media_type(given: object) -> bool:
    return isinstance(given, str) and _MEDIA_TYPE.fullmatch(given) is not None


def _words(name: str, given: object) -> str:
    """The types say so; but what comes from outside is not checked by types."""
    if not isinstance(given, str):
        raise ValueError(f"{name} must be text, not {type(given).__name__}")
    if len(given) > LONGEST_TEXT:
        raise ValueError(f"{name} has {len(given)} characters, and at most {LONGEST_TEXT} are kept")
    try:
        given.encode()
    except UnicodeEncodeError:
        return given.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return given


def _check_name(name: str, given: object, longest: int) -> None:
    """Of what is compared and passed on, and so can't be mended."""
    if not isinstance(given, str):
        raise ValueError(f"{name} must be text, not {type(given).__name__}")
    try:
        size = len(given.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{name} is valid Unicode, and half a surrogate pair is not") from None
    if size > longest:
        raise ValueError(f"{name} has {size} bytes, and at most {longest} are kept")
    if _CONTROL.search(given):
        raise ValueError(f"{name} holds a control character")


def _check_id(name: str, given: object) -> None:
    _check_name(name, given, _LONGEST_ID)
    if not given:
        raise ValueError(f"{name} can't be empty")


def _is_object(written: str) -> bool:
    try:
        return isinstance(cast(object, json.loads(written)), dict)
    except (ValueError, RecursionError):
        return False
