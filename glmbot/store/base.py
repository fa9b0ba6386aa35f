"""The store's protocol: what survives a restart. SQLite and Redis pass the same tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from glmbot.messages import ChatKind, ConversationKey, Message, Role, Unfinished, UserKey

__all__ = ["ExportedConversation", "Store", "StoredAnswer", "Turn", "message_from_json", "message_to_json"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange, stored whole or not at all. `id` rises within its conversation; `at` is Unix time."""

    id: int
    user: UserKey
    question: str
    answer: str
    at: float


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The end of an answer that was recorded but perhaps not shown yet: what a restart shows again."""

    text: str
    state: str
    notice: str
    finish_reason: str = ""


@dataclass(frozen=True, slots=True)
class ExportedConversation:
    conversation: ConversationKey
    turns: Sequence[Turn]


class Store(Protocol):
    """Every method is one atomic step and raises StoreError when the store can't be reached."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def warnings(self) -> Sequence[str]:
        """What about the server's own configuration endangers the histories, for the operator."""
        ...

    # ---- inbox: what was accepted and not yet shown to the end -------------------------------------------

    async def accept(self, message: Message, at: float) -> bool:
        """Record durably. False when this platform's update id was accepted before."""
        ...

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        """Add the adapter's delivery marks. Harmless when the message is no longer there."""
        ...

    async def delivered(self, message: Message) -> None:
        """Forget the message and its answer; only its update id stays, against duplicates."""
        ...

    async def unfinished(self, platform: str) -> Sequence[Unfinished]:
        """What was accepted and not delivered, in the order of arrival."""
        ...

    async def answer(self, message: Message) -> StoredAnswer | None:
        """The recorded end of this message's answer, if there is one."""
        ...

    # ---- histories ------------------------------------------------------------------------------------------

    async def epoch(self, conversation: ConversationKey) -> int:
        """Rises with each reset; a turn begun before a reset must not be appended after it."""
        ...

    async def last_turns(self, conversation: ConversationKey, limit: int) -> Sequence[Turn]:
        """The newest `limit` turns, oldest first."""
        ...

    async def finish(
        self,
        message: Message,
        answer: StoredAnswer,
        *,
        question: str | None = None,
        epoch: int = 0,
        at: float = 0.0,
        replaces: int | None = None,
    ) -> bool:
        """Record a message's answer and, when `question` is given, append the turn, in one step.

        `replaces` removes that turn and all after it first. False, and no turn, when the epoch has moved on
        or the message was answered before (the answer of the first time stands).
        """
        ...

    async def reset(self, conversation: ConversationKey) -> int:
        """Remove the history. Returns how many turns there were."""
        ...

    async def conversations(self, user: UserKey) -> Sequence[ConversationKey]:
        """Where this person has turns."""
        ...

    async def export(self, user: UserKey) -> Sequence[ExportedConversation]:
        """Everything kept of what this person asked and was answered."""
        ...

    async def forget(self, user: UserKey) -> int:
        """Remove every trace of this person: turns, settings, pending messages. Returns the turns removed."""
        ...

    # ---- settings -------------------------------------------------------------------------------------------

    async def settings(self, user: UserKey) -> Mapping[str, str]: ...

    async def set_setting(self, user: UserKey, name: str, value: str) -> None: ...


def message_to_json(message: Message) -> dict[str, Any]:
    fields = asdict(message)
    fields["conversation"] = str(message.conversation)
    fields["user"] = str(message.user)
    fields["origin"] = dict(message.origin)
    return fields


def message_from_json(fields: Mapping[str, Any]) -> Message:
    """Undo `message_to_json`."""
    vouched = fields["vouched"]
    return Message(
        update_id=fields["update_id"],
        conversation=ConversationKey.parse(fields["conversation"]),
        user=UserKey.parse(fields["user"]),
        text=fields["text"],
        chat_kind=ChatKind(fields["chat_kind"]),
        user_name=fields["user_name"],
        language=fields["language"],
        vouched=None if vouched is None else Role(vouched),
        origin=dict(fields["origin"]),
    )
