"""The store's protocol: what survives a restart. SQLite and Redis pass the same tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from glmbot.messages import (
    Addressed,
    ChatKey,
    ChatKind,
    ConversationKey,
    Message,
    Role,
    Unfinished,
    UserKey,
    Visibility,
)

__all__ = [
    "HOUR_S",
    "Backlog",
    "Claim",
    "DeadLetter",
    "ExportedConversation",
    "Store",
    "StoredAnswer",
    "StoredConversation",
    "Turn",
    "message_from_json",
    "message_to_json",
    "owner_from",
]

HOUR_S = 3600.0
# Among the adapter's notes, where a message's source is kept.
_SOURCE = "glmbot.source"


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange, stored whole or not at all. `id` rises within its conversation; `at` is Unix time.

    Turns form a tree: `parent` is the turn that this one follows, 0 at the beginning. A conversation's head is the
    turn that the next one follows. `ref` is the platform's id of the question's message.
    """

    id: int
    user: UserKey
    question: str
    answer: str
    at: float
    parent: int = 0
    ref: str = ""


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


class Store(Protocol):
    """Every method is one atomic step and raises StoreError when the store can't be reached: StoreUnavailable when
    it may be reached later.

    `mark`, `finish`, `delivered` and `set_aside` raise ClaimLost when another process answers the conversation.
    """

    @property
    def owner(self) -> str:
        """This process, in claims and leases."""
        ...

    @property
    def journaled(self) -> int:
        """Steps that are kept in this process until the server is back."""
        ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def warnings(self) -> Sequence[str]:
        """What about the server's own configuration endangers the histories, for the operator."""
        ...

    # ---- inbox: what was accepted and not yet shown to the end -------------------------------------------

    async def accept(self, message: Message, at: float, *, announce: bool = True) -> bool:
        """Record durably. False when this platform's update id was accepted before.

        announce: tell all processes that there is something to answer.
        """
        ...

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        """Add the adapter's delivery marks. Harmless when the message is no longer there."""
        ...

    async def delivered(self, message: Message, shown: Sequence[str] = ()) -> None:
        """Forget the message and its answer; only its update id stays, against duplicates.

        `shown`: the platform's ids of the messages that the answer stands in. They find its turn from now on.
        """
        ...

    async def unfinished(self, platform: str) -> Sequence[Unfinished]:
        """What was accepted and not delivered, in the order of arrival."""
        ...

    async def answer(self, message: Message) -> StoredAnswer | None:
        """The recorded end of this message's answer, if there is one."""
        ...

    async def set_aside(self, message: Message, reason: str, at: float) -> None:
        """Make it a dead letter: not tried any more, and kept with its marks and its answer."""
        ...

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """The oldest first."""
        ...

    async def replay(self, message: Message) -> bool:
        """Have a dead letter answered again. False when it is none (any more)."""
        ...

    async def drop(self, message: Message) -> bool:
        """Forget a dead letter. False when it is none (any more)."""
        ...

    async def backlog(self) -> Backlog: ...

    # ---- claims: which process answers what -----------------------------------------------------------------

    async def waiting(self, platform: str, wait_s: float) -> Sequence[ConversationKey]:
        """Conversations that were announced to this process since; waits up to `wait_s` seconds for one."""
        ...

    async def open_conversations(self, platform: str) -> Sequence[ConversationKey]:
        """All that have a message to be answered, whoever answers them."""
        ...

    async def claim(self, conversation: ConversationKey, lasts_s: float) -> Claim:
        """Take or keep the conversation for `lasts_s` seconds, if no other process has it that may be alive."""
        ...

    async def leave_to(self, conversation: ConversationKey, owner: str) -> None:
        """Another process has it, so what was announced here is for that one to see."""
        ...

    async def release(self, conversation: ConversationKey) -> None:
        """Give it up with what is open in it, and announce that."""
        ...

    async def keep(self) -> None:
        """Renew what this process holds of the announcements that it has read. Call now and then."""
        ...

    async def lease(self, name: str, lasts_s: float) -> str:
        """Take or keep what only one process may do at a time. Returns who has it now."""
        ...

    async def end_lease(self, name: str) -> None: ...

    async def signal(self, words: str) -> None:
        """Tell every other process of this store."""
        ...

    async def signals(self, wait_s: float) -> Sequence[str]:
        """What other processes have told since the last call; waits up to `wait_s` seconds for something."""
        ...

    # ---- quotas: what was asked within the last hour -----------------------------------------------------------

    async def count(self, question: str, limits: Mapping[str, int], at: float) -> float:
        """Count a question for every owner named in `limits`, unless one of them has used up its limit (0: it has
        none).

        Returns 0, or the seconds until it could be asked; nothing is counted then. Over all processes, and once
        however often it is tried.
        """
        ...

    async def counted(self, owner: str, at: float) -> int:
        """Questions of the last hour."""
        ...

    # ---- histories ------------------------------------------------------------------------------------------

    async def epoch(self, conversation: ConversationKey) -> int:
        """Rises with each reset; a turn begun before a reset must not be appended after it."""
        ...

    async def last_turns(
        self, conversation: ConversationKey, limit: int, *, upto: int | None = None
    ) -> Sequence[Turn]:
        """The last `limit` turns of the branch that ends in turn `upto`, or in the head; oldest first."""
        ...

    async def turn_of(self, conversation: ConversationKey, ref: str) -> Turn | None:
        """The turn whose question is the message `ref`, or whose answer stands in it."""
        ...

    async def shown(self, conversation: ConversationKey, turn: int) -> Sequence[str]:
        """The ids of the messages that this turn's answer stands in, in order."""
        ...

    async def finish(
        self,
        message: Message,
        answer: StoredAnswer,
        *,
        question: str | None = None,
        epoch: int = 0,
        at: float = 0.0,
        parent: int | None = None,
        ref: str = "",
        turn_answer: str | None = None,
    ) -> bool:
        """Record a message's answer and, when `question` is given, append the turn, in one step.

        The turn follows `parent`, or the head, and becomes the head itself. `ref` is the platform's id of its
        question, `turn_answer` its answer where that is not the recorded text. False, and no turn, when the epoch
        has moved on or the message was answered before (the answer of the first time stands).
        """
        ...

    async def remove_turn(self, conversation: ConversationKey, turn: int) -> None:
        """Take one turn out; those that followed it follow its parent."""
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

    async def recent(self, since: float) -> Sequence[ConversationKey]:
        """Conversations with a turn since that Unix time."""
        ...

    # ---- settings -------------------------------------------------------------------------------------------

    async def settings(self, owner: UserKey | ChatKey) -> Mapping[str, str]: ...

    async def set_setting(self, owner: UserKey | ChatKey, name: str, value: str) -> None:
        """An empty value removes the setting."""
        ...

    async def all_settings(self) -> Mapping[str, Mapping[str, str]]:
        """By `str` of the owner."""
        ...

    # ---- backup ---------------------------------------------------------------------------------------------

    def everything(self) -> AsyncGenerator[StoredConversation, None]: ...

    async def put(self, stored: StoredConversation) -> bool:
        """Write a conversation back as it was. False, and nothing changed, when it has turns already."""
        ...


