"""What a command may have the bot do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from glmbot.errors import ModelTooLarge, ModelUnavailable
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import Attachment, ChatKind, CommandInfo, Message, Role
from glmbot.notes import Book

__all__ = ["Bot", "GivenUp", "Load", "ModelHere", "Room", "ToolHere", "words_for"]

_GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Room:
    """How full the model's context is, in tokens: `used` of a `budget`, `answer` kept free, `length` in all.
    `turns` are in it, `dropped` are too old. `tools`: what their descriptions take of `used`."""

    used: int
    budget: int
    answer: int
    length: int
    turns: int
    dropped: int
    tools: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What a model is and does now. `speed` in tokens a second, `wait_s` until a first token, mostly;
    `cache_share` from 0 to 1; `batch`: answers together so far, at most. `waiting_people`: with how many each.

    `loaded`: it can be asked at once; `loading`: what share of it is, None when it is not being loaded; `trouble`:
    it could not be. `memory_bytes`: what it takes of this machine, cache included.
    """

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
    loaded: bool
    loading: float | None
    trouble: bool
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class ModelHere:
    """The model that answers a message. `default`: who answers where nobody chose. `gone`: what was chosen and is
    no more, "" for nothing. `may_choose`: whether its author may choose another."""

    name: str
    default: str
    gone: str
    may_choose: bool


def words_for(error: ModelUnavailable) -> tuple[str, Mapping[str, object]]:
    """The line that tells a person of it, and its values: folders and libraries' words are for the log."""
    if isinstance(error, ModelTooLarge):
        sizes = {"needed": error.needed / _GB, "budget": error.budget / _GB}
        return "model.too_large", {"model": error.model, **sizes}
    return "model.unavailable", {"model": error.model}


@dataclass(frozen=True, slots=True)
class ToolHere:
    """`right`: "never", "ask" or "allow". `nature`: see `glmbot.host.Nature`."""

    name: str
    title: str
    plugin: str
    right: str
    nature: str


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

    async def room(self, message: Message, role: Role) -> Room | None:
        """Of the message's conversation, before a question. Raises EngineError and ValueError where no prompt can
        be made. None: the model that answers there is not loaded."""
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

    def system_prompt(self, message: Message) -> str:
        """The configured one of the bot that the message was said to."""
        ...

    # ---- the model -------------------------------------------------------------------------------------------

    def loads(self) -> Sequence[Load]:
        """Of each model, the default first."""
        ...

    @property
    def models_memory(self) -> tuple[int, int | None]:
        """Bytes that models of this machine take together, and may take; None: without bound."""
        ...

    async def model_here(self, message: Message, role: Role) -> ModelHere:
        """Which one answers the message, whose author is in this role."""
        ...

    def model_named(self, text: str) -> str | None:
        """The model's name as it is written, in whatever case it was given; None for one that there is not."""
        ...

    async def choose_model(self, message: Message, name: str) -> None:
        """It answers where the message was said from the next question on: in all private chats of its author, or
        in its group. "" goes back to the default. Raises ModelUnavailable for one that can't be loaded here."""
        ...

    async def bring_model(self, name: str) -> None:
        """Load it where it is not. Raises ModelUnavailable."""
        ...

    async def switch_precision(
        self, model: str, precision: str, on_share: Callable[[float], None]
    ) -> Mapping[str, object]:
        """Returns the values of the line "precision.done". on_share: told what share is done, from 0 to 1. Raises
        PrecisionError and ModelUnavailable."""
        ...

    # ---- tools -----------------------------------------------------------------------------------------------

    async def tools(self, message: Message) -> Sequence[ToolHere]:
        """All that there are, and what their author may do with them there."""
        ...

    async def set_tool(
        self, owner: UserKey | ChatKey, tool: str, right: str, *, where: ChatKey | None = None
    ) -> bool:
        """right: "never", "ask" or "allow"; "" takes the decision back. where: of a person in that chat alone.
        False for a tool that there is not. Raises ValueError for too many."""
        ...

    async def answer_tool(self, message: Message, role: Role, ask: str, answer: str) -> str:
        """Somebody says whether a call may be made. Returns what became of it, as the name of a line."""
        ...

    def tell_tool(self, message: Message, words: str) -> bool:
        """What the author of the message types for a tool that asks them there. False where none does."""
        ...

    async def tool_asked(self, message: Message, ask: str) -> str:
        """All that a call would be made with, "" where nothing is asked by this name there."""
        ...

    # ---- of itself -------------------------------------------------------------------------------------------

    def book(self, name: str) -> Book:
        """Notes that are kept, by the plug-in's name. Raises ValueError for what is none.

        A bot that a command or a tool was handed writes people's notes only until its message is answered, and not
        for who is forgotten meanwhile: `put` raises MessageGone then.
        """
        ...

    async def announce(self, conversation: ConversationKey, words: str, *, name: str) -> bool:
        """Say it there, once for each `name`, whatever crashes. False where nothing can be sent that was not asked
        for."""
        ...

    def can_announce(self, conversation: ConversationKey) -> bool:
        """Whether what nobody there has just asked for can be sent at all."""
        ...

    async def ask_in(
        self, conversation: ConversationKey, user: UserKey, question: str, *, name: str, kind: ChatKind
    ) -> None:
        """Have it answered there as if this person had asked it now, once for each `name`. What they may not ask
        is refused them as always."""
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
