"""What a store keeps and gives back: turns, answers, conversations, claims, files. Values without behaviour."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from glmbot.content import is_digest, is_media_type
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message, Unfinished

__all__ = [
    "Backlog",
    "Blob",
    "Claim",
    "DeadLetter",
    "ExportedConversation",
    "StoredAnswer",
    "StoredBlob",
    "StoredConversation",
    "Turn",
    "whole_conversations",
]

_LONGEST_NAME = 4096


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange, stored whole or not at all. `id` rises within its conversation; `at` is Unix time.

    Turns form a tree: `parent` is the turn that this one follows, 0 at the beginning. A conversation's head is the
    turn that the next one follows. `ref` is the platform's id of the question's message. `thought` is what the
    model thought before its answer. `parts` is the JSON of all that was asked and said, where that is more than
    these words: see `glmbot.store.content_json`.
    """

    id: int
    user: UserKey
    question: str
    answer: str
    at: float
    parent: int = 0
    ref: str = ""
    thought: str = ""
    parts: str = ""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The end of an answer that was recorded but perhaps not shown yet: what a restart shows again."""

    text: str
    state: str
    notice: str
    finish_reason: str = ""
    thought: str = ""


@dataclass(frozen=True, slots=True)
class ExportedConversation:
    conversation: ConversationKey
    turns: Sequence[Turn]


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """All turns of all branches, by id, for a backup."""

    conversation: ConversationKey
    turns: Sequence[Turn]
    head: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Who answers a conversation: `owner`. When that is this store's own, `open` are the messages that are to be
    answered, in the order of arrival; with none the claim has been given up again."""

    owner: str
    open: Sequence[Unfinished] = ()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was set aside after its last try. `at` is Unix time."""

    message: Message
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much is to be done. `open`: conversations with a message to be answered. `dead`: dead letters."""

    open: int
    dead: int


@dataclass(frozen=True, slots=True)
class Blob:
    """A picture, a voice message or a file, by what is known of it. Raises ValueError.

    `digest`: SHA-256 of its content as a person sent it, in hexadecimal. `size`: that content's bytes. `at`: Unix
    time. `name`: what the person calls it, which is never a path of ours.
    """

    digest: str
    media_type: str
    name: str
    size: int
    at: float

    def __post_init__(self) -> None:
        if not is_digest(self.digest):
            raise ValueError("a digest is 64 hexadecimal digits")
        if not is_media_type(self.media_type):
            raise ValueError("a media type is like image/png")
        if len(self.name) > _LONGEST_NAME or "\0" in self.name:
            raise ValueError(f"a name has at most {_LONGEST_NAME} characters, and no NUL")
        if not 0 <= self.size < 2**53:
            raise ValueError("a size is a number of bytes")
        if not isfinite(self.at):
            raise ValueError("a time is a finite number")


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """Where a blob is referred to, and by whom."""

    conversation: ConversationKey
    user: UserKey
    blob: Blob


async def whole_conversations(
    pages: AsyncGenerator[ExportedConversation, None],
) -> AsyncGenerator[ExportedConversation, None]:
    """Pages of one conversation after the other, put together."""
    whole: ExportedConversation | None = None
    async for page in pages:
        if whole is not None and whole.conversation == page.conversation:
            whole = replace(whole, turns=[*whole.turns, *page.turns])
            continue
        if whole is not None:
            yield whole
        whole = page
    if whole is not None:
        yield whole
