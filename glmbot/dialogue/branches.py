"""A conversation's branches, for a page that shows them.

An edited question, or an answer that was tried again, stands beside what it took the place of, and can be left for
it again.
"""

from __future__ import annotations

from collections.abc import Sequence

from glmbot.engine.thoughts import parted
from glmbot.keys import ConversationKey
from glmbot.messages import PastTurn
from glmbot.store.base import Histories
from glmbot.store.records import Turn

__all__ = ["choose_branch", "history"]

_MOST_TURNS = 1000
# Of one question; who has asked it more often finds the newest.
_MOST_BRANCHES = 32
# Turns that are read for their words, of all questions together.
_MOST_READ = 64


async def history(store: Histories, conversation: ConversationKey) -> Sequence[PastTurn]:
    """See `glmbot.ports.Dialogue.history`."""
    turns = await store.last_turns(conversation, _MOST_TURNS)
    followers = await store.followers(conversation, [turn.parent for turn in turns])
    forks = {turn.id: beside for turn in turns if len(beside := followers.get(turn.parent, ())) > 1}
    hidden = await _continued(store, conversation, turns, forks)
    found: list[PastTurn] = []
    for turn in turns:
        beside = [each for each in forks.get(turn.id, ()) if each not in hidden][-_MOST_BRANCHES:]
        branches = tuple(beside) if turn.id in beside else (turn.id, *beside)
        thought, answer = parted(turn.thought, turn.answer)
        found.append(PastTurn(turn.ref, turn.question, answer, turn.id, branches, thought))
    return found


async def _continued(
    store: Histories, conversation: ConversationKey, turns: Sequence[Turn], forks: dict[int, Sequence[int]]
) -> set[int]:
    """Answers that were cut, and stand whole beside themselves since; but not those that something follows."""
    others = [each for turn in turns for each in forks.get(turn.id, ()) if each != turn.id][-_MOST_READ:]
    followed = await store.followers(conversation, others)
    read: dict[int, Turn] = {turn.id: turn for turn in turns}
    for each in others:
        read |= {turn.id: turn for turn in await store.last_turns(conversation, 1, upto=each)}
    return {
        part
        for part in others
        if part in read and part not in followed
        for whole in read.values()
        if whole.parent == read[part].parent and _goes_on(read[part], whole)
    }


def _goes_on(part: Turn, whole: Turn) -> bool:
    return (
        whole.question == part.question
        and len(whole.answer) > len(part.answer)
        and whole.answer.startswith(part.answer)
    )


async def choose_branch(store: Histories, conversation: ConversationKey, turn: int) -> bool:
    """See `glmbot.ports.Dialogue.choose_branch`."""
    target = await store.last_turns(conversation, 1, upto=turn)
    if not target:
        return False
    # Turns beside each other share the message of their question.
    forks = (
        target
        if len((await store.followers(conversation, [target[0].parent])).get(target[0].parent, ())) > 1
        else []
    )
    refs = {each.ref: each.id for each in forks if each.ref}
    end, seen = turn, {turn}
    while (below := (await store.followers(conversation, [end])).get(end)) and below[-1] not in seen:
        end = below[-1]
        seen.add(end)
        if len(below) > 1:
            refs |= {
                each.ref: each.id for each in await store.last_turns(conversation, 1, upto=end) if each.ref
            }
    return await store.lead(conversation, end, refs)