def owner_from(text: str) -> UserKey | ChatKey:
    """Read what `str` made of an owner of settings. Raises ValueError for anything else."""
    return ChatKey.parse(text) if text.count(":") == 2 else UserKey.parse(text)


def message_to_json(message: Message) -> dict[str, Any]:
    fields = asdict(message)
    fields["conversation"] = str(message.conversation)
    fields["user"] = str(message.user)
    # Earlier releases know no `source`, and refuse a field that they do not know.
    source = fields.pop("source")
    fields["origin"] = {**message.origin, _SOURCE: source} if source else dict(message.origin)
    return fields


def message_from_json(fields: Mapping[str, Any]) -> Message:
    """Undo `message_to_json`. What an older version did not write has its default."""
    vouched = fields["vouched"]
    origin = dict(fields["origin"])
    known: dict[str, Any] = {
        **fields,
        "source": origin.pop(_SOURCE, ""),
        "origin": origin,
        "conversation": ConversationKey.parse(fields["conversation"]),
        "user": UserKey.parse(fields["user"]),
        "chat_kind": ChatKind(fields["chat_kind"]),
        "vouched": None if vouched is None else Role(vouched),
        "addressed": Addressed(fields.get("addressed", Addressed.DIRECTLY)),
        "visibility": Visibility(fields.get("visibility", Visibility.EVERYONE)),
    }
    return Message(**known)
