"""What a command may have the bot do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import Attachment, ChatKind, CommandInfo, Message, Role

__all__ = ["Bot", "GivenUp", "Load", "Room"]


@dataclass(frozen=True, slots=True)
class Room:
    """How full the model's context is, in tokens: `used` of a `budget`, `answer` kept free, `length` in all.
    `turns` are in it, `dropped` are too old."""

    used: int
    budget: int
    answer: int
    length: int
    turns: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Load:
    """What the model is and does now. `speed` in tokens a second, `wait_s` until a first token, mostly;
    `cache_share` from 0 to 1; `batch`: answers together so far, at most. `waiting_people`: with how many each."""

    model: str
    precision: str
    precisions: Sequence[str]
    running: int
    waiting: int
    queue_limit: int
    speed: float
    cache_share: float
    weight_bytes: int
    wait_s: float
    batch: int
    finished: int
    waiting_people: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A message that was set aside. `minutes` ago."""

    message: Message
    reason: str
    minutes: int


class Bot(Protocol):
    """All that talks to the store raises StoreError."""

    def commands(self, language: str, role: Role, chat_kind: ChatKind) -> Sequence[CommandInfo]:
        """What somebody of this role can use there."""
        ...

    # ---- conversations ---------------------------------------------------------------------------------------

    def stop(self, conversation: ConversationKey) -> int:
        """Ask all answers there to end early. Returns how many there were."""
        ...

    async def reset(self, conversation: ConversationKey) -> int:
        """Stop all there, and put the history aside. Returns how many turns it had."""
        ...

    async def reset_person(self, user: UserKey) -> int:
        """The same of all of a person's conversations. Returns how many there were."""
        ...

    async def room(self, message: Message) -> Room:
        """Of the message's conversation, before a question. Raises EngineError and ValueError where no prompt can
        be made."""
        ...

    async def export(self, user: UserKey) -> tuple[Attachment, int]:
        """All that is kept of a person, and how many turns that is."""
        ...

    async def forget(self, user: UserKey) -> int:
        """Delete it, and stop this person's answers. Returns how many turns there were."""
        ...

    # ---- settings --------------------------------------------------------------------------------------------

    async def settings(self, owner: UserKey | ChatKey) -> Mapping[str, str]: ...

    async def set_setting(self, owner: UserKey | ChatKey, name: str, value: str) -> None:
        """ "" takes the setting away."""
        ...

    async def check_prompt(self, message: Message, words: str) -> str:
        """Whether this may be a chat's system prompt: "", or what is wrong with it, as the name of a line."""
        ...

    @property
    def system_prompt(self) -> str:
        """The configured one."""
        ...

    # ---- the model -------------------------------------------------------------------------------------------

    def load(self) -> Load: ...

    async def switch_precision(
        self, precision: str, on_share: Callable[[float], None]
    ) -> Mapping[str, object]:
        """Returns the values of the line "precision.done". on_share: told what share is done, from 0 to 1. Raises
        PrecisionError."""
        ...

    # ---- administrators --------------------------------------------------------------------------------------

    def user_named(self, text: str, message: Message) -> UserKey | None:
        """ "telegram:5", or "5" on the platform that the message came from."""
        ...

    def platforms(self, message: Message) -> Sequence[str]:
        """Those whose people can be named in a message."""
        ...

    def stop_person(self, user: UserKey) -> None:
        """Stop all of a person's answers, also those of other processes."""
        ...

    async def pair(self, code: str) -> UserKey | None:
        """Let in whoever waits with this pairing code."""
        ...

    async def broadcast(self, message: Message, words: str) -> int:
        """Say it in every chat of the last 30 days, once for each message that asks for it. Returns how many."""
        ...

    def reload(self, language: str) -> str:
        """Read the configuration again. Returns what came of it; "" where there is no file."""
        ...

    async def given_up(self) -> Sequence[GivenUp]: ...

    async def replay(self, message: Message) -> int: ...

    async def drop(self, message: Message) -> int: ...
