"""What an adapter is handed, cut by who uses it, and what an adapter is.

There is one object, which is all of these. An adapter names those that it wants:

    class Wanted(Deliver, Menus, Protocol): ...

    class MyAdapter:
        def __init__(self, settings: MySettings, dialogue: Wanted) -> None: ...

It turns a platform's update into a `Message`, and shows what comes of it:

    await dialogue.accept(message)                # durable; only now may the platform be told

    async for entry in dialogue.assigned("telegram"):
        async for reply in dialogue.respond(entry.message):
            ...                                   # each Reply is the whole text so far
        await dialogue.delivered(entry.message)   # the user has seen the end of it
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from glmbot.completions import Completion
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import (
    ChatKind,
    CommandInfo,
    ConversationSummary,
    Health,
    Message,
    Obstacle,
    PastTurn,
    Reply,
    Role,
    Unfinished,
)
from glmbot.overview import LoggedCall, LoggedCalls, Overview

__all__ = [
    "Adapter",
    "Chats",
    "Completions",
    "Condition",
    "Deliver",
    "Dialogue",
    "Doors",
    "Keeps",
    "Lead",
    "Menus",
    "Operator",
    "Pages",
    "Words",
]


class Words(Protocol):
    """The bot's own lines."""

    def text(self, language: str, key: str, **values: object) -> str:
        """A line of the bot's own in the language nearest to the BCP 47 tag `language`."""
        ...


class Deliver(Words, Protocol):
    """Messages in, answers out."""

    async def accept(self, message: Message, *, here: bool = False) -> bool:
        """Record `message` durably: one of the bot's processes is `assigned` it, exactly once, and answers it.

        `here`: its answer can be shown by this process alone (a page's connection, a terminal).
        False when this update was accepted before, or when the bot is not spoken to by this chat's mode.
        Raises StoreError when it could not be recorded: the platform must then not be told that it was.
        """
        ...

    def assigned(self, platform: str) -> AsyncGenerator[Unfinished, None]:
        """What this process has to answer, new messages as well as those that an earlier or another process left
        unfinished; in each conversation in the order of arrival. Deliver each; runs for ever.
        """
        ...

    def respond(self, message: Message) -> AsyncGenerator[Reply, None]:
        """Answer an accepted message. Ends after one ended snapshot; yields nothing where silence is right.

        Closing the generator cancels the generation at the engine's next step. Raises ClaimLost when another
        process has the conversation by now: write nothing more.
        """
        ...

    async def again(self, message: Message, reason: str = "") -> bool:
        """This assigned message could not be shown to the end. It is assigned again after a while; with a
        `reason` only so many times, and then set aside for the administrators: True, tell its asker.
        """
        ...

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        """Note durably where the answer is being shown, so that a restart finishes it there."""
        ...

    def check(self, message: Message) -> None:
        """Call right before each write of this message's answer. Raises ClaimLost once another process may answer
        its conversation.
        """
        ...

    async def delivered(self, message: Message, shown: Sequence[str] = ()) -> None:
        """The answer's end has been shown (or can never be): forget the message, keep its update id.

        `shown` are the platform's ids of the messages that the answer stands in, in order: replying to one of
        them, or editing the question, finds the turn by them.
        """
        ...

    async def shown(self, message: Message) -> Sequence[str]:
        """The ids of the messages whose answer `message` (an edit, or a button under it) replaces, in order."""
        ...


class Lead(Protocol):
    """For what only one of the bot's processes may do."""

    async def leads(self, name: str) -> bool:
        """Whether this one of the bot's processes may do what only one may do (poll with a token).

        Ask again before each time. Raises StoreError.
        """
        ...


class Chats(Protocol):
    """What a platform tells besides messages: of questions deleted, and of chats and people under new ids."""

    async def withdraw(self, conversation: ConversationKey, ref: str) -> Sequence[str]:
        """The question `ref` was deleted: stop its answer and take its turn out of the history.

        Returns the ids of the messages that the answer stands in.
        """
        ...

    async def asked_in(self, chat: ChatKey, ref: str, since: float) -> ConversationKey | None:
        """Where in that chat the message `ref`, which is not older than `since` (Unix time), was a question that
        has been answered. Raises StoreError.
        """
        ...

    async def moved(self, old: UserKey | ChatKey, new: UserKey | ChatKey) -> None:
        """A chat or a person has another number now: what was `old`'s is `new`'s. May be told more than once.

        Raises StoreError.
        """
        ...


class Keeps(Protocol):
    """What an adapter has to know again after a restart, in any process of the bot: how far it has read, say."""

    async def kept(self, name: str) -> str:
        """ "" where nothing was. Raises StoreError."""
        ...

    async def keep(self, name: str, text: str) -> None:
        """name: 1 to 100 signs of ASCII that begin with the platform's. text: at most 256,000 characters; the last
        one counts. Raises StoreError."""
        ...


class Doors(Protocol):
    """For platforms where people ask the bot to come."""

    async def admits(self, message: Message) -> bool | None:
        """Whether who says this may speak to the bot where it is said. None: nobody has decided that. Raises
        StoreError."""
        ...


class Menus(Words, Protocol):
    """What a platform lists of the bot, and for whom."""

    def commands(
        self, language: str, role: Role = Role.USER, chat_kind: ChatKind = ChatKind.PRIVATE
    ) -> Sequence[CommandInfo]: ...

    def administrators(self, platform: str) -> Sequence[UserKey]:
        """As named in the configuration."""
        ...


