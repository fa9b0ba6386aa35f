"""A conversation that this process has: what it gave out there, and what joins the act that a message began.

What is one act of a person is one message for whoever answers it; the store is told so before it is given out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from glmbot.dialogue import acts
from glmbot.dialogue.commands import Commands
from glmbot.dialogue.gathering import Gathering
from glmbot.keys import ConversationKey
from glmbot.messages import Edit, Message, Unfinished
from glmbot.store.base import Anchors, Messages

__all__ = ["TRIES", "Acts", "Ending", "Held", "amended", "completed", "joined"]

TRIES = "tries"
"""The mark that counts how often a message was tried."""


class Acts(Anchors, Messages, Protocol):
    """What waits, and the turns that an edit may concern."""


@dataclass(slots=True)
class Held:
    """A conversation that this process has. `given`: what it is answering there, by update id, with the tries so
    far; those in `begun` count the present one, and what is in `superseded` says something else by now. Nothing is
    given out before `rests_until`."""

    given: dict[str, int] = field(default_factory=dict[str, int])
    begun: set[str] = field(default_factory=set[str])
    superseded: set[str] = field(default_factory=set[str])
    rested: set[str] = field(default_factory=set[str])
    gathering: Gathering = field(default_factory=Gathering)
    rests_until: float = 0.0
    renewed_at: float = 0.0


class Ending:
    """What was given out of conversations that were lost, and has not ended: it may still write there."""

    def __init__(self) -> None:
        self._tries: dict[ConversationKey, dict[str, int]] = {}

    def __contains__(self, conversation: ConversationKey) -> bool:
        return conversation in self._tries

    def add(self, conversation: ConversationKey, held: Held) -> None:
        if held.given:
            tries = {update_id: held.given[update_id] * (update_id in held.begun) for update_id in held.given}
            self._tries.setdefault(conversation, {}).update(tries)

    def tries(self, message: Message) -> int | None:
        """Those counted so far, if the present one is among them, or 0; None when it is not among what ends."""
        return self._tries.get(message.conversation, {}).get(message.update_id)

    def ended(self, message: Message) -> bool:
        """Nothing is written any more for this one. True when it was the last of its conversation."""
        tries = self._tries.get(message.conversation, {})
        if tries.pop(message.update_id, None) is None or tries:
            return False
        del self._tries[message.conversation]
        return True

    def forget(self, platform: str) -> None:
        for conversation in [each for each in self._tries if each.platform == platform]:
            del self._tries[conversation]


async def completed(
    store: Acts, commands: Commands, held: Held, entries: Sequence[Unfinished]
) -> Sequence[Unfinished]:
    """Edits of one message of a question that was several, and was answered, become edits of all of it; those
    that say nothing new are done with. Raises StoreError."""
    found: list[Unfinished] = []
    for entry in entries:
        edit = entry.message
        alone = edit.update_id not in held.given and acts.home_of(edit, found, commands) is None
        if isinstance(edit.intent, Edit) and edit.act.at and not edit.act.pieces and alone:
            turn = await store.turn_of(edit.conversation, edit.ref)
            tails = await store.pieces(edit.conversation, turn.id) if turn is not None else {}
            if turn is not None and tails:
                edit = acts.edited(edit, turn.question, turn.ref, tails)
                if edit.text.strip() == turn.question.strip():
                    await store.delivered(entry.message)
                    continue
                await store.join(edit, ())
        found.append(Unfinished(edit, entry.marks))
    return found


async def joined(store: Acts, held: Held, act: Sequence[Unfinished]) -> Message:
    """What the act says, which its first message says durably from now on. Raises StoreError."""
    head, others = act[0].message, [each.message for each in act[1:]]
    again = head.update_id in held.superseded
    if not others and not again:
        return head
    message = acts.whole([head, *others])
    if again or TRIES in act[0].marks:
        # A turn of the old words may be in the history.
        message = replace(message, intent=Edit())
    await store.join(message, others)
    held.superseded.discard(head.update_id)
    return message


async def amended(store: Acts, commands: Commands, held: Held, act: Sequence[Message]) -> bool:
    """Something belongs to an act that is being answered. True where it says anything new: the answer begins anew
    then, in the same place. Raises StoreError."""
    head, others = act[0], act[1:]
    if not others:
        return False
    message = acts.whole(act)
    if acts.same_words(message, head) or not acts.asks(head, commands):
        for other in others:
            await store.delivered(other)
        return False
    await store.join(replace(message, intent=Edit()), others)
    held.superseded.add(head.update_id)
    return True
