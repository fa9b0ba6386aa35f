"""The store's protocols: what survives a restart, cut by who uses it. SQLite and Redis pass the same tests.

One object implements them all, and whoever needs one names that one. Every method raises StoreError when the
store can't be reached, StoreUnavailable when it may be later. "One atomic step" is said where nobody sees half of
what is meant, whatever crashes; in Redis, names in indexes are written before it and taken out after it, and one
that leads to nothing is taken for none. Where it is not said, doing the same again completes what a crash has
interrupted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import ConversationSummary, Message, Unfinished
from glmbot.store.blobs import Blobs
from glmbot.store.message_json import message_from_json, message_to_json
from glmbot.store.notes import Notes
from glmbot.store.records import (
    Backlog,
    Claim,
    DeadLetter,
    ExportedConversation,
    StoredAnswer,
    StoredConversation,
    Turn,
)

# Scripts of operators read what is stored by the names of values and of their JSON, too.
__all__ = [
    "CLAIMED_AT_ONCE",
    "HOUR_S",
    "INDEXED",
    "Anchors",
    "Answers",
    "Backlog",
    "Backups",
    "Blobs",
    "Claim",
    "Claims",
    "Coordination",
    "DeadLetter",
    "DeadLetters",
    "ExportedConversation",
    "Exports",
    "Histories",
    "Messages",
    "Notes",
    "Places",
    "QuotaCounts",
    "Removal",
    "Settings",
    "Store",
    "StoredAnswer",
    "StoredConversation",
    "Turn",
    "Upkeep",
    "message_from_json",
    "message_to_json",
]

HOUR_S = 3600.0
# A conversation with more than that waiting is given out a part at a time.
CLAIMED_AT_ONCE = 100
# Settings by whose name their owners are found.
INDEXED = frozenset({"pairing"})


class Messages(Protocol):
    """The inbox: what was accepted and not yet shown to the end.

    What a method changes of a message is one atomic step. `mark`, `join` and `delivered` raise ClaimLost when
    another process answers the conversation.
    """

    async def accept(self, message: Message, at: float, *, announce: bool = True) -> bool:
        """Record durably. False when this platform's update id was accepted before.

        announce: tell all processes that there is something to answer.
        """
        ...

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        """Add the adapter's delivery marks. Harmless when the message is no longer there."""
        ...

    async def join(self, message: Message, others: Sequence[Message]) -> None:
        """`message`, which is to be answered, says this from now on, and `others` of its conversation are no
        messages of their own any more: only their update ids stay. What was recorded as its answer is forgotten,
        its marks and its place in the order of arrival stay. Harmless when it is no longer there.
        """
        ...

    async def delivered(self, message: Message, shown: Sequence[str] = ()) -> None:
        """Forget the message and its answer; only its update id stays, against duplicates.

        `shown`: the platform's ids of the messages that the answer stands in. They find its turn from now on.
        """
        ...

    async def open_in(self, conversation: ConversationKey) -> Sequence[Unfinished]:
        """What is to be answered in this conversation, whoever answers it; of very much the oldest part."""
        ...

    async def unfinished(self, platform: str) -> Sequence[Unfinished]:
        """What was accepted and not delivered, in the order of arrival."""
        ...


class Answers(Protocol):
    """The ends of answers. An answer and its turn are one atomic step; `finish` raises ClaimLost when another
    process answers the conversation."""

    async def answer(self, message: Message) -> StoredAnswer | None:
        """The recorded end of this message's answer, if there is one."""
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
        parts: str = "",
    ) -> bool:
        """Record a message's answer and, when `question` is given, append the turn, in one step.

        The turn follows `parent`, or the head, and becomes the head itself. `ref` is the platform's id of its
        question, `turn_answer` its answer where that is not the recorded text; the pieces of the message's act
        find the turn as well. What was thought is the turn's, too, and so are `parts` (see `Turn`). False, and no
        turn, when the epoch has moved on or the message was answered before (the answer of the first time stands).
        """
        ...


class DeadLetters(Protocol):
    """Messages that were set aside after their last try. `set_aside` raises ClaimLost when another process answers
    the conversation."""

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


class Claims(Protocol):
    """Which process answers what. To claim a conversation and to read what is open there is one atomic step."""

    @property
    def owner(self) -> str:
        """This process, in claims and leases."""
        ...

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


class Coordination(Protocol):
    """What processes of one store tell each other, and what only one of them may do at a time."""

    @property
    def owner(self) -> str:
        """This process, in claims and leases."""
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


class QuotaCounts(Protocol):
    """What was asked within the last hour. Each method is one atomic step."""

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


class Histories(Protocol):
    """Turns and their branches. `last_turns` and `lead` are one atomic step each."""

    async def epoch(self, conversation: ConversationKey) -> int:
        """Rises with each reset; a turn begun before a reset must not be appended after it."""
        ...

    async def last_turns(
        self, conversation: ConversationKey, limit: int, *, upto: int | None = None
    ) -> Sequence[Turn]:
        """The last `limit` turns of the branch that ends in turn `upto`, or in the head; oldest first."""
        ...

    async def followers(
        self, conversation: ConversationKey, turns: Sequence[int]
    ) -> Mapping[int, Sequence[int]]:
        """By the id of each of these turns (0: the beginning), the ids of those that follow it, in order. What
        nothing follows is left out, and so is what goes beyond some thousands."""
        ...

    async def lead(self, conversation: ConversationKey, head: int, refs: Mapping[str, int]) -> bool:
        """Go back to a branch: the next turn follows `head`, and the messages `refs` find the turns of these ids
        again. False, and nothing changed, when there is no turn `head`.
        """
        ...

    async def remove_turn(self, conversation: ConversationKey, turn: int) -> None:
        """Take one turn out; those that followed it follow its parent."""
        ...