class Pages(Protocol):
    """For showing conversations that a platform does not keep itself."""

    async def conversations(
        self, user: UserKey, limit: int = 100, before: tuple[float, str] | None = None
    ) -> Sequence[ConversationSummary]:
        """This person's conversations, the last used first, at most `limit` of them.

        before: `at` and `str` of the conversation that the page before ended with.
        """
        ...

    async def history(self, conversation: ConversationKey) -> Sequence[PastTurn]:
        """The newest thousand turns of the current branch, oldest first."""
        ...

    async def choose_branch(self, conversation: ConversationKey, turn: int) -> bool:
        """Go on in the branch of the turn of that number, after the newest that follows it. False while something
        is being answered there, and when there is no such turn.
        """
        ...


class Condition(Protocol):
    """How the bot is."""

    def health(self) -> Health:
        """Of the default model."""
        ...

    async def obstacles(self) -> Sequence[Obstacle]:
        """What does not work now: the engine, the store, a platform that is away, a loop that stood still."""
        ...


class Operator(Protocol):
    """For the operator's page, and for what measures the bot."""

    async def overview(self, after: str = "") -> Overview:
        """For the operator's page, which is for administrators only. after: where the page of people before ended,
        as `Overview.next_users` says it."""
        ...

    async def tool_calls(self, before: str = "", matching: str = "") -> LoggedCalls:
        """A page of what tools did: see `LoggedCalls`. matching: what stands in one of their fields."""
        ...

    def all_tool_calls(self, matching: str = "") -> AsyncGenerator[LoggedCall, None]:
        """The oldest first."""
        ...

    async def panel(self, name: str) -> Mapping[str, Any] | None:
        """What a plug-in shows there, as JSON; None where there is none of this name. Raises StoreError."""
        ...

    async def panel_does(self, name: str, wish: Mapping[str, Any], language: str) -> str:
        """Returns what became of it, in words. Raises ValueError with what is wrong with the wish, and
        StoreError."""
        ...

    def metrics(self) -> bytes:
        """In Prometheus' text format, which is also their content type's."""
        ...


class Completions(Protocol):
    """For programs, which bring their whole history."""

    def models(self) -> Sequence[str]:
        """The names of those that can be asked, the default first."""
        ...

    def complete(self, request: Completion) -> AsyncGenerator[Reply, None]:
        """Answer a stateless request. `finish_reason` "content_filter" is an answer that moderation ended.

        Raises PromptTooLong, QueueFull, LimitReached, ContentRefused and ValueError before the first reply.
        """
        ...


class Dialogue(Deliver, Lead, Chats, Keeps, Doors, Menus, Pages, Condition, Operator, Completions, Protocol):
    """All of them: the one object that there is."""


class Adapter(Protocol):
    """One platform. Found by the entry-point group `glmbot.adapters`; the built-in ones use the same door.

    An adapter may have a static method `check(settings, running)` that raises AdapterError for what can be known
    without any network: a port that is taken, a setting that contradicts another. It is called before the model is
    loaded, and again when the configuration is read again; `running` are the settings that hold then, else None.

    And a static method `async identify(settings)` that returns the name of the bot whose token it is, "" where
    only a running one can know, and raises AdapterError; `glmbot init` asks it.

    `profile` (`glmbot.delivery.abilities.Profile`) says what the platform can, for the documentation; an entry of
    the group `glmbot.introductions` under the same name, what it is called and asks (`glmbot.introduction`). Its
    `Settings` may have `words` (language -> key -> what it is for, "_" for the section), where they are not in
    glmbot/i18n, and `advice`, which `glmbot doctor` asks. It asks a static method `async examine(settings)`, too,
    which asks the platform; both return (whether it is well, words), and `examine` raises AdapterError.

    It may run more than once in a process, each time with a token of its own: as further bots, [telegram.NAME],
    about which it need know nothing (`glmbot.named_bot`). `Settings.alone` is true where there can be one only;
    `trouble_beside(other, name)` says why it can't be beside the bot of that section (`glmbot.tokens`: one token).
    Keys of a bot's own, `glmbot.config.bots`, come before keys of `Settings` with these names.

    What it answers over HTTP is a method `routes()` that returns `glmbot.http.routes.Route`s; they are open from
    before `start` until before `stop`. A static method `route_wishes(settings)` tells them beforehand. The adapter
    that runs the HTTP server has `serve_routes(routes)` and a static method `owns(path)`.
    """

    Settings: ClassVar[type[BaseModel]]

    def __init__(self, settings: Any, dialogue: Dialogue) -> None: ...

    async def start(self) -> None:
        """Connect, and return once messages can come in.

        Raises AdapterError with what is wrong; then `stop` is called, and after a while another adapter is made
        and started. PlatformRefused is for what no second try can mend (a wrong token).
        """
        ...

    async def run(self) -> None:
        """Serve until cancelled. Returning by itself (the terminal was closed) ends the whole process."""
        ...

    def interrupt(self) -> bool:
        """Ctrl-C was pressed. True when this adapter has a use for it, so that the process goes on."""
        ...

    async def stop(self) -> None:
        """Take in nothing more, then end deliveries; what is unfinished is left to the next start."""
        ...
