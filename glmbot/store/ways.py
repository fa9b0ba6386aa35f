"""What chats, people and their conversations were called before they moved, and what they are called after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from glmbot.keys import ChatKey, ConversationKey, UserKey

__all__ = ["Move", "Ways", "check_move", "moved_conversation"]

Move = tuple[UserKey | ChatKey, UserKey | ChatKey]
_K = TypeVar("_K")
_Names = Mapping[UserKey | ChatKey, Sequence[UserKey | ChatKey]]


class Ways:
    """Each way begins with the oldest name. What is removed from all of them in this order is in none of them
    afterwards, wherever a move had come to."""

    def __init__(self, moves: Sequence[Move]) -> None:
        after: dict[UserKey | ChatKey, list[UserKey | ChatKey]] = {}
        before: dict[UserKey | ChatKey, list[UserKey | ChatKey]] = {}
        for old, new in moves:
            after.setdefault(old, []).append(new)
            before.setdefault(new, []).append(old)
        self._after, self._before = after, before

    def of_conversation(self, conversation: ConversationKey) -> list[ConversationKey]:
        return _way(conversation, lambda at: _renamed(at, self._after), lambda at: _renamed(at, self._before))

    def of_person(self, user: UserKey) -> list[UserKey]:
        return _way(
            user, lambda at: _people(self._after.get(at, ())), lambda at: _people(self._before.get(at, ()))
        )


def _way(start: _K, after: Callable[[_K], Sequence[_K]], before: Callable[[_K], Sequence[_K]]) -> list[_K]:
    way = [start]
    for at in way:
        way += [each for each in after(at) if each not in way]
    earlier = [start]
    for at in earlier:
        earlier += [each for each in before(at) if each not in (*way, *earlier)]
    return [*reversed(earlier[1:]), *way]


def _people(names: Sequence[UserKey | ChatKey]) -> list[UserKey]:
    return [each for each in names if isinstance(each, UserKey)]


def _renamed(conversation: ConversationKey, names: _Names) -> list[ConversationKey]:
    platform = conversation.platform
    owners = (ChatKey(platform, conversation.chat), UserKey(platform, conversation.user or conversation.chat))
    return [
        moved_conversation(conversation, owner, each) for owner in owners for each in names.get(owner, ())
    ]


def check_move(old: UserKey | ChatKey, new: UserKey | ChatKey) -> None:
    """Raises ValueError unless both are of one kind."""
    if type(old) is not type(new) or old.platform != new.platform:
        raise ValueError(f"{old} can't become {new}: people stay people, chats chats, each on its platform")


def moved_conversation(
    conversation: ConversationKey, old: UserKey | ChatKey, new: UserKey | ChatKey
) -> ConversationKey:
    """What a conversation is called when `old` is called `new`. Raises ValueError unless both are of one kind."""
    check_move(old, new)
    if conversation.platform != old.platform:
        return conversation
    if isinstance(old, ChatKey):
        return replace(conversation, chat=new.id) if conversation.chat == old.id else conversation
    if conversation.user == old.id:
        return replace(conversation, user=new.id)
    private = not conversation.user and conversation.chat == old.id
    return replace(conversation, chat=new.id) if private else conversation