class Anchors(Protocol):
    """The platform's messages that turns stand in."""

    async def turn_of(self, conversation: ConversationKey, ref: str) -> Turn | None:
        """The turn whose question is the message `ref`, or whose answer stands in it."""
        ...

    async def shown(self, conversation: ConversationKey, turn: int) -> Sequence[str]:
        """The ids of the messages that this turn's answer stands in, in order."""
        ...

    async def pieces(self, conversation: ConversationKey, turn: int) -> Mapping[str, int]:
        """Of a turn whose question was several messages: see `glmbot.messages.Act`."""
        ...

    async def asked_in(self, chat: ChatKey, ref: str, since: float) -> ConversationKey | None:
        """The conversation of that chat, of whoever it is, in which the message `ref` is a question. For platforms
        that tell of a deleted message where it was and not whose. `since`: it is not older, in Unix time.
        """
        ...


class Places(Protocol):
    """Where people have turns."""

    async def conversations(self, user: UserKey) -> Sequence[ConversationKey]:
        """Where this person has turns."""
        ...

    async def conversation_summaries(
        self, user: UserKey, limit: int, before: tuple[float, str] | None = None
    ) -> Sequence[ConversationSummary]:
        """This person's conversations, the last used first, at most `limit`.

        before: `at` and `str` of the conversation that the page before ended with.
        """
        ...

    async def recent(self, since: float) -> Sequence[ConversationKey]:
        """Conversations with a turn since that Unix time."""
        ...


class Removal(Protocol):
    """What goes from many places, or to another name: in many short steps, between which everybody else has a
    turn. What they had begun before a crash `Upkeep.tidy` ends."""

    async def reset(self, conversation: ConversationKey) -> int:
        """Remove the history. Returns how many turns there were."""
        ...

    async def forget(self, user: UserKey) -> int:
        """Remove every trace of this person: turns, settings, pending messages, also what is written meanwhile.
        Returns the turns removed."""
        ...

    async def move(self, old: UserKey | ChatKey, new: UserKey | ChatKey, at: float) -> None:
        """A chat has another number now (a group became a supergroup), or a person has: everything of `old` is
        `new`'s. `at`: Unix time.

        Settings, quotas, histories, what waits to be answered and dead letters. What `new` has already stays,
        and its histories follow the old ones; nothing may have moved away from there, as platforms give a number
        once. May be repeated, in whichever order the news came. What is being answered under the old key is
        answered there, and its turn follows within minutes, by `tidy`. Raises
        ValueError unless both are of one kind and platform.
        """
        ...


class Settings(Protocol):
    """Of people and of chats. Each method but `people` and `having` concerns one owner, in one atomic step."""

    async def settings(self, owner: UserKey | ChatKey) -> Mapping[str, str]: ...

    async def set_setting(self, owner: UserKey | ChatKey, name: str, value: str) -> None:
        """An empty value removes the setting."""
        ...

    async def people(self, limit: int, after: str = "") -> Mapping[str, Mapping[str, str]]:
        """A page of the people who have settings, in the order of their keys, by `str` of the key.

        after: the key that the page before ended with.
        """
        ...

    async def having(self, name: str, limit: int) -> Mapping[str, Mapping[str, str]]:
        """Settings of at most `limit` owners who have one of that name, which is one of `INDEXED`."""
        ...


class Exports(Protocol):
    """All of a person, in many short steps."""

    async def export(self, user: UserKey) -> Sequence[ExportedConversation]:
        """Everything kept of what this person asked and was answered, at once: as much memory as that takes."""
        ...

    def export_pages(self, user: UserKey) -> AsyncGenerator[ExportedConversation, None]:
        """The same in pages of at most a few hundred turns; a long conversation comes in several."""
        ...


class Backups(Protocol):
    """All of everybody, in many short steps; a conversation is put back whole or not at all."""

    def everything(self) -> AsyncGenerator[StoredConversation, None]: ...

    async def put(self, stored: StoredConversation) -> bool:
        """Write a conversation back as it was. False, and nothing changed, when it has turns already."""
        ...

    async def all_settings(self) -> Mapping[str, Mapping[str, str]]:
        """By `str` of the owner. Grows with the people; for backups."""
        ...


class Upkeep(Protocol):
    """What who runs the store does with it."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def warnings(self) -> Sequence[str]:
        """What about the server's own configuration endangers the histories, for the operator."""
        ...

    async def check(self) -> None:
        """Raises StoreError with what keeps this process from writing: a full disk, a file that was deleted, or
        that another process answers from, a server that takes nothing. Writes something small to see."""
        ...

    async def tidy(self, now: float) -> bool:
        """Do a little of what need not be done at once: end what a crash interrupted, delete what is too old.

        True when there is more. `now`: Unix time, of a clock that can be trusted.
        """
        ...

    @property
    def journaled(self) -> int:
        """Steps that are kept in this process until the server is back."""
        ...


class Store(
    Messages,
    Answers,
    DeadLetters,
    Claims,
    Coordination,
    QuotaCounts,
    Histories,
    Anchors,
    Places,
    Removal,
    Settings,
    Exports,
    Backups,
    Blobs,
    Notes,
    Upkeep,
    Protocol,
):
    """All of them, for who makes one and hands it out."""
